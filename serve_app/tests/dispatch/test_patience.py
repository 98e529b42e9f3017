"""How long a request still waits."""

import pytest

from modelset_proxy.dispatch import patience

SPANS = {"wake_seconds": 300.0, "queue_seconds": 60.0}


@pytest.mark.parametrize(
    ("turns", "due"),
    [
        ([(0.0, False)], 60.0),
        ([(0.0, True)], 300.0),
        ([(0.0, True), (100.0, False)], 160.0),
        ([(0.0, False), (50.0, True)], 350.0),
        ([(0.0, True), (100.0, False), (130.0, True)], 330.0),
        ([(0.0, True), (100.0, False), (130.0, True), (140.0, False)], 170.0),
        ([(0.0, False), (10.0, False), (20.0, False)], 60.0),
    ],
)
def test_each_span_runs_while_it_is_what_is_waited_for(turns: list[tuple[float, bool]], due: float) -> None:
    (began, stranded), *more = turns
    waiting = patience.Patience(began, stranded=stranded)
    for at, stranded_now in more:
        waiting.note(at, stranded=stranded_now)
    assert waiting.stranded is turns[-1][1]
    assert waiting.due(**SPANS) == due


def test_who_is_not_to_be_sent_away_waits_for_a_turn_for_ever_and_for_a_server_not() -> None:
    waiting = patience.Patience(5.0, stranded=False)
    assert waiting.due(wake_seconds=300.0, queue_seconds=None) is None
    waiting.note(7.0, stranded=True)
    assert waiting.due(wake_seconds=300.0, queue_seconds=None) == 307.0
