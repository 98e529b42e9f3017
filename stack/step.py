"""Progress of long work: one line when a step starts, one when it ends, a log file for the rest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

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
    timeout: float | None = None,
) -> None:
    """Run a command with its output appended to `log`; raise StepFailed with the log's tail."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write(f"$ {' '.join(map(str, command))}\n")
        out.flush()
        try:
            done = subprocess.run(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=stdin,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError as error:
            raise StepFailed(f"{command[0]} is not installed ({error})") from error
        except subprocess.TimeoutExpired as error:
            raise StepFailed(f"{command[0]} took longer than {timeout:.0f} s; log: {log}") from error
    if done.returncode != 0:
        raise StepFailed(f"{command[0]} ended with status {done.returncode}; log: {log}\n{tail(log)}")


def output(
    command: Command,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    data: bytes | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command and return what it printed; raise StepFailed with its error output."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            input=data if data is not None else b"",
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise StepFailed(f"{command[0]} is not installed ({error})") from error
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{' '.join(map(str, command[:4]))} took longer than {timeout} s") from error
    if done.returncode != 0:
        raise StepFailed(f"{' '.join(map(str, command))}: {done.stderr.decode().strip()[-2000:]}")
    return done.stdout.decode()


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
