"""Claims of pods, and which are smaller than the spec says: it was raised, or an earlier set has left them.

A StatefulSet takes a claim of the right name as it is, and never changes it. Pure.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from modelset_operator.api import quantities
from modelset_operator.manifests import ollama
from modelset_operator.plan import observed as seen


@dataclasses.dataclass(frozen=True)
class Growth:
    """A claim, the very one of this uid, that is to ask for as much as `size`."""

    claim: str
    uid: str
    size: str


def growths(observed: seen.Observed) -> tuple[Growth, ...]:
    """Return the claims to make larger, but for those that the API server has refused to."""
    return tuple(
        Growth(claim["metadata"]["name"], claim["metadata"]["uid"], asked)
        for claims, asked in (_of_pools(observed), _of_cache(observed))
        for claim in _small(claims, asked)
        if not _refusal(claim, asked, observed)
    )


def too_small(observed: seen.Observed) -> str:
    """Tell which claims of Ollama pods stay smaller than asked for, why, what to do; "" when none does."""
    return _stay_small("ollama.storage.size", *_of_pools(observed), observed, "have models pulled anew")


def cache_too_small(observed: seen.Observed) -> str:
    """Tell the same of the claim of the registry cache."""
    anew = "have a larger one, which begins empty; Ollama pods keep the models that they hold"
    return _stay_small("registry.cache.size", *_of_cache(observed), observed, anew)


def claim_of(pod: seen.Pod, observed: seen.Observed) -> seen.Object | None:
    """Return the claim of a pod's volume, None where there is none."""
    claims = observed.pools.get(pod.pool, seen.PoolObjects()).claims
    return next((one for one in claims if one["metadata"]["name"] == ollama.claim(pod.name)), None)


def capacity(claim: seen.Object) -> str:
    """Return how large the volume of a claim is, "" while it has none."""
    return str(((claim.get("status") or {}).get("capacity") or {}).get("storage", ""))


def _of_pools(observed: seen.Observed) -> tuple[Sequence[seen.Object], str]:
    """Return the claims of the Ollama pods, and how large they are to be."""
    claims = [claim for pool in observed.modelset.pools for claim in observed.of(pool).claims]
    return claims, observed.modelset.ollama.storage.size


def _of_cache(observed: seen.Observed) -> tuple[Sequence[seen.Object], str]:
    """Return the claim of the registry cache, where the set has one, and how large it is to be."""
    cache = observed.modelset.cache
    return ((), "0") if cache is None else (observed.cache.claims, cache.size)


def _stay_small(
    field: str, claims: Sequence[seen.Object], asked: str, observed: seen.Observed, anew: str
) -> str:
    small = [claim for claim in _small(claims, asked) if _refusal(claim, asked, observed)]
    if not small:
        return ""
    named = ", ".join(f"{claim['metadata']['name']} ({_size(claim)})" for claim in small)
    return (
        f"smaller than spec.{field} ({asked}): {named};"
        f" these PersistentVolumeClaims cannot be made larger: {_refusal(small[0], asked, observed)};"
        f" delete them and their pods to {anew}"
    )


def _small(claims: Iterable[seen.Object], asked: str) -> Iterator[seen.Object]:
    size = quantities.parse(asked)
    for claim in claims:
        # What is asked of a claim that has no volume yet cannot be changed.
        bound = (claim.get("status") or {}).get("phase") == "Bound"
        going = claim["metadata"].get("deletionTimestamp")
        if bound and not going and quantities.parse(_size(claim)) < size:
            yield claim


def _size(claim: seen.Object) -> str:
    """Return what there is, or will be: a volume may be larger than was asked for, and on its way to more."""
    requested = claim["spec"]["resources"]["requests"]["storage"]
    return str(max(requested, capacity(claim) or "0", key=quantities.parse))


def _refusal(claim: seen.Object, size: str, observed: seen.Observed) -> str:
    """Return why a claim cannot be as large as the spec says, in the API server's words, "" while unknown."""
    refused = observed.ungrown.get(claim["metadata"]["uid"])
    return refused.reason if refused is not None and refused.size == size else ""
