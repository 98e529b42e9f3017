"""Downloads that a full disk stops: what models need beside what there is, and what to do about it. Pure.

They are tried again by themselves, and go on when there is room. But Ollama keeps what there is of downloads
that were given up, and cannot read what it could not write; it has no call to remove either.
"""

import decimal

from modelset_operator.api import quantities
from modelset_operator.engines import wording
from modelset_operator.manifests import ollama
from modelset_operator.plan import needs, placement, volumes
from modelset_operator.plan import observed as seen

# A file system keeps some of its disk for itself.
_USABLE = decimal.Decimal("0.95")


def explained(reason: str, pod: seen.Pod, observed: seen.Observed) -> str:
    """Return why a download failed: the engine's words, and what they do not say where the disk is full."""
    clean = f"kubectl exec {pod.name} -- find {ollama.MODELS}/blobs -name '*-partial*' -delete"
    if wording.cut_short(reason):
        return (
            f"{reason}: what there is of the download cannot be read, as after the disk was full;"
            f" to have it begun anew: {clean}"
        )
    if not wording.disk_full(reason):
        return reason
    needed, whole = _needed(pod, observed)
    claim = volumes.claim_of(pod, observed)
    has = (claim and volumes.capacity(claim)) or observed.modelset.ollama.storage.size
    told = f"{reason}; the pod's models need {'' if whole else 'at least '}{needs.text(needed)}"
    if needed > quantities.parse(has) * _USABLE:
        told += (
            f", and its volume has {has}: take models out, or make PersistentVolumeClaim"
            f" {ollama.claim(pod.name)} larger"
        )
        return f"{told}; then: {clean}" if wording.cut_short_since(reason) else told
    return (
        f"{told} of the {has} of its volume: others use its disk too, or there are downloads that were given"
        f" up, which go by: {clean}"
    )


def _needed(pod: seen.Pod, observed: seen.Observed) -> tuple[int, bool]:
    """Return the bytes of the models that a pod is to hold, as far as they are known, and whether all are."""
    total, whole = 0, True
    for key, model in placement.wanted_on(pod, observed).items():
        size = needs.of(model, observed).disk
        pull = observed.pull(pod, key)
        whole = whole and size is not None
        total += (pull.total if pull is not None else 0) if size is None else size
    return total, whole
