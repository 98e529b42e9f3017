"""Conditions, figures and events."""

from typing import Any

import pytest

from modelset_operator.engines import state
from modelset_operator.plan import decide, events, proxy
from modelset_operator.plan import observed as seen

from . import builders

CHAT = builders.CHAT


def look(*models: str, status: dict[str, Any] | None = None, **fields: Any) -> seen.Observed:
    resource = builders.resource(*models)
    resource["status"] = status or {}
    return builders.observed(resource, **fields)


def condition(observed: seen.Observed, kind: str) -> dict[str, Any]:
    status = decide.told(observed).status
    return next(dict(entry) for entry in status["conditions"] if entry["type"] == kind)


def was(kind: str, value: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": value, "lastTransitionTime": "2020-01-01T00:00:00Z"}]}


@pytest.mark.parametrize(
    ("app", "ready", "before", "expected"),
    [
        ("RUNNING", "True", {}, (True, True, "Running")),
        ("RUNNING", "False", {}, (False, False, "Starting")),
        ("DEPLOYING", "True", {}, (False, False, "ApplicationNotRunning")),
        ("DEPLOYING", "True", was("ProxyReady", "True"), (True, False, "Reconfiguring")),
        ("DEPLOY_FAILED", "True", was("ProxyReady", "True"), (False, False, "ApplicationNotRunning")),
        ("UNHEALTHY", "True", {}, (False, False, "ApplicationNotRunning")),
    ],
)
def test_the_proxy_is_ready_when_its_application_runs(
    app: str, ready: str, before: dict[str, Any], expected: tuple[bool, bool, str]
) -> None:
    service = builders.ray_service(builders.modelset("a:1"), app=app, ready=ready)
    judged = proxy.judge(look("a:1", status=before, ray_service=service))
    assert (judged.ready, judged.settled, judged.reason) == expected


def test_the_proxy_is_not_settled_before_kuberay_has_seen_the_change() -> None:
    service = builders.ray_service(builders.modelset("a:1"))
    service["metadata"]["generation"] += 1
    judged = proxy.judge(look("a:1", ray_service=service))
    assert (judged.ready, judged.settled) == (True, False)


def test_the_proxy_is_not_settled_while_a_new_cluster_starts() -> None:
    service = builders.ray_service(builders.modelset("a:1"))
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "assistants-def"}
    judged = proxy.judge(look("a:1", ray_service=service))
    assert (judged.ready, judged.settled, judged.reason) == (True, False, "Upgrading")


def test_a_proxy_that_has_gone_is_not_called_starting() -> None:
    service = builders.ray_service(builders.modelset("a:1"), ready="False")
    service["status"]["conditions"][0] |= {"reason": "ZeroServeEndpoints", "message": "dropped to 0"}
    head = {"type": "HeadPodReady", "status": "False", "message": "unready: [ray-head]"}
    service["status"]["activeServiceStatus"]["rayClusterStatus"] = {"conditions": [head]}
    service["status"]["activeServiceStatus"]["applicationStatuses"] = {}
    judged = proxy.judge(look("a:1", ray_service=service))
    assert (judged.reason, judged.message) == (
        "NoServeEndpoints",
        "no proxy pod answers; dropped to 0; unready: [ray-head]",
    )


def test_a_ray_pod_that_does_not_run_yet_is_explained() -> None:
    service = builders.ray_service(builders.modelset("a:1"), ready="False")
    service["status"]["activeServiceStatus"] = {}
    status = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
    pod = seen.RayPod("assistants-abc-head", "assistants-abc", worker=False, ready=False, status=status)
    judged = proxy.judge(look("a:1", ray_service=service, ray_pods=(pod,)))
    told = "the Ray cluster is starting; assistants-abc-head: ContainerCreating"
    assert (judged.reason, judged.message) == ("Starting", told)


def test_the_proxy_says_why_serve_failed() -> None:
    service = builders.ray_service(builders.modelset("a:1"), app="DEPLOY_FAILED")
    applications = service["status"]["activeServiceStatus"]["applicationStatuses"]
    applications["modelset"]["message"] = (
        "Traceback:\n  File x\nImportError: no module named modelset_proxy\n"
    )
    message = condition(look("a:1", ray_service=service), "ProxyReady")["message"]
    assert (
        message == "Serve application modelset is DEPLOY_FAILED: ImportError: no module named modelset_proxy"
    )


def test_a_transition_time_stays_until_the_status_turns() -> None:
    observed = look("a:1", status=was("ModelsReady", "False"))
    assert condition(observed, "ModelsReady")["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    turned = look("a:1", status=was("ModelsReady", "True"))
    assert condition(turned, "ModelsReady")["lastTransitionTime"] == builders.NOW


def test_a_pod_that_does_not_run_yet_is_explained() -> None:
    status = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
    pod = seen.Pod("assistants-ollama-0", "assistants-ollama", "pod-0", "", status=status)
    message = condition(look("a:1", pods=(pod,)), "OllamaReady")["message"]
    assert message == "0 of 1 Ollama pods are ready; assistants-ollama-0: ContainerCreating"


def test_a_set_scaled_to_zero_is_not_ready_and_says_so() -> None:
    observed = builders.observed(builders.resource("a:1", ollama={"replicas": 0}))
    assert condition(observed, "OllamaReady")["reason"] == "ScaledToZero"
    assert decide.told(observed).status["ollamaReady"] == "0/0"


def test_what_is_known_of_a_model_outlives_its_pod() -> None:
    before = {"models": [{"name": "a:1", "phase": "Ready", "digest": "d", "size": 7, "type": "Chat"}]}
    (entry,) = decide.told(look("a:1", status=before)).status["models"]
    assert (entry["digest"], entry["size"], entry["type"], entry["phase"]) == ("d", 7, "Chat", "Pending")


def model(phase: str, message: str = "", size: int = 0) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": "a:1", "phase": phase}
    return entry | ({"message": message} if message else {}) | ({"size": size} if size else {})


OF, NEW = {"from": "b:1"}, {"digest": "d"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, model("Pending"), []),
        (model("Pending"), model("Pulling"), [("Normal", "Pulling", "pulling a:1")]),
        (model("Pulling"), model("Pulling"), []),
        (model("Pulling"), model("Loading", size=98_363_007), [("Normal", "Pulled", "pulled a:1 (98 MB)")]),
        (model("Pulling"), model("Ready", size=1_500), [("Normal", "Pulled", "pulled a:1 (2 kB)")]),
        (model("Pending"), model("Ready") | {"digest": "d"}, [("Normal", "Pulled", "pulled a:1 (0 B)")]),
        (model("Loading"), model("Ready"), []),
        (model("Pulling"), model("Failed", "no such host"), [("Warning", "PullFailed", "a:1: no such host")]),
        (model("Failed", "no such host"), model("Failed", "no such host"), []),
        (model("Failed", "x"), model("Failed", "y"), [("Warning", "PullFailed", "a:1: y")]),
        (model("Ready"), model("Loading"), []),
        (None, model("Pulling") | OF, []),
        (model("Pulling") | OF, model("Creating") | OF, []),
        (model("Creating") | OF, model("Ready") | OF, [("Normal", "Created", "created a:1 from b:1")]),
        (model("Pending") | OF, model("Ready") | OF | NEW, [("Normal", "Created", "created a:1 from b:1")]),
        (model("Ready") | OF, model("Failed", "no") | OF, [("Warning", "CreateFailed", "a:1: no")]),
    ],
)
def test_events_tell_turns(
    before: dict[str, Any] | None, after: dict[str, Any], told: list[tuple[str, str, str]]
) -> None:
    old = {"models": [before]} if before else {}
    found = events.transitions(old, {"models": [after], "conditions": []})
    assert [(event.type, event.reason, event.message) for event in found] == told


@pytest.mark.parametrize(
    ("before", "after", "reason", "told"),
    [
        ("False", "True", "Serving", ("Normal", "Ready")),
        ("True", "False", "PullingModels", ("Normal", "NotReady")),
        ("True", "False", "WaitingForModels", ("Normal", "NotReady")),
        ("True", "False", "Starting", ("Normal", "NotReady")),
        ("True", "False", "Creating", ("Normal", "NotReady")),
        ("True", "False", "ScaledToZero", ("Normal", "NotReady")),
        ("True", "False", "PodsNotReady", ("Normal", "NotReady")),
        ("True", "False", "ModelFailed", ("Warning", "NotReady")),
        ("True", "True", "Serving", None),
    ],
)
def test_readiness_events(before: str, after: str, reason: str, told: tuple[str, str] | None) -> None:
    ready = {"type": "Ready", "status": after, "reason": reason, "message": "m"}
    status = {"models": [], "conditions": [ready], "modelNames": "a", "endpoint": "http://e/v1"}
    found = events.transitions(was("Ready", before), status)
    assert [(event.type, event.reason) for event in found] == ([told] if told else [])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("write /var/lib/ollama/models/blobs/x: no space left on device", "DiskFull"),
        ("no such host", "ModelFailed"),
    ],
)
def test_a_full_disk_has_a_reason_of_its_own(message: str, reason: str) -> None:
    failed = state.Pull(state.PullPhase.FAILED, failures=1, message=message)
    pods = (builders.pod(store=builders.store(), ready=True),)
    observed = look("a:1", pods=pods, pulls={("pod-0", "a:1"): failed})
    assert condition(observed, "ModelsReady")["reason"] == reason


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, ("ApplyFailed", "theirs"), ["ApplyFailed: theirs"]),
        (("Creating", "theirs"), ("ApplyFailed", "theirs"), ["ApplyFailed: theirs"]),
        (("ApplyFailed", "theirs"), ("ApplyFailed", "theirs"), []),
        (("ApplyFailed", "theirs"), ("ApplyFailed", "another's"), ["ApplyFailed: another's"]),
        (("ApplyFailed", "theirs"), ("Creating", "theirs"), []),
    ],
)
def test_what_is_in_the_way_is_told_once_though_the_set_was_never_ready(
    before: tuple[str, str] | None, after: tuple[str, str], told: list[str]
) -> None:
    def status(condition: tuple[str, str] | None) -> dict[str, Any]:
        if condition is None:
            return {}
        reason, message = condition
        ready = {"type": "Ready", "status": "False", "reason": reason, "message": message}
        return {"models": [], "conditions": [ready]}

    found = events.transitions(status(before), status(after))
    assert [(event.type, event.message) for event in found] == [("Warning", text) for text in told]
