"""One number of sets, from an empty cluster on: until all are Ready, idle, and while some are edited."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks import container, loopback, processes
from benchmarks.operator import audit, control_plane, installed, manifests
from benchmarks.operator.api import Api, Object, connected
from benchmarks.operator.controllers import Controllers
from benchmarks.operator.ollamas import Ollamas
from stack import components, step

_SETS = "/apis/modelset.dev/v1alpha1/ollamamodelsets"
_START_SECONDS = 60.0
_READY_SECONDS = 900.0
# So many sets are created at a time.
_CREATORS = 8
# Ready sets are settled when the operator has asked for nothing for so long; it waits 20 s for drains.
_QUIET_SECONDS = 30.0
_SHORT_QUIET_SECONDS = 10.0
_EDITS = 100
_EDITS_A_SECOND = 2.0
_PROGRESS_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one number of sets took; times in seconds, memory in bytes, CPU in cores."""

    sets: int
    ready_seconds: float
    starting: audit.Counts
    idle_seconds: float
    idle: audit.Counts
    idle_cpu: float
    idle_memory: int
    most_memory: int
    edits: tuple[float, ...]
    restart: audit.Counts
    restart_memory: int


async def measure(sets: int, idle_seconds: float, plane: control_plane.ControlPlane, folder: Path) -> Figures:
    """Run the operator and so many sets."""
    ollamas = Ollamas()
    addresses = [manifests.address(number) for number in range(sets)]
    async with connected(plane) as api, ollamas.serving(addresses), asyncio.TaskGroup() as tasks:
        await installed.install(api, manifests.namespaces(sets))
        standing_in = tasks.create_task(Controllers(api, ollamas).run())
        figures = await _measure(sets, idle_seconds, api, plane, folder)
        standing_in.cancel()
    return figures


async def _measure(
    sets: int, idle_seconds: float, api: Api, plane: control_plane.ControlPlane, folder: Path
) -> Figures:
    log = plane.audit_log
    began = time.time()
    async with _operator(plane, folder) as operator:
        with step.step(f"{sets} sets: create them, until all are Ready"):
            ready_seconds = await _until_ready(api, sets)
        with step.step(f"{sets} sets: until the operator has asked for nothing for {_QUIET_SECONDS:.0f} s"):
            await _until_quiet(log, _QUIET_SECONDS)
        idle_from, cpu = time.time(), _cpu(operator)
        with step.step(f"{sets} sets: idle for {idle_seconds:.0f} s"):
            await asyncio.sleep(idle_seconds)
        idle_until = time.time()
        idle_cpu = (_cpu(operator) - cpu) / (idle_until - idle_from)
        idle_memory = processes.memory(_main(operator))
        with step.step(f"{sets} sets: {_EDITS} edits, {_EDITS_A_SECOND:.0f} a second"):
            await _edit(api, sets)
            await _until_quiet(log, _SHORT_QUIET_SECONDS)
        most_memory = processes.most_memory(_main(operator))
    restarted = time.time()
    async with _operator(plane, folder) as operator:
        with step.step(f"{sets} sets: with an operator that has just started"):
            await _until_quiet(log, _SHORT_QUIET_SECONDS)
        restart_memory = processes.most_memory(_main(operator))
    idle = _asked(log, idle_from, idle_until)
    for what in sorted({one.what for one in idle if one.verb != audit.WATCH}):
        step.say(f"  while idle: {what}, {sum(one.what == what for one in idle)} times")
    return Figures(
        sets=sets,
        ready_seconds=ready_seconds,
        starting=audit.count(_asked(log, began, idle_from)),
        idle_seconds=idle_until - idle_from,
        idle=audit.count(idle),
        idle_cpu=idle_cpu,
        idle_memory=idle_memory,
        most_memory=most_memory,
        edits=tuple(_answers(log, idle_until)),
        restart=audit.count(_asked(log, restarted, time.time())),
        restart_memory=restart_memory,
    )


def _asked(log: Path, since: float, until: float) -> list[audit.Request]:
    """Return what the operator asked in a time."""
    with log.open() as lines:
        return [
            one
            for one in audit.read(lines)
            if one.user == control_plane.OPERATOR and since <= one.answered < until
        ]


def _answers(log: Path, since: float) -> list[float]:
    """Return how long it took from each edit since then to its apply."""
    with log.open() as lines:
        edited = (one for one in audit.read(lines) if one.came >= since)
        return audit.answers(edited, control_plane.EDITOR, "rayservices")


@contextlib.asynccontextmanager
async def _operator(plane: control_plane.ControlPlane, folder: Path) -> AsyncIterator[processes.Group]:
    """Run the operator in its image, with the chart's arguments; it is ended afterwards."""
    health = f"http://127.0.0.1:{loopback.free_port()}/healthz"
    group = container.Container(
        components.ensure("operator"),
        ["python", "-m", "modelset_operator", *installed.arguments(), f"--liveness={health}"],
        env={"KUBECONFIG": str(plane.kubeconfig)},
        folder=folder,
        log=folder / "operator.log",
    )
    try:
        await asyncio.to_thread(
            group.until,
            lambda: loopback.get(health) is not None,
            seconds=_START_SECONDS,
            what="the operator is alive",
        )
        yield group
    finally:
        await asyncio.to_thread(group.stop)


async def _until_ready(api: Api, sets: int) -> float:
    """Create the sets and wait until all are Ready; return the seconds from the first to the last."""
    waiting = iter(range(sets))

    async def create() -> None:
        for number in waiting:
            namespace = manifests.namespace(number)
            path = _SETS.replace("v1alpha1/", f"v1alpha1/namespaces/{namespace}/")
            await api.create(path, manifests.model_set(number))

    began = told = time.monotonic()
    ready: set[str] = set()
    try:
        async with (
            asyncio.timeout(_READY_SECONDS),
            asyncio.TaskGroup() as tasks,
            contextlib.aclosing(api.follow(_SETS)) as following,
        ):
            for _ in range(_CREATORS):
                tasks.create_task(create())
            async for found in following:
                if _is_ready(found):
                    ready.add(found["metadata"]["name"])
                if len(ready) == sets:
                    break
                if time.monotonic() - told > _PROGRESS_SECONDS:
                    told = time.monotonic()
                    step.say(f"  {len(ready)} of {sets} are Ready after {told - began:.0f} s")
    except TimeoutError:
        # Also where the operator does nothing at all, so that nothing is heard of the sets.
        raise step.StepFailed(f"only {len(ready)} of {sets} are Ready after {_READY_SECONDS:.0f} s") from None
    return time.monotonic() - began


def _is_ready(found: Object) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def _until_quiet(log: Path, seconds: float) -> None:
    """Wait until the operator has asked for nothing for so long, but for watches and its Lease."""
    quiet_since, rest = time.monotonic(), ""
    with log.open() as lines:
        lines.seek(0, 2)
        while time.monotonic() - quiet_since < seconds:
            await asyncio.sleep(1.0)
            # The last line may not be whole yet.
            whole, _, rest = (rest + lines.read()).rpartition("\n")
            counts = audit.count(audit.read(whole.splitlines()))
            if counts.reads + counts.writes:
                quiet_since = time.monotonic()


async def _edit(api: Api, sets: int) -> None:
    """Edit sets one after another, at an even pace."""
    began = time.monotonic()
    for edit in range(_EDITS):
        await asyncio.sleep(max(0.0, began + edit / _EDITS_A_SECOND - time.monotonic()))
        edited = manifests.model_set(edit % sets, edit + 1)
        path = f"namespaces/{edited['metadata']['namespace']}/ollamamodelsets/{edited['metadata']['name']}"
        await api.merge(_SETS.replace("ollamamodelsets", path), {"spec": edited["spec"]})


def _cpu(operator: processes.Group) -> float:
    main = _main(operator)
    return next(process.cpu for process in operator.processes() if process.pid == main)


def _main(operator: processes.Group) -> int:
    """Return the operator itself; the other process is Docker's client."""
    return next(
        process.pid
        for process in operator.processes()
        if processes.command_line(process.pid).startswith("python")
    )
