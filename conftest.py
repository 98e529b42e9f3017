"""What every test session begins with, of whichever folder."""

import gc
from collections.abc import Generator

import pytest

# By default it looks around each 700 objects, and at all of them at every hundredth look: dozens of times too
# often for tests of some milliseconds, which leave next to nothing behind.
COLLECT_EACH = (20_000, 10, 20)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector leave alone what is imported and collected, then and later: it stays anyhow.

    It is a million objects, which would be looked through time and again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(*COLLECT_EACH)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Have what was never awaited or closed be found while there is a test that can fail of it."""
    if nextitem is None:
        gc.collect()
