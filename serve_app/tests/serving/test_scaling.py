"""How many proxies there are to be, by what they tell of themselves."""

import time

import pytest
from ray.serve import config as serve_config
from ray.serve._private import autoscaling_state, common, deployment_info
from ray.serve._private import config as deployment_config

from modelset_proxy.serving import scaling
from modelset_proxy.serving.scaling import Reading

NOW = 1_000_000.0
OLD = NOW - scaling.STALE_SECONDS - 1


def now(value: float) -> list[Reading]:
    return [Reading(NOW - scaling.STALE_SECONDS, value)]


@pytest.mark.parametrize(
    ("told", "proxies", "wanted", "expected"),
    [
        pytest.param({"a": now(0)}, "a", 1, 0, id="nothing is asked: Serve's lower bound decides"),
        pytest.param({"a": now(10)}, "a", 1, 1, id="as many as one is for"),
        pytest.param({"a": now(11)}, "a", 1, 2, id="one more than one is for"),
        pytest.param({"a": now(10), "b": now(15)}, "ab", 2, 3, id="of all together"),
        pytest.param({"a": now(2), "b": now(3)}, "ab", 3, 1, id="fewer"),
        pytest.param({"a": [Reading(NOW - 9, 50), *now(2)]}, "a", 2, 1, id="the last word counts"),
        pytest.param({"a": now(2)}, "ab", 2, 2, id="not fewer while one is silent"),
        pytest.param({"a": now(2), "b": []}, "ab", 2, 2, id="nor while one has told nothing yet"),
        pytest.param({"a": now(2), "b": [Reading(OLD, 90)]}, "ab", 2, 2, id="what is old is not known"),
        pytest.param({"a": now(35)}, "ab", 2, 4, id="more although one is silent"),
        pytest.param({"a": now(2), "gone": now(90)}, "a", 1, 1, id="one that is gone does not count"),
        pytest.param({}, "", 1, 0, id="none runs yet: Serve's lower bound decides"),
    ],
)
def test_desired(told: dict[str, list[Reading]], proxies: str, wanted: int, expected: int) -> None:
    assert scaling.desired(told, proxies, target=10, now=NOW, wanted=wanted) == expected


def test_serve_asks_the_policy_with_what_proxies_have_told() -> None:
    """Serve's own state takes reports as its controller does, and finds the policy by its path."""
    deployment = common.DeploymentID("Proxy", "modelset")
    replicas = [common.ReplicaID(unique_id=name, deployment_id=deployment) for name in ("a", "b")]
    autoscaling = serve_config.AutoscalingConfig(
        min_replicas=1,
        max_replicas=3,
        target_ongoing_requests=4,
        upscale_delay_s=0,
        downscale_delay_s=0,
        policy={"policy_function": "modelset_proxy.serving.scaling:policy"},
    )
    state = autoscaling_state.DeploymentAutoscalingState(deployment)
    info = deployment_info.DeploymentInfo(
        deployment_config=deployment_config.DeploymentConfig(autoscaling_config=autoscaling),
        replica_config=None,  # type: ignore[arg-type]
        start_time_ms=0,
        deployer_job_id="",
    )
    assert state.register(info, 2) == 2
    state.update_running_replica_ids(replicas)

    def tell(replica: common.ReplicaID, value: float) -> None:
        point = common.TimeStampedValue(time.time(), value)
        state.record_request_metrics_for_replica(
            common.ReplicaMetricReport(
                replica_id=replica, timestamp=time.time(), metrics={scaling.ONGOING: [point]}
            )
        )

    assert state.get_decision_num_replicas(2) == 2
    tell(replicas[0], 2)
    assert state.get_decision_num_replicas(2) == 2
    tell(replicas[1], 1)
    assert state.get_decision_num_replicas(2) == 1
    tell(replicas[1], 100)
    assert state.get_decision_num_replicas(2) == 3
