"""Downloads that a full disk stops: what is told of them, and that they go on when there is room."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modelset_operator.api import sources
from modelset_operator.engines import port, pulls, state, wording
from modelset_operator.plan import decide, disk, models
from modelset_operator.plan import observed as seen

from . import builders

POD, POOL = "assistants-ollama-0", "assistants-ollama"
FULL = "write /var/lib/ollama/models/blobs/sha256-aa-partial: no space left on device"
FAILED, RUNNING = state.PullPhase.FAILED, state.PullPhase.RUNNING
GIB = 2**30
CLEAN = f"kubectl exec {POD} -- find /var/lib/ollama/models/blobs -name '*-partial*' -delete"


def look(
    message: str, total: int = 0, held: int = 0, storage: str = "20Gi", capacity: str = "", **pull: Any
) -> seen.Observed:
    """Return a pod that holds one model of so many bytes and fails to fetch another one."""
    kept = {"b:1": state.Held("d", held, builders.facts(builders.CHAT))} if held else {}
    pods = (builders.pod(store=state.Store(kept, {key: key for key in kept}), ready=True),)
    fields = {"phase": FAILED, "failures": 1, "message": message, "total": total} | pull
    claim = {
        "metadata": {"name": f"models-{POD}"},
        "spec": {"resources": {"requests": {"storage": storage}}},
        "status": {"capacity": {"storage": capacity}},
    }
    return builders.observed(
        builders.resource("a:1", *(["b:1"] if held else []), ollama={"storage": {"size": storage}}),
        pods=pods,
        pulls={("pod-0", "a:1"): state.Pull(**fields)},
        pools={POOL: seen.PoolObjects(claims=(claim,) if capacity else ())},
    )


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        pytest.param(
            look(FULL, 5 * GIB, 18 * GIB),
            [
                f"{POD}: {FULL}; the pod's models need at least 23.0Gi, and its volume has 20Gi:"
                f" take models out, or make PersistentVolumeClaim models-{POD} larger"
            ],
            id="the models are too large",
        ),
        pytest.param(look(FULL, 5 * GIB, storage="1G"), ["5.0Gi, and its volume has 1G:"], id="one model is"),
        pytest.param(look(FULL, 1 * GIB, storage="1050Mi"), ["its volume has 1050Mi:"], id="just as large"),
        pytest.param(
            look(FULL, 25 * GIB, capacity="30Gi"), ["at least 25.0Gi of the 30Gi"], id="a volume made larger"
        ),
        pytest.param(
            look(FULL, 5 * GIB, 1 * GIB),
            ["need at least 6.0Gi of the 20Gi of its volume: others use its disk too", CLEAN],
            id="something else is there",
        ),
        pytest.param(look(FULL, 95, storage="100"), ["need at least 95 of the 100"], id="just small enough"),
        pytest.param(look(FULL), ["need at least 0 of the 20Gi"], id="not even its size came"),
        pytest.param(look("x: disk quota exceeded"), ["quota exceeded; the pod's models need"], id="a quota"),
        pytest.param(
            look(f"EOF, since {FULL}", 25 * GIB),
            ["no space left on device; the pod's models", "; then: " + CLEAN],
            id="too large, and cut short",
        ),
    ],
)
def test_a_full_disk_is_told_with_what_is_needed(observed: seen.Observed, words: list[str]) -> None:
    told = decide.told(observed).status
    model = next(one for one in told["models"] if one["name"] == "a:1")
    condition = next(one for one in told["conditions"] if one["type"] == "ModelsReady")
    assert (model["phase"], condition["reason"]) == ("Failed", "DiskFull")
    for text in words:
        assert text in model["message"]
        assert text in condition["message"]


def test_what_all_models_need_is_known_when_they_were_held_before() -> None:
    observed = look(FULL, held=18 * GIB, storage="40Gi", capacity="20Gi")
    known = {"name": "a:1", "size": 5 * GIB}
    observed.resource["status"] = {"models": [known]}  # type: ignore[index]
    (pod,) = observed.pods
    assert "need 23.0Gi, and" in disk.explained(FULL, pod, observed)


def test_of_a_model_that_nobody_began_to_fetch_nothing_is_known() -> None:
    failing = look(FULL)
    observed = builders.observed(builders.resource("a:1", "c:1"), pods=failing.pods, pulls=failing.pulls)
    assert "need at least 0 of" in disk.explained(FULL, failing.pods[0], observed)


@pytest.mark.parametrize(("message", "told"), [("EOF", True), ("unexpected EOF", True), ("no EOF", False)])
def test_a_download_that_cannot_be_read_again_is_explained(message: str, told: bool) -> None:
    observed = look(message)
    (judged,) = models.judge_all(observed)
    assert judged.message.startswith(f"{POD}: {message}")
    assert (CLEAN in judged.message) == told
    conditions = decide.told(observed).status["conditions"]
    assert next(one for one in conditions if one["type"] == "ModelsReady")["reason"] == "ModelFailed"


@pytest.mark.parametrize(
    ("text", "before", "told"),
    [
        ("EOF", FULL, f"EOF, since {FULL}"),
        ("EOF", f"EOF, since {FULL}", f"EOF, since {FULL}"),
        ("EOF", "no such host", "EOF"),
        ("EOF", "", "EOF"),
        ("no such host", FULL, "no such host"),
        (FULL, f"EOF, since {FULL}", FULL),
    ],
)
def test_an_error_that_follows_from_a_full_disk(text: str, before: str, told: str) -> None:
    assert wording.following(text, before) == told


class Disk:
    """An engine whose disk holds so much of a model of 1000 bytes."""

    def __init__(self) -> None:
        self.room = 600
        self.error = FULL
        self.reported = asyncio.Event()
        self.proceed = asyncio.Event()

    async def ensure(
        self, address: str, reference: str, source: sources.Source, *, again: bool = False
    ) -> AsyncIterator[port.Progress]:
        for completed in range(100, min(self.room, 1000) + 1, 100):
            yield port.Progress("pulling", "sha256:aa", 1000, completed)
        self.reported.set()
        await self.proceed.wait()
        self.proceed.clear()
        if self.room < 1000:
            raise port.RefusedError(self.error)


class Bench:
    """A download onto that disk, and a clock that tests turn."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.now = 1000.0
        self.pokes: asyncio.Queue[pulls.Set] = asyncio.Queue()
        # Only what a download asks of an engine is there.
        engine: Any = self.disk
        self.pulls = pulls.Pulls(engine, self.pokes.put_nowait, lambda _owner, _uid: None, lambda: self.now)

    @property
    def pull(self) -> state.Pull:
        (found,) = self.pulls.view(("default", "assistants")).values()
        return found

    async def begin(self) -> state.Pull:
        """Try once more when it is due; return what is told when no more is written."""
        wanted = state.WantedPull(POD, "pod-0", "10.0.0.1", "a:1", "a:1", sources.Source("reg", False))
        self.disk.reported.clear()
        self.now += self.pulls.sync(("default", "assistants"), [wanted]) or 0.0
        self.pulls.sync(("default", "assistants"), [wanted])
        await self.disk.reported.wait()
        return self.pull

    async def end(self) -> state.Pull:
        self.disk.proceed.set()
        while self.pull.phase is RUNNING and (self.pull.failures or self.pull.fraction < 1):
            await self.pokes.get()
        return self.pull


async def test_a_download_onto_a_full_disk_does_not_turn_with_every_attempt_and_heals() -> None:
    bench = Bench()
    assert (await bench.begin()).moving
    first = await bench.end()
    assert (first.phase, first.failures, first.message, first.total) == (FAILED, 1, FULL, 1000)
    for failures in (2, 3):
        again = await bench.begin()
        assert (again.phase, again.moving) == (RUNNING, False)
        assert (await bench.end()).failures == failures
    bench.disk.room = 1000
    healing = await bench.begin()
    assert (healing.phase, healing.moving) == (RUNNING, True)
    done = await bench.end()
    assert (done.failures, done.message) == (0, "")
    await bench.pulls.close()


async def test_a_download_that_failed_otherwise_is_under_way_as_soon_as_layers_come() -> None:
    bench = Bench()
    bench.disk.error = "no such host"
    await bench.begin()
    await bench.end()
    assert (await bench.begin()).moving
    await bench.pulls.close()


async def test_what_a_full_disk_left_unreadable_is_told_with_why() -> None:
    bench = Bench()
    await bench.begin()
    await bench.end()
    bench.disk.error = "EOF"
    for _ in range(2):
        await bench.begin()
        assert (await bench.end()).message == f"EOF, since {FULL}"
    await bench.pulls.close()
