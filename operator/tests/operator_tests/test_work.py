"""Work on pods, where its parts meet."""

import asyncio

import httpx

from modelset_operator.api import sources
from modelset_operator.engines import ollama, state, work

from . import fake_ollama

OWNER = ("default", "assistants")
POD, IP, MODEL = "pod-0", "10.0.0.1", "a:1"


async def test_a_model_that_has_come_is_seen_at_once_on_a_pod_that_is_seldom_looked_at() -> None:
    fleet = fake_ollama.FakeOllamas()
    fleet.servers[IP] = fake_ollama.Server()
    fleet.registry[MODEL] = fake_ollama.Published()
    fleet.proceed.clear()
    told: asyncio.Queue[work.Set] = asyncio.Queue()
    engine = ollama.Ollama(httpx.AsyncClient(transport=fleet))
    doing = work.Work(engine, told.put_nowait)
    place = state.Place(POD, IP, busy=False, described=frozenset())
    wanted = state.WantedPull(
        "assistants-0", POD, IP, MODEL, MODEL, sources.Source("registry.ollama.ai", False)
    )

    def held() -> set[str]:
        sight = doing.sights(OWNER).get(POD)
        return set(sight.now.held) if sight is not None and sight.now is not None else set()

    doing.sync(OWNER, [place], [wanted], (), (), ())
    async with asyncio.timeout(5):
        while POD not in doing.sights(OWNER):
            await told.get()
        assert held() == set()
        fleet.proceed.set()
        while held() != {MODEL}:
            await told.get()
    await doing.close()
