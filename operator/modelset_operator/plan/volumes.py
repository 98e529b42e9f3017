"""Volumes that are smaller than the spec says: a set that was made again has got those that were retained."""

from modelset_operator.api import quantities
from modelset_operator.plan import observed as seen


def too_small(observed: seen.Observed) -> str:
    """Tell which claims are smaller than what is asked for, and what to do; "" when none is.

    A StatefulSet takes a claim of the right name as it is, and never changes it.
    """
    asked = observed.modelset.ollama.storage.size
    sizes = [
        (claim["metadata"]["name"], _size(claim))
        for pool in observed.modelset.pools
        for claim in observed.of(pool).claims
    ]
    small = [f"{name} ({size})" for name, size in sizes if quantities.parse(size) < quantities.parse(asked)]
    if not small:
        return ""
    return (
        f"smaller than spec.ollama.storage.size ({asked}), because they were there before the set:"
        f" {', '.join(small)}; set spec.resources.requests.storage of these PersistentVolumeClaims to {asked}"
        " if their StorageClass allows expansion, or delete them and their pods to have models pulled anew"
    )


def _size(claim: seen.Object) -> str:
    """Return what there is, or will be: a volume may be larger than was asked for, and on its way to more."""
    requested = claim["spec"]["resources"]["requests"]["storage"]
    capacity = ((claim.get("status") or {}).get("capacity") or {}).get("storage", "0")
    return str(max(requested, capacity, key=quantities.parse))
