"""What is in the way of pods that do not come up: one row a state in which Kubernetes leaves a pod."""

import json
import pathlib
from typing import Any

import pytest

from modelset_operator import reconciler
from modelset_operator.cluster import kinds
from modelset_operator.plan import decide, events, models, obstacles, status
from modelset_operator.plan import observed as seen

from . import builders, test_store
from .worlds import World

POD, POOL, CLAIM = "assistants-ollama-0", "assistants-ollama", "models-assistants-ollama-0"
IMAGE = "reg.example/ollama:1"
PULLED = "failed to resolve reference: reg.example/ollama:1: not found"
# An hour before what the builders take for now, some seconds before it, and at last.
LONG_AGO, JUST_NOW = "2026-01-02T03:00:00Z", "2026-01-02T03:59:50Z"
REMAKE = f"kubectl delete pvc {CLAIM} --wait=false, then kubectl delete pod {POD}"


def container(state: dict[str, Any], last: dict[str, Any] | None = None, restarts: int = 0) -> dict[str, Any]:
    found = {"name": "ollama", "image": IMAGE, "state": state, "restartCount": restarts}
    return found | ({"lastState": {"terminated": last}} if last else {})


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}}, **more)


def ended(code: int, reason: str = "Error", seconds: int = 5, **more: Any) -> dict[str, Any]:
    finished = f"2026-01-02T03:{40 + seconds // 60:02}:{seconds % 60:02}Z"
    times = {"startedAt": "2026-01-02T03:40:00Z", "finishedAt": finished}
    return {"exitCode": code, "reason": reason, **times, **more}


def running(since: str = JUST_NOW, **more: Any) -> dict[str, Any]:
    return container({"running": {"startedAt": since}}, **more)


def has(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": list(containers)}


def begins_with(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"initContainerStatuses": list(containers), **has(waiting("PodInitializing"))}


def unscheduled(message: str, since: str = LONG_AGO) -> dict[str, Any]:
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [{**told, "lastTransitionTime": since}]}


def claim(phase: str) -> dict[str, Any]:
    resources = {"requests": {"storage": "20Gi"}}
    return {"metadata": {"name": CLAIM}, "spec": {"resources": resources}, "status": {"phase": phase}}


def look(
    status: dict[str, Any],
    phase: str = "Bound",
    resources: dict[str, Any] | None = None,
    told: dict[str, Any] | None = None,
    **fields: Any,
) -> seen.Observed:
    resource = builders.resource("a:1", ollama={"resources": resources or {}})
    resource["status"] = told or {}
    pod = seen.Pod(POD, POOL, "pod-0", status=status, **{"ip": "", **fields})
    return builders.observed(resource, pods=(pod,), pools={POOL: seen.PoolObjects(claims=(claim(phase),))})


def condition(observed: seen.Observed, kind: str) -> dict[str, Any]:
    conditions = decide.told(observed).status["conditions"]
    return next(dict(one) for one in conditions if one["type"] == kind)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        pytest.param(
            has(waiting("ErrImagePull", PULLED)),
            "ImagePullFailed",
            [f"{POD}: image {IMAGE} cannot be pulled: {PULLED}", "spec.ollama.image", "imagePullSecrets"],
            id="an image that is not there",
        ),
        pytest.param(
            has(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {PULLED}')),
            "ImagePullFailed",
            [f"{POD}: image {IMAGE} cannot be pulled: {PULLED};"],
            id="between two attempts the words are the same",
        ),
        pytest.param(
            has(waiting("ErrImagePull", "Head: read tcp 10.0.0.7:51234->1.2.3.4:443: reset")),
            "ImagePullFailed",
            ["read tcp 1.2.3.4:443: reset"],
            id="whatever port it asks from",
        ),
        pytest.param(
            has(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')),
            "ImagePullFailed",
            [f'Back-off pulling image "{IMAGE}"'],
            id="an older kubelet",
        ),
        pytest.param(
            has(container({"waiting": {"reason": "ErrImagePull"}})),
            "ImagePullFailed",
            ["cannot be pulled: ErrImagePull;"],
            id="a kubelet that says no more",
        ),
        pytest.param(
            has(waiting("InvalidImageName", "couldn't parse image reference")),
            "ImagePullFailed",
            ["couldn't parse"],
            id="no name of an image",
        ),
        *(
            pytest.param(has(waiting(reason)), "ImagePullFailed", [f"cannot be pulled: {reason};"], id=reason)
            for reason in (
                "ErrImageNeverPull",
                "ImageInspectError",
                "RegistryUnavailable",
                "SignatureValidationFailed",
            )
        ),
        pytest.param(
            begins_with(waiting("ErrImagePull", PULLED)),
            "ImagePullFailed",
            [PULLED],
            id="of an init container",
        ),
        pytest.param(
            has(waiting("CreateContainerConfigError", 'secret "keys" not found')),
            "CreateContainerConfigError",
            ['container ollama cannot be made: secret "keys" not found'],
            id="no such Secret",
        ),
        pytest.param(
            has(waiting("CreateContainerError", "name is reserved")),
            "CreateContainerError",
            ["name is reserved"],
            id="a runtime that refuses",
        ),
        pytest.param(
            has(waiting("CrashLoopBackOff", "back-off 20s restarting", last=ended(1), restarts=1)),
            "CrashLooping",
            ["container ollama ends again and again, last with exit code 1 (Error); kubectl logs --previous"],
            id="crashing",
        ),
        pytest.param(
            has(waiting("CrashLoopBackOff", last=ended(128, "StartError", message="runc:\nno such file\n"))),
            "CrashLooping",
            ["exit code 128 (StartError: no such file)"],
            id="what its last words were",
        ),
        pytest.param(
            has(waiting("CrashLoopBackOff", last={"exitCode": 3, "message": 400 * "x"})),
            "CrashLooping",
            [f"exit code 3 ({300 * 'x'});"],
            id="of long last words",
        ),
        pytest.param(
            has(waiting("CrashLoopBackOff", last={"exitCode": 3})),
            "CrashLooping",
            ["exit code 3;"],
            id="silent",
        ),
        pytest.param(
            has(waiting("CrashLoopBackOff", "back-off 20s")),
            "CrashLooping",
            ["again and again;"],
            id="unknown",
        ),
        pytest.param(
            has(waiting("RunContainerError", last=ended(128, "StartError"))),
            "CrashLooping",
            ["StartError"],
            id="not even started",
        ),
        pytest.param(
            has(running(last=ended(1), restarts=2)), "CrashLooping", ["exit code 1"], id="up once more"
        ),
        pytest.param(
            has(container({"terminated": ended(1)}, restarts=2)),
            "CrashLooping",
            ["exit code 1"],
            id="down once more",
        ),
        pytest.param(
            has(waiting("CrashLoopBackOff", last=ended(137, "OOMKilled"))),
            "OutOfMemory",
            ["had no memory left", "set spec.ollama.resources.requests.memory"],
            id="killed for memory",
        ),
        pytest.param(
            has(container({"terminated": ended(137, "OOMKilled", seconds=900)})),
            "OutOfMemory",
            [],
            id="killed for the first time",
        ),
        pytest.param(
            has(running(last=ended(137, "OOMKilled", seconds=900), restarts=1)),
            "OutOfMemory",
            [],
            id="not ready again yet",
        ),
        pytest.param(
            unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
            "Unschedulable",
            [
                "1 Insufficient cpu; look at spec.ollama.resources, and at what the nodes have",
            ],
            id="no room",
        ),
        pytest.param(
            unscheduled(
                "2 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s)."
            ),
            "Unschedulable",
            ["spec.ollama.nodeSelector, spec.ollama.affinity, spec.ollama.tolerations,"],
            id="on no node of these",
        ),
        pytest.param(
            unscheduled("1 node(s) didn't match pod topology spread constraints."),
            "Unschedulable",
            ["look at spec.ollama.topologySpreadConstraints, and"],
            id="not spread",
        ),
        pytest.param(
            unscheduled("1 node(s) didn't match pod anti-affinity rules."),
            "Unschedulable",
            ["look at spec.ollama.affinity, and"],
            id="not apart",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
            "Unschedulable",
            [f"{POD}: look at spec.ollama.resources"],
            id="a scheduler that says no more",
        ),
        pytest.param(
            unscheduled("no cpu", "2026-01-02T03:59:30Z"), "Unschedulable", [], id="no node for half a minute"
        ),
        pytest.param(
            unscheduled("1 node(s) were unschedulable."),
            "Unschedulable",
            ["spec.ollama.resources, spec.ollama.nodeSelector, spec.ollama.tolerations,"],
            id="for another reason",
        ),
        pytest.param(
            unscheduled("1 node(s) had volume node affinity conflict."),
            "Unschedulable",
            [f"PersistentVolumeClaim {CLAIM} can be reached from some nodes only", REMAKE],
            id="its volume is elsewhere",
        ),
        pytest.param(
            unscheduled("pod has unbound immediate PersistentVolumeClaims."),
            "Unschedulable",
            [f"kubectl describe pvc {CLAIM}", "spec.ollama.storage.storageClassName"],
            id="nobody makes its volume",
        ),
        pytest.param(
            unscheduled(f'persistentvolumeclaim "{CLAIM}" not found.'),
            "Unschedulable",
            [f"kubectl delete pod {POD}"],
            id="its claim was deleted",
        ),
        pytest.param(
            unscheduled("1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."),
            "VolumeLost",
            [f"the volume of PersistentVolumeClaim {CLAIM} is gone", REMAKE],
            id="its volume was deleted",
        ),
    ],
)
def test_what_somebody_has_to_act_on(status: dict[str, Any], reason: str, words: list[str]) -> None:
    observed = look(status)
    found = condition(observed, "OllamaReady")
    assert (found["status"], found["reason"]) == ("False", reason)
    for told in words:
        assert told in found["message"]
    ready = condition(observed, "Ready")
    assert (ready["reason"], ready["message"]) == (reason, found["message"])
    assert reason in obstacles.REASONS


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param({"phase": "Pending"}, "it has no address yet", id="not scheduled yet"),
        pytest.param(has(waiting("ContainerCreating")), "ContainerCreating", id="being made"),
        pytest.param(begins_with(running()), "PodInitializing", id="being initialised"),
        pytest.param(
            begins_with(container({"terminated": ended(0, "Completed")}, last=ended(1), restarts=3)),
            "PodInitializing",
            id="initialised in the end",
        ),
        pytest.param(unscheduled("no cpu", JUST_NOW), "Unschedulable: no cpu", id="no node since a moment"),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            "SchedulingGated",
            id="held back by its gates",
        ),
        pytest.param(has(running()), "no address", id="running for the first time"),
        pytest.param(
            has(running("2026-01-02T03:50:00Z", last=ended(1), restarts=9)),
            "no address",
            id="for ten minutes",
        ),
        pytest.param(has(container({"terminated": ended(1)})), "no address", id="ended for the first time"),
        pytest.param(has(running(last=ended(1), restarts=1)), "no address", id="up for the second time"),
        pytest.param(
            has(running(last=ended(1, seconds=600), restarts=9)), "no address", id="had run for long before"
        ),
        pytest.param(
            has(running(LONG_AGO, last=ended(1), restarts=9)), "no address", id="has run for long since"
        ),
        pytest.param(
            has(running(LONG_AGO, last=ended(137, "OOMKilled"), restarts=1)),
            "no address",
            id="killed long ago",
        ),
        pytest.param(
            has(running(last={"exitCode": 255, "reason": "Unknown"}, restarts=9)), "no address", id="a reboot"
        ),
        pytest.param(
            has(waiting("ContainerCreating", last=ended(137, "OOMKilled"))), "ContainerCreating", id="anew"
        ),
    ],
)
def test_a_pod_that_is_only_starting_has_not_failed(status: dict[str, Any], words: str) -> None:
    observed = look(status)
    found = condition(observed, "OllamaReady")
    assert found["reason"] == "PodsNotReady"
    assert f"{POD}: " in found["message"]
    assert words in found["message"]
    assert condition(observed, "Ready")["reason"] == "WaitingForModels"


@pytest.mark.parametrize(
    "status",
    [
        has(waiting("ErrImagePull", PULLED)),
        has(running(last=ended(137, "OOMKilled"))),
        unscheduled("no cpu"),
    ],
    ids=["image", "memory", "node"],
)
def test_what_is_over_is_not_told(status: dict[str, Any]) -> None:
    held = builders.store(a__1=builders.CHAT)
    assert condition(look(status, ready=True, store=held), "OllamaReady")["reason"] == "AllPodsReady"
    assert obstacles.ollama_pods(look(status, ready=True, store=held)) == obstacles.Obstacle()


def test_a_crash_while_ollama_answers_in_between_is_told_without_a_pause() -> None:
    between = look(has(running(last=ended(1), restarts=2)), ip="10.0.0.1", runs=True, store=builders.store())
    down = look(has(waiting("CrashLoopBackOff", "back-off 5m0s", last=ended(1), restarts=2)))
    assert condition(between, "OllamaReady")["message"] == condition(down, "OllamaReady")["message"]


def test_a_memory_limit_is_named() -> None:
    observed = look(
        has(waiting("CrashLoopBackOff", last=ended(137, "OOMKilled"))),
        resources={"limits": {"memory": "1Gi"}},
    )
    message = condition(observed, "OllamaReady")["message"]
    assert message.endswith("more memory than its limit, 1Gi; raise spec.ollama.resources.limits.memory")


def test_a_volume_that_is_elsewhere_is_nothing_to_look_for_in_the_spec() -> None:
    message = condition(look(unscheduled("1 node(s) had volume node affinity conflict.")), "OllamaReady")[
        "message"
    ]
    assert message.endswith(REMAKE)


@pytest.mark.parametrize(
    ("phase", "fields", "reason"),
    [
        ("Lost", {}, "VolumeLost"),
        ("Bound", {}, "PodsNotReady"),
        ("Pending", {}, "PodsNotReady"),
        ("Lost", {"ip": "10.0.0.1", "runs": True}, "PodsNotReady"),
        ("Lost", {"ready": True}, "AllPodsReady"),
    ],
)
def test_a_claim_that_has_lost_its_volume(phase: str, fields: dict[str, Any], reason: str) -> None:
    observed = look(has(waiting("ContainerCreating")), phase, **fields)
    found = condition(observed, "OllamaReady")
    assert found["reason"] == reason
    assert (REMAKE in found["message"]) == (reason == "VolumeLost")


def test_another_pods_claim_says_nothing() -> None:
    observed = look(has(waiting("ContainerCreating")))
    other = claim("Lost") | {"metadata": {"name": f"models-{POOL}-1"}}
    pools = {POOL: seen.PoolObjects(claims=(other,))}
    observed = builders.observed(builders.resource("a:1"), pods=observed.pods, pools=pools)
    assert condition(observed, "OllamaReady")["reason"] == "PodsNotReady"


def several(*statuses: dict[str, Any], **fields: Any) -> seen.Observed:
    pods = tuple(
        seen.Pod(f"{POOL}-{ordinal}", POOL, f"pod-{ordinal}", "", ready=not status, status=status)
        for ordinal, status in enumerate(statuses)
    )
    resource = builders.resource("a:1", ollama=fields.pop("ollama", {"replicas": len(pods)}))
    return builders.observed(resource, pods=pods, **fields)


def test_pods_with_one_trouble_are_told_together_and_before_those_that_only_start() -> None:
    trouble = has(waiting("CreateContainerConfigError", "no secret"))
    found = condition(several(has(waiting("ContainerCreating")), trouble, trouble), "OllamaReady")
    assert found["reason"] == "CreateContainerConfigError"
    assert found["message"] == (
        f"0 of 3 Ollama pods are ready; {POOL}-1, {POOL}-2: container ollama cannot be made: no secret;"
        f" {POOL}-0: ContainerCreating"
    )


def test_the_first_pod_that_is_in_trouble_gives_the_reason() -> None:
    image, crash = has(waiting("ErrImagePull", PULLED)), has(waiting("CrashLoopBackOff", last=ended(1)))
    found = condition(several(crash, image), "OllamaReady")
    assert found["reason"] == "CrashLooping"
    assert PULLED in found["message"]


def test_pods_that_demand_adds_are_explained_while_the_set_serves() -> None:
    observed = several(
        {}, unscheduled("no cpu"), ollama={"autoscaling": {"minReplicas": 1, "maxReplicas": 2}}, demanded=2
    )
    found = condition(observed, "OllamaReady")
    assert (found["status"], found["reason"]) == ("True", "Unschedulable")
    assert "no cpu" in found["message"]


def test_a_model_says_what_its_pod_waits_for() -> None:
    (model,) = decide.told(look(has(waiting("ErrImagePull", PULLED)))).status["models"]
    assert model["phase"] == "Pending"
    assert model["message"].startswith(f"{POD} does not run yet: image {IMAGE} cannot be pulled: {PULLED}")


def ray_pod(
    name: str, status: dict[str, Any], cluster: str = "assistants-abc", ready: bool = False
) -> seen.RayPod:
    return seen.RayPod(name, cluster, worker="head" not in name, ready=ready, status=status)


def proxied(
    *pods: seen.RayPod, pending: str = "", ready: str = "False", app: str = "RUNNING", told: str = ""
) -> seen.Observed:
    resource = builders.resource("a:1")
    if told:
        resource["status"] = {"conditions": [{"type": "ProxyReady", "status": told}]}
    service = builders.ray_service(builders.modelset("a:1"), app=app, ready=ready)
    service["status"]["pendingServiceStatus"] = {"rayClusterName": pending}
    held = (builders.pod(store=builders.store(a__1=builders.CHAT), ready=True),)
    rolled = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
    pool = seen.PoolObjects(
        {"metadata": {"name": POOL, "generation": 1}, "spec": {"replicas": 1}, "status": rolled}
    )
    return builders.observed(resource, ray_service=service, ray_pods=pods, pods=held, pools={POOL: pool})


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        pytest.param(
            ray_pod("head", has(waiting("ErrImagePull", PULLED))),
            "ImagePullFailed",
            [f"head: image {IMAGE} cannot be pulled: {PULLED}; set spec.proxy.image"],
            id="the head's image",
        ),
        pytest.param(
            ray_pod("worker", begins_with(waiting("ErrImagePull", PULLED))),
            "ImagePullFailed",
            ["worker: image"],
            id="a worker's, which waits for the head in it",
        ),
        pytest.param(
            ray_pod("head", unscheduled("1 Insufficient memory.")),
            "Unschedulable",
            ["spec.proxy.resources"],
            id="no room",
        ),
        pytest.param(
            ray_pod("head", unscheduled("persistentvolumeclaims")),
            "Unschedulable",
            ["spec.proxy.tolerations"],
            id="it has no claim",
        ),
        pytest.param(
            ray_pod("head", has(waiting("CrashLoopBackOff", last=ended(137, "OOMKilled")))),
            "OutOfMemory",
            ["set spec.proxy.resources.requests.memory"],
            id="no memory",
        ),
    ],
)
def test_what_is_in_the_way_of_the_proxy(pod: seen.RayPod, reason: str, words: list[str]) -> None:
    observed = proxied(pod)
    found = condition(observed, "ProxyReady")
    assert (found["status"], found["reason"]) == ("False", reason)
    for told in [*words, "the Ray cluster is starting"]:
        assert told in found["message"]
    assert condition(observed, "Ready")["reason"] == reason


STUCK = has(waiting("ErrImagePull", PULLED))


@pytest.mark.parametrize(
    ("observed", "proxy", "ready", "progressing"),
    [
        pytest.param(
            proxied(ray_pod("head", STUCK, "assistants-new"), pending="assistants-new", ready="True"),
            ("True", "ImagePullFailed"),
            ("False", "ImagePullFailed"),
            ("False", "ImagePullFailed"),
            id="a new cluster cannot take over",
        ),
        pytest.param(
            proxied(ray_pod("worker", STUCK), ready="True", app="DEPLOYING", told="True"),
            ("True", "ImagePullFailed"),
            ("False", "ImagePullFailed"),
            ("False", "ImagePullFailed"),
            id="another worker cannot join",
        ),
        pytest.param(
            proxied(ray_pod("worker", STUCK), ready="True"),
            ("True", "ImagePullFailed"),
            ("True", "Serving"),
            ("False", "Settled"),
            id="a worker that is not needed",
        ),
        pytest.param(
            proxied(ray_pod("head", STUCK, "assistants-old"), ready="True"),
            ("True", "Running"),
            ("True", "Serving"),
            ("False", "Settled"),
            id="a cluster on its way out",
        ),
        pytest.param(
            proxied(ray_pod("head", STUCK, ready=True), ready="True"),
            ("True", "Running"),
            ("True", "Serving"),
            ("False", "Settled"),
            id="a pod that is ready",
        ),
        pytest.param(
            proxied(ray_pod("head", has(waiting("ContainerCreating"))), ready="True"),
            ("True", "Running"),
            ("True", "Serving"),
            ("False", "Settled"),
            id="a pod that starts",
        ),
    ],
)
def test_a_proxy_that_serves_says_what_is_in_the_way_of_more(
    observed: seen.Observed, proxy: tuple[str, str], ready: tuple[str, str], progressing: tuple[str, str]
) -> None:
    built = status.build(observed, models.judge_all(observed), ("a:1",))
    found = {one["type"]: (one["status"], one["reason"]) for one in built["conditions"]}
    assert (found["ProxyReady"], found["Ready"], found["Progressing"]) == (proxy, ready, progressing)


def test_pods_that_have_no_cluster_yet_count() -> None:
    observed = proxied(ray_pod("head", STUCK, "assistants-new"))
    observed.ray_service["status"]["activeServiceStatus"] = {}  # type: ignore[index]
    assert condition(observed, "ProxyReady")["reason"] == "ImagePullFailed"


@pytest.mark.parametrize(
    ("status", "progressing"),
    [
        (has(waiting("ErrImagePull", PULLED)), ("True", "Creating")),
        (has(waiting("ContainerCreating")), ("True", "WaitingForModels")),
    ],
)
def test_models_that_wait_for_a_pod_in_trouble_are_no_progress(
    status: dict[str, Any], progressing: tuple[str, str]
) -> None:
    found = condition(look(status), "Progressing")
    assert (found["status"], found["reason"]) == progressing


def test_nothing_is_under_way_while_all_that_is_missing_is_in_trouble() -> None:
    observed = proxied(ray_pod("head", STUCK))
    found = condition(observed, "Progressing")
    assert (found["status"], found["reason"]) == ("False", "ImagePullFailed")


@pytest.mark.parametrize(
    ("since", "unsettled"),
    [(JUST_NOW, True), (LONG_AGO, False), ("2026-01-02T05:00:00Z", False), (None, False)],
)
def test_it_is_looked_again_soon_at_a_pod_that_has_found_no_node_just_now(
    since: str | None, unsettled: bool
) -> None:
    status = unscheduled("no cpu", since or "")
    assert decide.plan(look(status)).waits == unsettled
    assert obstacles.unsettled(proxied(ray_pod("head", status))) == unsettled
    assert (condition(look(status), "OllamaReady")["reason"] == "Unschedulable") != unsettled


@pytest.mark.parametrize("reason", sorted(obstacles.REASONS))
def test_each_reason_is_explained_to_people(reason: str) -> None:
    documented = pathlib.Path(__file__).parents[3] / "docs" / "operations.md"
    rows = [line for line in documented.read_text().splitlines() if line.startswith("|")]
    assert any(f"`{reason}`" in row.split("|")[1] for row in rows)


def test_what_has_to_be_known_of_pods_and_claims_is_kept() -> None:
    pods = test_store.Kept(kinds.POD)
    status = begins_with(waiting("ErrImagePull", PULLED)) | unscheduled("no cpu")
    status["containerStatuses"] = [waiting("CrashLoopBackOff", last=ended(137, "OOMKilled"), restarts=7)]
    pods.store.put(test_store.made(POD, 1, spec={"containers": [{}]}, status=status))
    found = pods.store.get("default", POD)
    assert found is not None
    assert found["status"] == status
    claims = test_store.Kept(kinds.VOLUME_CLAIM)
    lost = claim("Lost")
    claims.store.put(test_store.made(CLAIM, 1, spec=lost["spec"], status=lost["status"]))
    found = claims.store.get("default", CLAIM)
    assert found is not None
    assert found["status"]["phase"] == "Lost"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, ("ImagePullFailed", "x"), ["ImagePullFailed: x"]),
        (("PodsNotReady", "x"), ("ImagePullFailed", "x"), ["ImagePullFailed: x"]),
        (("ImagePullFailed", "x"), ("ImagePullFailed", "other words"), []),
        (("ImagePullFailed", "x"), ("CrashLooping", "y"), ["CrashLooping: y"]),
        (("ImagePullFailed", "x"), ("PodsNotReady", "y"), []),
    ],
)
def test_a_trouble_is_an_event_once(
    before: tuple[str, str] | None, after: tuple[str, str], told: list[str]
) -> None:
    def turned(condition: tuple[str, str] | None) -> dict[str, Any]:
        if condition is None:
            return {}
        reason, message = condition
        return {
            "models": [],
            "conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": message}],
        }

    found = events.transitions(turned(before), turned(after))
    assert [(event.type, event.message) for event in found] == [("Warning", text) for text in told]


async def test_a_set_goes_through_troubles_and_heals_by_itself(world: World) -> None:
    """Each trouble is told once, with one write however often it is looked at, and none is left behind."""
    await world.to_ready()
    healthy = json.loads(json.dumps(world.api.find("Pod", POD)["status"]))
    written = "apply OllamaModelSet/assistants/status"
    for trouble, reason in (
        (has(waiting("ErrImagePull", PULLED)), "ImagePullFailed"),
        (unscheduled("no cpu"), "Unschedulable"),
        (has(waiting("CrashLoopBackOff", "back-off 10s", last=ended(1), restarts=3)), "CrashLooping"),
    ):
        with world.api.edited("Pod", POD) as pod:
            pod["status"] = {"podIP": "", **trouble}
        await world.reconcile()
        before = world.api.writes.count(written)
        assert await world.reconcile(2) == reconciler.RESYNC_SECONDS
        ready = next(one for one in world.status["conditions"] if one["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", reason)
        assert world.api.writes.count(written) == before
    with world.api.edited("Pod", POD) as pod:
        pod["status"] = healthy
    await world.until(lambda: world.condition("Ready") == "True")
    assert not obstacles.REASONS & {one["reason"] for one in world.status["conditions"]}
    before = len(world.api.writes)
    await world.reconcile(2)
    assert len(world.api.writes) == before
