"""Work that takes long, in steps that are short: whoever has it done can let others in between."""

from collections.abc import Generator
from typing import TypeVar

Done = TypeVar("Done")
Steps = Generator[None, None, Done]


def at_once(work: Steps[Done]) -> Done:
    """Do all of some work, and return what comes of it."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            done: Done = end.value
            return done
