"""Models are kept on some of the pods: where there is room, and there they stay."""

from __future__ import annotations

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

MOVED_SECONDS = 120
BOTH = [f"placed-ollama-{ordinal}" for ordinal in range(2)]
SMOL, MINI, SMALL = "smollm2:135m", "all-minilm:latest", "all-minilm:22m-q8_0"


def _manifest(*models: Manifest, replicas: int, memory: str) -> Manifest:
    manifest = ms.manifest("placed", list(models))
    resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": memory}}
    manifest["spec"]["ollama"] |= {"replicas": replicas, "parallel": 1, "resources": resources}
    return manifest


def _listed(kube: Kube, pod: str, what: str) -> list[str]:
    lines = kube.run("exec", pod, "--", "ollama", what).splitlines()[1:]
    return sorted(line.split()[0].rpartition("/")[2] for line in lines)


def _await_listed(kube: Kube, what: str, expected: dict[str, list[str]]) -> None:
    until(
        lambda: {pod: _listed(kube, pod, what) for pod in expected},
        lambda found: found == expected,
        seconds=MOVED_SECONDS,
        what=f"`ollama {what}` on each pod",
    )


def _await_ready(placed: ms.ModelSet, model: str, replicas: str) -> Manifest:
    return until(
        lambda: placed.model(model),
        lambda told: told.get("phase") == "Ready" and told.get("readyReplicas") == replicas,
        seconds=ms.READY_SECONDS,
        what=f"{model} is ready on {replicas} pods",
    )


def test_a_model_is_kept_on_some_pods_and_moves_only_when_it_must(kube: Kube) -> None:
    chat = {**ms.CHAT, "replicas": 1, "preload": True, "contextLength": 512}
    kube.apply(_manifest(chat, ms.EMBEDDING, replicas=2, memory="1Gi"))
    placed = ms.ModelSet(kube, "placed")
    placed.await_ready()
    apart = {BOTH[0]: [MINI, SMOL], BOTH[1]: [MINI]}
    _await_listed(kube, "list", apart)
    # Preloaded, in the length that was pinned: nobody has asked for it yet.
    _await_listed(kube, "ps", {BOTH[0]: [SMOL]})
    assert " 512 " in kube.run("exec", BOTH[0], "--", "ollama", "ps")
    told = _await_ready(placed, SMOL, "1/1")
    assert told["memory"] > told["size"] > 0
    before = placed.pod_identities()

    # A pod more moves nothing.
    kube.apply(_manifest(chat, ms.EMBEDDING, replicas=3, memory="1Gi"))
    _await_ready(placed, "all-minilm", "3/3")
    _await_listed(kube, "list", apart | {"placed-ollama-2": [MINI]})
    assert before.items() <= placed.pod_identities().items()

    # Nor does a pod that is lost: it comes back to what it keeps, and has that in memory again.
    kube.run("delete", "pod", BOTH[0], "--grace-period=0", "--force")
    kube.apply(_manifest(chat, ms.EMBEDDING, replicas=2, memory="1Gi"))
    _await_ready(placed, "all-minilm", "2/2")
    _await_ready(placed, SMOL, "1/1")
    _await_listed(kube, "list", apart)
    _await_listed(kube, "ps", {BOTH[0]: [SMOL]})

    # A copy more is pulled where there is none; a copy less leaves the first.
    kube.apply(_manifest({**chat, "replicas": 2}, ms.EMBEDDING, replicas=2, memory="1Gi"))
    _await_listed(kube, "list", {pod: [MINI, SMOL] for pod in BOTH})
    kube.apply(_manifest(chat, ms.EMBEDDING, replicas=2, memory="1Gi"))
    _await_listed(kube, "list", apart)

    # One whose pod is taken away moves to a pod that stays.
    small = {**ms.SMALL_EMBEDDING, "replicas": 1}
    kube.apply(_manifest(chat, ms.EMBEDDING, small, replicas=2, memory="1Gi"))
    _await_listed(kube, "list", {BOTH[0]: [MINI, SMOL], BOTH[1]: [SMALL, MINI]})
    kube.apply(_manifest(chat, ms.EMBEDDING, small, replicas=1, memory="1Gi"))
    _await_listed(kube, "list", {BOTH[0]: [SMALL, MINI, SMOL]})
    _await_ready(placed, SMALL, "1/1")


def test_a_model_that_never_fits_is_pending_and_says_what_is_missing(kube: Kube) -> None:
    # Its weights and its cache are larger than the pod: that is known once it was pulled.
    models = ({**ms.CHAT, "replicas": 1}, ms.EMBEDDING)
    kube.apply(_manifest(*models, replicas=1, memory="100Mi"))
    placed = ms.ModelSet(kube, "placed")
    told = until(
        lambda: placed.model(SMOL),
        lambda told: "of memory" in told.get("message", ""),
        seconds=ms.READY_SECONDS,
        what="the model has no room",
    )
    assert told["phase"] == "Pending"
    assert told["message"].endswith("of memory, pods have 100Mi")
    _await_ready(placed, "all-minilm", "1/1")
