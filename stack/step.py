"""Progress of long work: one line when a step starts, one when it ends, a log file for the rest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Command = Sequence[str | Path]


class StepFailed(Exception):
    """A step ended badly; the message says what failed, why, and where its log is."""


def say(text: str) -> None:
    """Print one line for the person who waits; standard output is kept for results."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Announce `title`, run the body, say how long it took; failures are raised as they are."""
    say(f"▸ {title} …")
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"✗ {title}: failed after {time.monotonic() - started:.0f} s")
        raise
    say(f"✓ {title}: {time.monotonic() - started:.0f} s")


def run(
    command: Command,
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
) -> None:
    """Run a command with its output appended to `log`; raise StepFailed with the log's tail."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write(f"$ {' '.join(map(str, command))}\n")
        out.flush()
        status = _execute(
            command, env, cwd, None, stdin=stdin, stdout=out, stderr=subprocess.STDOUT
        ).returncode
    if status != 0:
        raise StepFailed(f"{command[0]} ended with status {status}; log: {log}\n{tail(log)}")


def output(
    command: Command,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    data: bytes = b"",
    timeout: float | None = None,
) -> str:
    """Run a command and return what it printed; raise StepFailed with its error output."""
    done = _execute(command, env, cwd, timeout, input=data, capture_output=True)
    if done.returncode != 0:
        raise StepFailed(f"{' '.join(map(str, command))}: {done.stderr.decode().strip()[-2000:]}")
    return done.stdout.decode()


def _execute(
    command: Command,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    timeout: float | None,
    **streams: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with `env` added to ours; raise StepFailed when it cannot run or takes too long."""
    environment = {**os.environ, **(env or {})}
    try:
        return subprocess.run(command, env=environment, cwd=cwd, timeout=timeout, check=False, **streams)
    except FileNotFoundError as error:
        raise StepFailed(f"{command[0]} is not installed ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{' '.join(map(str, command[:4]))} took longer than {timeout} s") from error


def succeeds(command: Command, *, timeout: float = 60) -> bool:
    """Tell whether a command exists and ends with status 0, without a word."""
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented."""
    return "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-lines:])


def main(body: Callable[[], None]) -> None:
    """Run `body()`; turn a failed step into a message and exit status 1."""
    try:
        body()
    except StepFailed as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
