"""A set that is as it should be costs the API server nothing: no write, and no read but that of watches.

The watch over the shared set begins when it has become Ready; the tests before this one look at the same set.
"""

from __future__ import annotations

import pytest

from tests.e2e.support.modelset import STEADY_SECONDS, Steady

WRITTEN = {"ollamamodelsets/assistants", "statefulsets/assistants-ollama", "rayservices/assistants"}


@pytest.mark.timeout(STEADY_SECONDS + 300)
def test_the_operator_writes_nothing_for_five_minutes(steady: Steady) -> None:
    assert steady.writes.keys() >= WRITTEN
    assert steady.later.result(timeout=STEADY_SECONDS + 60).writes == steady.writes


@pytest.mark.timeout(STEADY_SECONDS + 300)
def test_the_operator_asks_for_nothing_for_five_minutes(steady: Steady) -> None:
    asked = steady.later.result(timeout=STEADY_SECONDS + 60).asked
    assert (asked.reads, asked.writes) == (0, 0)
    # Each watch is renewed after five minutes; once an hour everything is listed anew.
    assert asked.watches > 0
    assert asked.lists <= asked.watches
