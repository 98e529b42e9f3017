"""What comes of the requests of one reconcile: what is told, what is tried again, and when to look again."""

import dataclasses

import pytest

from modelset_operator import reconciler
from modelset_operator.cluster import http
from modelset_operator.engines import state
from modelset_operator.plan import decide, events, workers

from . import builders
from .worlds import World

LATER, FORBIDDEN = http.RefusedError(503, "later"), http.RefusedError(403, "forbidden")
AWAY, MISSING = http.UnreachableError("away"), http.KindMissingError("missing")


def after(seconds: float) -> http.RefusedError:
    return http.RefusedError(429, "too many", retry_after=seconds)


@pytest.mark.parametrize(
    ("errors", "refused", "failures", "retry_after"),
    [
        pytest.param([], [], [], None, id="nothing"),
        pytest.param([FORBIDDEN], ["0: forbidden"], ["0: forbidden"], None, id="what will not pass"),
        pytest.param([MISSING], ["0: missing"], ["0: missing"], None, id="no such kind"),
        pytest.param([LATER], [], ["0: later"], None, id="what may pass"),
        pytest.param([AWAY], [], ["0: away"], None, id="a server that is away"),
        pytest.param([http.RefusedError(404, "gone")], [], [], None, id="what means nothing here"),
        pytest.param([after(3.0)], [], ["0: too many"], 3.0, id="what passes after a while"),
        pytest.param(
            [after(3.0), after(5.0), after(4.0), LATER, FORBIDDEN],
            ["4: forbidden"],
            ["0: too many", "1: too many", "2: too many", "3: later", "4: forbidden"],
            5.0,
            id="the longest while counts",
        ),
        pytest.param([after(0.5)], [], ["0: too many"], 0.5, id="a short while"),
    ],
)
def test_what_is_refused_for_good_and_what_only_failed(
    errors: list[Exception], refused: list[str], failures: list[str], retry_after: float | None
) -> None:
    attempts = reconciler._Attempts()
    for number, error in enumerate(errors):
        with attempts.at(str(number), but=(404, 422)):
            raise error
    assert (attempts.refused, attempts.failures, attempts.retry_after) == (refused, failures, retry_after)
    raised = attempts.error()
    assert (str(raised), raised.retry_after) == ("; ".join(failures), retry_after)


def test_defects_are_no_failures_of_requests() -> None:
    with pytest.raises(KeyError), reconciler._Attempts().at("a"):
        raise KeyError


REMOVAL = state.Removal("assistants-ollama-0", "pod-0", "10.0.0.1", "a:1", loaded=False)


@pytest.mark.parametrize(
    ("changes", "due", "seconds"),
    [
        ({}, (), 300.0),
        ({}, (None, None), 300.0),
        ({}, (None, 7.0), 7.0),
        ({}, (400.0,), 300.0),
        ({"waits": True}, (), 5.0),
        ({"removals": (REMOVAL,)}, (), 5.0),
        ({"scalings": (workers.Scaling("c", "u", 1),)}, (60.0,), 5.0),
        ({"waits": True}, (2.0, 3.0), 2.0),
    ],
)
async def test_when_to_look_again(
    world: World, changes: dict[str, object], due: tuple[float | None, ...], seconds: float
) -> None:
    plan = decide.plan(builders.observed(builders.resource("a:1")))
    quiet = dataclasses.replace(plan, waits=False, removals=(), scalings=())
    plan = dataclasses.replace(quiet, **changes)  # type: ignore[arg-type]
    assert world.reconciler._next_look(plan, *due) == seconds


def test_what_was_deleted_is_told_once_a_model_with_its_pods() -> None:
    removed = [
        dataclasses.replace(REMOVAL, reference=reference, pod=pod)
        for reference, pod in (
            ("a:1", "assistants-ollama-0"),
            ("b:1", "assistants-ollama-0"),
            (f"{reconciler.references._ASIDE}registry/a:1", "assistants-ollama-0"),
            ("a:1", "assistants-ollama-1"),
        )
    ]
    assert reconciler._removed(removed) == [
        events.Event("Normal", "Removed", "deleted a:1 from assistants-ollama-0, assistants-ollama-1"),
        events.Event("Normal", "Removed", "deleted b:1 from assistants-ollama-0"),
    ]
