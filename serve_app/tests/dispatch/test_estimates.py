"""What is learnt from how things went."""

import pytest

from modelset_proxy.dispatch import estimates


def test_the_first_measure_replaces_the_guess_and_later_ones_count_a_fifth() -> None:
    mean = estimates.Mean(5.0)
    mean.learn(10.0)
    assert mean.value == 10.0
    mean.learn(20.0)
    assert mean.value == pytest.approx(12.0)


def test_a_rate_is_of_the_last_minutes() -> None:
    rate = estimates.Rate()
    for second in range(1000):
        rate.arrive(float(second))
    assert rate.a_second(999.0) == pytest.approx(1 - 2.718**-1.667, abs=0.01)
    assert rate.a_second(999.0 + 600.0) == pytest.approx(rate.a_second(999.0) / 2.71828, rel=0.001)


def test_a_server_that_was_measured_is_known_by_its_own_loads_others_by_all() -> None:
    model = estimates.Model()
    model.learn_load("s1", 2.0)
    model.learn_load("s2", 12.0)
    assert model.load_seconds("s1") == 2.0
    assert model.load_seconds("s2") == 12.0
    assert model.load_seconds("s3") == pytest.approx(4.0)
    model.forget("s2")
    assert model.load_seconds("s2") == pytest.approx(4.0)


def test_short_prompts_tell_nothing_of_the_speed() -> None:
    model = estimates.Model()
    model.learn_prompt(1000, 2.0)
    model.learn_prompt(10, 9.0)
    model.learn_prompt(1000, 0.0)
    assert model.prompt_seconds(500) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tokens", "seconds", "counts"), [(16, 0.5, True), (15, 0.5, False), (16, 0.0, False)]
)
def test_a_prompt_counts_from_a_certain_length_on(tokens: int, seconds: float, counts: bool) -> None:
    model = estimates.Model()
    before = model.prompt_seconds(32)
    model.learn_prompt(tokens, seconds)
    assert model.prompt_seconds(32) == (1.0 if counts else before)
