"""What becomes of a RayService's status: whether the proxy answers, by what it should, and why not."""

from typing import Any

import pytest

from modelset_operator.plan import observed as seen
from modelset_operator.plan import proxy

from . import builders

IS_READY = {"type": "Ready", "status": "True"}
RUNNING = {"modelset": {"status": "RUNNING"}}
STARTING = "the Ray cluster is starting"


def status(
    *conditions: dict[str, Any], active: Any = None, pending: Any = None, seen_generation: int = 3
) -> Any:
    """Return a status: what is told, and the Serve applications of the active and of the pending cluster."""
    found: dict[str, Any] = {"conditions": list(conditions), "observedGeneration": seen_generation}
    if active is not None:
        found["activeServiceStatus"] = {"rayClusterName": "one", "applicationStatuses": active}
    if pending is not None:
        found["pendingServiceStatus"] = {"rayClusterName": "two", "applicationStatuses": pending}
    return found


def app(status: str | None, message: str | None = None) -> dict[str, str]:
    given = {"status": status, "message": message}
    return {key: value for key, value in given.items() if value is not None}


NOT_RUNNING = "ApplicationNotRunning"
OTHER = "Serve application modelset is"


@pytest.mark.parametrize(
    ("told", "judged"),
    [
        pytest.param({}, (False, False, "Starting", STARTING), id="nothing is known"),
        pytest.param(status(IS_READY), (False, False, "Starting", STARTING), id="no cluster"),
        pytest.param(
            status(IS_READY, active=None, pending=RUNNING),
            (False, False, "Starting", STARTING),
            id="the first",
        ),
        pytest.param(
            status(IS_READY, active={}), (False, False, "Starting", STARTING), id="no application is deployed"
        ),
        pytest.param(
            status({"type": "Ready", "status": "False", "message": "no head"}, active=RUNNING),
            (False, False, "Starting", f"{STARTING}; no head"),
            id="no endpoint yet",
        ),
        pytest.param(
            status({"type": "Ready", "reason": "ZeroServeEndpoints"}, active=RUNNING),
            (False, False, "NoServeEndpoints", "no proxy pod answers"),
            id="no endpoint any more",
        ),
        pytest.param(
            status(IS_READY | {"status": "False"}, active={"modelset": app("DEPLOYING")}),
            (False, False, "Starting", f"{OTHER} DEPLOYING"),
            id="Serve says more than KubeRay",
        ),
        pytest.param(
            status(
                {}, active={"modelset": app("UNHEALTHY")}, pending={"modelset": app("DEPLOY_FAILED", "no")}
            ),
            (False, False, "Starting", f"{OTHER} DEPLOY_FAILED: no"),
            id="and what is to take over most",
        ),
        pytest.param(
            status({}, active={"modelset": app("UNHEALTHY")}, pending=RUNNING),
            (False, False, "Starting", f"{OTHER} UNHEALTHY"),
            id="unless that runs",
        ),
        pytest.param(
            status(IS_READY, active=RUNNING), (True, True, "Running", "the proxy is running"), id="it runs"
        ),
        pytest.param(
            status(IS_READY, active={"modelset": app(None)}),
            (False, False, NOT_RUNNING, f"{OTHER} unknown"),
            id="Serve does not say how its application is",
        ),
        pytest.param(
            status(
                IS_READY, active={"modelset": app("DEPLOY_FAILED", "Traceback\n  line 1\n  no module \n \n")}
            ),
            (False, False, NOT_RUNNING, f"{OTHER} DEPLOY_FAILED: no module"),
            id="the last line of a traceback tells",
        ),
        pytest.param(
            status(IS_READY, active={"modelset": app("DEPLOY_FAILED", 301 * "x")}),
            (False, False, NOT_RUNNING, f"{OTHER} DEPLOY_FAILED: {300 * 'x'}"),
            id="if it is not too long",
        ),
        pytest.param(
            status(
                IS_READY, active={"z": app("UNHEALTHY"), "b": app("RUNNING"), "a": app("DELETING", "bye")}
            ),
            (
                False,
                False,
                NOT_RUNNING,
                "Serve application a is DELETING: bye; Serve application z is UNHEALTHY",
            ),
            id="several applications",
        ),
        pytest.param(
            status(IS_READY, active=RUNNING, pending={}),
            (True, False, "Upgrading", "a new Ray cluster is starting; the old one serves until it is ready"),
            id="another cluster is to take over",
        ),
        pytest.param(
            status(IS_READY, active=RUNNING, seen_generation=2),
            (True, False, "Reconfiguring", "the proxy is taking over a new configuration while it serves"),
            id="KubeRay has not seen the last change",
        ),
        pytest.param(
            status(IS_READY, active=RUNNING, seen_generation=4),
            (True, True, "Running", "the proxy is running"),
            id="KubeRay is ahead of what is known",
        ),
    ],
)
def test_what_a_status_means(told: dict[str, Any], judged: tuple[bool, bool, str, str]) -> None:
    service = {"metadata": {"name": "assistants", "generation": 3}, "status": told}
    assert _judged(service) == proxy.Proxy(*judged)


def _judged(service: seen.Object | None, **fields: Any) -> proxy.Proxy:
    return proxy.judge(builders.observed(builders.resource("a:1"), ray_service=service, **fields))


def test_what_was_not_seen_of_a_generation_is_not_the_present_one() -> None:
    told = status(IS_READY, active=RUNNING)
    del told["observedGeneration"]
    assert _judged({"metadata": {"generation": 1}, "status": told}).settled is False
    assert _judged({"metadata": {}, "status": told}).settled is True


def test_without_a_ray_service_there_is_no_proxy() -> None:
    assert _judged(None) == proxy.Proxy(False, False, "Creating", "the RayService has not been created yet")
    missing = _judged(None, kuberay_installed=False)
    assert (missing.ready, missing.settled, missing.reason) == (False, False, "KubeRayMissing")
    assert _judged({"metadata": {}}).reason == "Starting"
