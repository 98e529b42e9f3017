"""Runs the unit tests against mutants, as a plugin of pytest.

All tests are collected once. Each mutant is made in a fork of that process, which exchanges the code of one
function and runs the tests that come by that function until one fails.
"""

import contextlib
import functools
import gc
import os
import re
import resource
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.mutants import operators

SURVIVED, KILLED, TIMED_OUT = "survived", "killed", "timed out"

# A test that takes so much longer than it should is ended: the mutant goes round, or waits, for ever.
_LEAST_SECONDS, _TIMES_SLOWER = 5.0, 10.0
_TICK_SECONDS = 0.5
# Not noticed by tests that work so long together, is not noticed: the likeliest come first.
_ENOUGH_SECONDS = 9.0
# What a fork may need beyond what there is already.
_MORE_BYTES = 1 << 30
_FAILED, _WAITED = 9, 10
_PLAIN = (str, bytes, tuple, set, frozenset, re.Pattern)

Place = tuple[str, str, int]


class Passage(msgspec.Struct):
    """What one test came by, and the time that it took."""

    places: set[Place]
    seconds: float
    work_seconds: float
    failed: bool


Test = tuple[pytest.Item, Passage]


class Trials:
    """Tries the mutants of sources, by file, ``jobs`` at once; ``done`` is told how each went."""

    def __init__(
        self,
        sources: Mapping[Path, bytes],
        jobs: int,
        scratch: Path,
        done: Callable[[Path, operators.Mutant, str], None],
    ) -> None:
        self._sources = sources
        self._jobs = jobs
        self._scratch = scratch
        self._done = done
        self._failed = False
        self._functions: dict[Place, list[types.FunctionType]] = {}
        self._tests: list[Test] = []
        # Tests that noticed a change, by the file and the function or constant that was changed.
        self._noticed: dict[tuple[Path, str], set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in how a test went."""
        self._failed = self._failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all mutants instead of running the tests."""
        self._functions = _functions(self._sources)
        passages = self._passages(session.items)
        for item, passage in zip(session.items, passages, strict=True):
            if passage.failed:
                print(f"fails without any mutant, and is left out: {item.nodeid}", flush=True)
            else:
                self._tests.append((item, passage))
        # What is quick and about little is likeliest to say soon what is wrong.
        self._tests.sort(key=lambda test: test[1].work_seconds * len(test[1].places))
        # What is shared with all forks is not looked through, and so copied, in each of them.
        gc.freeze()
        running: dict[int, tuple[Path, operators.Mutant]] = {}
        for path, source in self._sources.items():
            for mutant in operators.mutants(source):
                if len(running) == self._jobs:
                    self._await(running)
                change, tests = self._prepared(path, mutant)
                noticed = self._noticed.get((path, mutant.place), set())
                # What noticed another change of the same function is likeliest of all.
                tests.sort(key=lambda test: test[0].nodeid not in noticed)
                running[_fork(functools.partial(self._try, change, tests))] = path, mutant
        while running:
            self._await(running)
        return True

    def _await(self, running: dict[int, tuple[Path, operators.Mutant]]) -> None:
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        verdict = SURVIVED if code == 0 else TIMED_OUT if code in (_WAITED, -signal.SIGPROF) else KILLED
        path, mutant = running.pop(pid)
        if (noticed := self._scratch / str(pid)).exists():
            self._noticed.setdefault((path, mutant.place), set()).add(noticed.read_text())
            noticed.unlink()
        self._done(path, mutant, verdict)

    # ---- which tests come by what ----

    def _passages(self, items: Sequence[pytest.Item]) -> list[Passage]:
        """Run each test once and note what it comes by; in forks, for the tests leave things behind."""
        parts = [self._scratch / str(job) for job in range(self._jobs)]
        for job, part in enumerate(parts):
            _fork(functools.partial(self._note_passages, items[job :: self._jobs], part))
        for _ in parts:
            _, status = os.wait()
            assert status == 0, "the tests did not run through"
        passages: list[Passage | None] = [None] * len(items)
        for job, part in enumerate(parts):
            passages[job :: self._jobs] = msgspec.json.decode(part.read_bytes(), type=list[Passage])
        return [passage for passage in passages if passage is not None]

    def _note_passages(self, items: Sequence[pytest.Item], part: Path) -> None:
        part.write_bytes(msgspec.json.encode([self._passage(item) for item in items]))

    def _passage(self, item: pytest.Item) -> Passage:
        seen: set[types.CodeType] = set()

        def note(frame: types.FrameType, _event: str, _: object) -> None:
            seen.add(frame.f_code)

        began, worked = time.monotonic(), time.process_time()
        # Threads that begin meanwhile do part of the work.
        threading.settrace(note)
        sys.settrace(note)
        failed = self._fails(item)
        sys.settrace(None)
        files = {str(path) for path in self._sources}
        ours = [code for code in seen if code.co_filename in files]
        return Passage(
            places=set(map(_place, ours)),
            seconds=time.monotonic() - began,
            work_seconds=time.process_time() - worked,
            failed=failed,
        )

    def _prepared(self, path: Path, mutant: operators.Mutant) -> tuple[Callable[[], None], list[Test]]:
        """Return what makes a mutant, and the tests that may notice."""
        module = compile(mutant.applied(self._sources[path]), path, "exec", dont_inherit=True)
        if not mutant.first_line:
            tests = [test for test in self._tests if any(place[0] == str(path) for place in test[1].places)]
            return functools.partial(_exchange_constant, path, mutant.place, module), tests
        place = (str(path), mutant.place, mutant.first_line)
        [code] = [code for code in _within(module) if _place(code) == place]
        tests = [test for test in self._tests if place in test[1].places]
        return functools.partial(_exchange_code, self._functions[place], code), tests

    # ---- in a fork ----

    def _try(self, change: Callable[[], None], tests: list[Test]) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MORE_BYTES, used + _MORE_BYTES))
        change()
        left, patience = _ENOUGH_SECONDS, _Patience()
        for item, passage in tests:
            # The one counts work alone, and the other also what is waited for.
            signal.setitimer(signal.ITIMER_PROF, _LEAST_SECONDS + _TIMES_SLOWER * passage.work_seconds)
            patience.left = _LEAST_SECONDS + _TIMES_SLOWER * passage.seconds
            if self._fails(item):
                (self._scratch / str(os.getpid())).write_text(item.nodeid)
                os._exit(_FAILED)
            left -= passage.work_seconds
            if left < 0:
                return

    def _fails(self, item: pytest.Item) -> bool:
        """Tell whether a test fails twice: once it may do so because the machine is busy."""
        for _ in range(2):
            self._failed = False
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            if not self._failed:
                return False
        return True


class _Patience:
    """Ends this process when nothing is ``left`` of the seconds that it may take.

    Those do not count in which it was stopped, or in which the machine had no turn for one of its threads:
    what is slow only because others are at work too does not hang.
    """

    def __init__(self) -> None:
        self.left = _LEAST_SECONDS
        self._now, self._delays = time.monotonic(), _delays()
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, _TICK_SECONDS, _TICK_SECONDS)

    def _tick(self, *_: object) -> None:
        before, self._now = self._now, time.monotonic()
        known, self._delays = self._delays, _delays()
        delayed = sum(seconds - known.get(thread, 0.0) for thread, seconds in self._delays.items())
        self.left -= max(0.0, min(self._now - before, 2 * _TICK_SECONDS) - delayed)
        if self.left < 0:
            os._exit(_WAITED)


def _delays() -> dict[str, float]:
    """Return for how many seconds each thread of this process could have gone on and had no turn."""
    found: dict[str, float] = {}
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            _, waiting, _ = (thread / "schedstat").read_text().split()
            found[thread.name] = int(waiting) / 1e9
    return found


def _exchange_code(functions: list[types.FunctionType], code: types.CodeType) -> None:
    for function in functions:
        # A method that does not call super any more closes over nothing.
        function.__code__ = code.replace(co_freevars=function.__code__.co_freevars)


def _exchange_constant(path: Path, name: str, module: types.CodeType) -> None:
    [known] = [one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == str(path)]
    changed = dict(vars(known))
    exec(module, changed)  # noqa: S102
    # Others may have been made of it; what is no plain value is not to be there twice.
    made = {other for other, value in changed.items() if isinstance(value, _PLAIN)}
    for other in {name, *made}:
        setattr(known, other, changed[other])


def _functions(sources: Mapping[Path, bytes]) -> dict[Place, list[types.FunctionType]]:
    """Return all functions of the sources that there are, however they are wrapped."""
    files = {str(path) for path in sources}
    found: dict[Place, list[types.FunctionType]] = {}
    # What every session begins with is frozen, and so would not be among the objects.
    gc.unfreeze()
    for one in gc.get_objects():
        if isinstance(one, types.FunctionType) and one.__code__.co_filename in files:
            found.setdefault(_place(one.__code__), []).append(one)
    # Or each test would end with a look through all of it, which would count as the test's work.
    gc.freeze()
    return found


def _within(code: types.CodeType) -> list[types.CodeType]:
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return [code, *(each for one in inner for each in _within(one))]


def _place(code: types.CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _fork(work: Callable[[], None]) -> int:
    """Do something in another process, in silence; it ends with 0 when that is done."""
    pid = os.fork()
    if pid:
        return pid
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        work()
        os._exit(0)
    finally:
        os._exit(_FAILED)
