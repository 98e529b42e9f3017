"""How many Ollama pods demand calls for: tables and stories on a clock of their own."""

import dataclasses

import pytest

from modelset_operator.api import spec
from modelset_operator.demand import feed
from modelset_operator.plan import autoscaling

POLICY = spec.Autoscaling(min_replicas=0, max_replicas=4, target_in_flight=4, idle_seconds=900.0)
QUICK = dataclasses.replace(POLICY, idle_seconds=60.0)
IDLE = feed.Asked(0, 0, 10_000.0)


def busy(in_flight: int, queued: int = 0) -> feed.Asked:
    return feed.Asked(in_flight, queued, 0.0)


class Story:
    """Decisions one after another, from so many pods at second 0 on."""

    def __init__(self, replicas: int, policy: spec.Autoscaling = POLICY) -> None:
        self.policy = policy
        self.state = autoscaling.State.begin(replicas)

    def at(self, now: float, asked: feed.Asked | None, floor: int = 0) -> int:
        self.state = autoscaling.decide(self.policy, self.state, asked, now, floor)
        return self.state.replicas

    def due(self, now: float) -> float | None:
        return autoscaling.due(self.policy, self.state, now)


@pytest.mark.parametrize(
    ("in_flight", "queued", "replicas"),
    [(1, 0, 1), (4, 0, 1), (5, 0, 2), (4, 1, 2), (0, 1, 1), (0, 9, 3), (16, 0, 4), (16, 1000, 4)],
)
def test_pods_are_as_many_as_have_target_in_flight_requests_each_at_once(
    in_flight: int, queued: int, replicas: int
) -> None:
    assert Story(0).at(0.0, busy(in_flight, queued)) == replicas


@pytest.mark.parametrize(("least", "most", "asked", "replicas"), [(2, 4, IDLE, 2), (1, 2, busy(400), 2)])
def test_pods_stay_within_the_bounds(least: int, most: int, asked: feed.Asked, replicas: int) -> None:
    policy = dataclasses.replace(POLICY, min_replicas=least, max_replicas=most)
    story = Story(2, policy)
    story.at(0.0, asked)
    assert story.at(100_000.0, asked) == replicas


def test_pods_beyond_the_first_go_when_not_needed_for_three_minutes() -> None:
    story = Story(1)
    assert story.at(0.0, busy(12)) == 3
    assert story.at(10.0, busy(2)) == 3
    assert story.at(189.9, busy(2)) == 3
    assert story.at(190.0, busy(2)) == 1


def test_a_short_idle_time_is_the_bound_for_all_pods() -> None:
    story = Story(1, QUICK)
    story.at(0.0, busy(12))
    assert story.at(10.0, busy(2)) == 3
    assert story.at(70.0, busy(2)) == 1


def test_pods_go_to_the_highest_need_of_the_three_minutes_not_to_the_last() -> None:
    story = Story(1)
    story.at(0.0, busy(16))
    story.at(10.0, busy(9))
    story.at(20.0, busy(1))
    assert story.at(191.0, busy(1)) == 3
    assert story.at(201.0, busy(1)) == 1


def test_a_need_that_comes_again_keeps_its_pods() -> None:
    story = Story(1)
    for minute in range(0, 60, 3):
        assert story.at(minute * 60.0, busy(12)) == 3
        assert story.at(minute * 60.0 + 30.0, busy(1)) == 3


def test_the_last_pod_goes_when_nobody_has_asked_for_the_idle_time() -> None:
    story = Story(0)
    assert story.at(0.0, busy(1)) == 1
    assert story.at(5.0, feed.Asked(0, 0, 0.0)) == 1
    assert story.at(904.9, feed.Asked(0, 0, 899.9)) == 1
    assert story.at(905.0, feed.Asked(0, 0, 900.0)) == 0


def test_a_request_too_short_to_be_seen_keeps_the_last_pod() -> None:
    story = Story(0)
    story.at(0.0, busy(1))
    story.at(5.0, feed.Asked(0, 0, 0.0))
    assert story.at(1000.0, feed.Asked(0, 0, 100.0)) == 1


def test_what_is_needed_for_something_else_is_there_and_counts_as_use() -> None:
    story = Story(0)
    assert story.at(0.0, IDLE, floor=1) == 1
    assert story.at(5000.0, IDLE, floor=1) == 1
    assert story.at(5001.0, IDLE) == 1
    assert story.at(5900.0, IDLE) == 1
    assert story.at(5901.0, IDLE) == 0


def test_a_set_at_zero_stays_there_while_nobody_asks() -> None:
    story = Story(0)
    assert story.at(0.0, IDLE) == 0
    assert story.at(10_000.0, None) == 0


def test_what_is_not_known_scales_nothing_down() -> None:
    story = Story(3, QUICK)
    for second in range(0, 6000, 300):
        assert story.at(float(second), None) == 3
    assert story.at(6000.0, IDLE) == 3
    assert story.at(6060.0, IDLE) == 0


def test_an_operator_that_has_just_started_scales_nothing_down() -> None:
    story = Story(3)
    assert story.at(0.0, busy(1)) == 3
    assert story.at(179.0, busy(1)) == 3
    assert story.at(180.0, busy(1)) == 1


def test_a_decision_is_due_when_the_first_of_what_keeps_pods_ends() -> None:
    story = Story(1)
    story.at(0.0, busy(16))
    story.at(10.0, busy(9))
    story.at(20.0, busy(1))
    assert story.due(20.0) == 170.0
    assert story.at(190.0, busy(1)) == 3
    assert story.due(190.0) == 10.0
    assert story.at(200.0, busy(1)) == 1
    assert story.due(200.0) is None


def test_a_decision_is_due_when_the_idle_time_ends() -> None:
    story = Story(0)
    story.at(0.0, busy(1))
    story.at(5.0, feed.Asked(0, 0, 0.0))
    story.at(400.0, feed.Asked(0, 0, 100.0))
    assert story.due(400.0) == 505.0
    story.at(905.0, feed.Asked(0, 0, 605.0))
    assert story.due(905.0) == 295.0
    assert story.at(1200.0, feed.Asked(0, 0, 900.0)) == 0
    assert story.due(1200.0) is None


def test_no_decision_is_due_at_the_least_number_of_pods() -> None:
    story = Story(1, dataclasses.replace(POLICY, min_replicas=1))
    story.at(0.0, feed.Asked(0, 0, 5.0))
    assert story.due(0.0) is None


@pytest.mark.parametrize("began", [0.1, 1e6 + 0.3, 3.7e8 / 3])
def test_what_was_due_is_decided_whatever_the_clock_says(began: float) -> None:
    story = Story(0, QUICK)
    story.at(began, busy(1))
    story.at(began + 0.7, feed.Asked(0, 0, 0.0))
    now = began + 0.7
    for _ in range(3):
        left = story.due(now)
        if left is None:
            break
        now += left
        story.at(now, feed.Asked(0, 0, now - began - 0.7))
    assert story.state.replicas == 0


def test_little_is_remembered_however_long_demand_goes_up_and_down() -> None:
    story = Story(1)
    for second in range(5000):
        story.at(float(second), busy(second * 7 % 17))
        assert len(story.state.needed) <= POLICY.max_replicas
