"""A contender's processes: started, watched through /proc, and ended, all by id and never by name.

Every process started here carries a mark in its environment that its descendants inherit, so a program that
detaches itself is still found. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

# What the environment of all processes of a group has in common, with a value of their own.
MARK = "MODELSET_BENCHMARK"
_TICK = os.sysconf("SC_CLK_TCK")
_GRACE_SECONDS = 30.0


class NotStartedError(Exception):
    """A contender ended early or did not answer in time; the message holds the end of its log."""


@dataclasses.dataclass(frozen=True)
class Process:
    """One running process; ``started`` is in clock ticks after boot and tells a reused id apart."""

    pid: int
    parent: int
    started: int
    cpu: float


class Group:
    """A program and all of its descendants."""

    def __init__(
        self, command: Sequence[str | Path], *, env: Mapping[str, str], log: Path, cwd: Path | None = None
    ) -> None:
        self._mark = f"{MARK}={uuid.uuid4().hex}".encode()
        self._known: set[tuple[int, int]] = set()
        name, _, value = self._mark.decode().partition("=")
        self.log = log
        with log.open("w") as out:
            self._main = subprocess.Popen(
                command,
                env={**env, name: value},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                # A run in the background may have been told to ignore what ends it here.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait for a condition, and no longer once the program has ended; raises NotStartedError."""
        deadline = time.monotonic() + seconds
        while not condition():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._main.wait(timeout=0.05)
                if condition():
                    return
                raise NotStartedError(f"{what}: the program ended\n{self._tail()}")
            if time.monotonic() > deadline:
                raise NotStartedError(f"{what}: not within {seconds:.0f} s\n{self._tail()}")

    def processes(self) -> list[Process]:
        """List the processes that run now."""
        everything = {process.pid: process for process in running()}
        members = {
            process.pid
            for process in everything.values()
            if process.pid == self._main.pid
            or (process.pid, process.started) in self._known
            or self._mark in _read(process.pid, "environ").split(b"\0")
        }
        # A process that rewrote its title has lost its environment there, but not its parent.
        growing = True
        while growing:
            more = {p.pid for p in everything.values() if p.parent in members} - members
            members |= more
            growing = bool(more)
        found = [everything[pid] for pid in sorted(members)]
        self._known |= {(process.pid, process.started) for process in found}
        return found

    def stop(self) -> None:
        """End the program as a user would, then whatever it left behind."""
        self.processes()
        try:
            if self._main.poll() is None:
                self._main.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._main.wait(timeout=_GRACE_SECONDS)
        finally:
            # Also when the wait is interrupted: what is left would take the cores from all that follows.
            for number in (signal.SIGTERM, signal.SIGKILL):
                _end([process.pid for process in self.processes()], number)
            self._main.wait()

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def command_line(pid: int) -> str:
    """Return what a process was started with, or calls itself; empty when it is gone."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def memory(pid: int) -> int:
    """Return a process's bytes of memory, with shared pages divided among those that share them."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def most_memory(pid: int) -> int:
    """Return the most bytes of memory that a process has had, with all of the pages that it shares."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def machine_cpu() -> float:
    """Return the seconds that all processors have been busy since boot."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
    return (user + nice + system + irq + softirq) / _TICK


def running() -> Iterator[Process]:
    """Yield all processes of this machine, those in containers too."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        # The name, in parentheses, may hold anything; the fields after it do not.
        fields = _read(int(folder.name), "stat").rpartition(b")")[2].split()
        if fields and fields[0] != b"Z":
            cpu = (int(fields[11]) + int(fields[12])) / _TICK
            yield Process(int(folder.name), int(fields[1]), int(fields[19]), cpu)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _end(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes and wait until they are gone, for a while."""
    waiting: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            waiting[handle] = pid
            signal.pidfd_send_signal(handle, number)
    poll = select.poll()
    for handle in waiting:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + _GRACE_SECONDS / 3
    gone: set[int] = set()
    while len(gone) < len(waiting) and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            gone.add(handle)
            poll.unregister(handle)
    for handle in waiting:
        os.close(handle)
