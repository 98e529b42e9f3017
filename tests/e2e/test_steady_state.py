"""A set that is as it should be costs the API server no write.

The tests before this one look at the same set; the watch over it began when it had become Ready.
"""

from __future__ import annotations

import time

import pytest

from tests.e2e.support import writes
from tests.e2e.support.modelset import ModelSet, Steady
from tests.e2e.support.waiting import until

STEADY_SECONDS = 300
WRITTEN = {"ollamamodelsets/assistants", "statefulsets/assistants-ollama", "rayservices/assistants"}


@pytest.mark.timeout(STEADY_SECONDS + 300)
def test_the_operator_writes_nothing_for_five_minutes(assistants: ModelSet, steady: Steady) -> None:
    assert steady.writes.keys() >= WRITTEN
    until(
        lambda: (writes.of_operator(assistants.kube), time.monotonic() - steady.since),
        lambda seen: seen[0] != steady.writes or seen[1] >= STEADY_SECONDS,
        seconds=STEADY_SECONDS + 60,
        what="five minutes pass",
    )
    assert writes.of_operator(assistants.kube) == steady.writes
