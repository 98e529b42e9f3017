"""A terminal keeps what is exported, and ends what it has left running."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack.step import StepFailed
from tests.install import terminal

PROGRAMS = {"shell": Path("/bin/sh")}


def test_what_is_exported_holds_for_later_commands() -> None:
    with terminal.opened(PROGRAMS, {"GIVEN": "a"}) as typing:
        assert typing.run("export SAID=b.example:5/c        # what for") == ""
        assert typing.run("shell -c 'echo $GIVEN $SAID'   # of its own") == "a b.example:5/c\n"


def test_what_runs_on_has_begun_and_ends_with_the_terminal() -> None:
    with terminal.opened(PROGRAMS, {}) as typing:
        process = int(typing.run("shell -c 'echo $$; exec sleep 1000' &"))
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("command", ["echo sorry >&2; false", "false | cat; echo sorry >&2", "$UNKNOWN"])
def test_a_command_that_fails_is_an_error(command: str) -> None:
    with terminal.opened(PROGRAMS, {}) as typing, pytest.raises(StepFailed, match=r"sorry|UNKNOWN"):
        typing.run(command)


def test_what_ends_without_having_begun_is_an_error() -> None:
    with terminal.opened(PROGRAMS, {}) as typing, pytest.raises(StepFailed, match="status 3"):
        typing.run("shell -c 'exit 3' &")
