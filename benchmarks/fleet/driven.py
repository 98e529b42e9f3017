"""Clients of a fleet on the cluster, and what its pods cost meanwhile. Times in seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any

import httpx

from benchmarks.dispatch import live, pods, scaling, servers, ways, workload
from benchmarks.dispatch.fleets import Outcome
from benchmarks.dispatch.result import Result
from benchmarks.fleet import installed
from modelset_proxy.dispatch import facts
from stack import step

_LOOK_SECONDS = 0.5
# Longer than anything takes that goes well.
_ANSWER_SECONDS = 240.0
_CORE = f"/api/v1/namespaces/{installed.NAMESPACE}"
_APPS = f"/apis/apps/v1/namespaces/{installed.NAMESPACE}"
_SERVED = f"{_CORE}/services/{installed.SET}-serve-svc:8000/proxy/v1/completions"

# Asks, and returns when the first token came.
Ask = Callable[[workload.Arrival], Coroutine[None, None, float]]
AskAt = Callable[[str], Coroutine[None, None, float]]


class UnansweredError(Exception):
    """A stream ended without a token."""


class Pods:
    """Looks at pods all the time: which there are, which are Ready, and how many seconds they took."""

    def __init__(self, api: httpx.AsyncClient, selector: str) -> None:
        self._api = api
        self._selector = selector
        self.seconds = 0.0
        self.changes: list[pods.Change] = []
        # By name, the pods that are Ready and are to stay -> their labels
        self.ready: dict[str, Mapping[str, str]] = {}
        self.seen: Callable[[], None] = lambda: None

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look while the body runs."""
        count = await self._look()
        looking = asyncio.create_task(self._looking(count))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _looking(self, count: int) -> None:
        began = last = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            found, now = await self._look(), time.monotonic()
            self.seconds += count * (now - last)
            if found != count:
                self.changes.append(pods.Change(now - began, "", count, found))
            count, last = found, now
            self.seen()

    async def _look(self) -> int:
        answer = await self._api.get(f"{_CORE}/pods", params={"labelSelector": self._selector})
        items = answer.raise_for_status().json()["items"]
        self.ready = {
            item["metadata"]["name"]: item["metadata"]["labels"]
            for item in items
            if _is_ready(item) and "deletionTimestamp" not in item["metadata"]
        }
        return len(items)


def _is_ready(item: Mapping[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class ByModel:
    """A Deployment a model, scaled as KubeAI does; requests are held while theirs has no pod."""

    def __init__(self, api: httpx.AsyncClient, watched: Pods, scaler: scaling.Averages) -> None:
        self._api = api
        self._pods = watched
        self._scaler = scaler
        self._way = ways.ByModel()
        self._turns: dict[int, asyncio.Future[str]] = {}
        self._wanted: Mapping[str, int] = {}
        watched.seen = self._seen

    @contextlib.asynccontextmanager
    async def scaled(self) -> AsyncIterator[None]:
        """Scale while the body runs."""
        scaling_ = asyncio.create_task(self._scale())
        try:
            yield
        finally:
            scaling_.cancel()
            await asyncio.gather(scaling_, return_exceptions=True)

    async def ask(self, arrival: workload.Arrival, asked: AskAt) -> float:
        """Have it asked where it is to be."""
        request = arrival.request
        turn = self._turns[request.id] = asyncio.get_running_loop().create_future()
        self._carry_out(self._way.arrive(time.monotonic(), request))
        pod = await turn
        try:
            return await asked(f"{_CORE}/pods/{pod}:11434/proxy/v1/completions")
        finally:
            self._carry_out(self._way.ended(time.monotonic(), servers.Job(request, 0, 0)))

    def _seen(self) -> None:
        now = time.monotonic()
        having = {name: {labels[installed.MODEL_LABEL]} for name, labels in self._pods.ready.items()}
        self._way.look(now, having)
        self._carry_out(self._way.again(now))

    def _carry_out(self, decisions: Sequence[facts.Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, facts.Start):
                self._turns.pop(decision.request.id).set_result(decision.url)

    async def _scale(self) -> None:
        while True:
            now = time.monotonic()
            wanted = dict(self._scaler.decide(now, self._way.demand(now)))
            for model, count in wanted.items():
                if count != self._wanted.get(model, 0):
                    answer = await self._api.patch(
                        f"{_APPS}/deployments/{model}/scale",
                        json={"spec": {"replicas": count}},
                        headers={"Content-Type": "application/merge-patch+json"},
                    )
                    answer.raise_for_status()
            self._wanted = wanted
            await asyncio.sleep(1.0)


async def by_set(url: str, arrivals: Sequence[workload.Arrival], seconds: float) -> Outcome:
    """Ask the set's proxy."""
    async with _client(url) as api:
        watched = Pods(api, installed.SET_SELECTOR)
        return await _run(watched, arrivals, seconds, lambda arrival: _first_token(api, _SERVED, arrival))


async def by_model(
    url: str, arrivals: Sequence[workload.Arrival], seconds: float, scaler: scaling.Averages
) -> Outcome:
    """Ask the pods of the models themselves."""
    async with _client(url) as api:
        watched = Pods(api, installed.MODEL_LABEL)
        way = ByModel(api, watched, scaler)

        async def ask(arrival: workload.Arrival) -> float:
            return await way.ask(arrival, lambda pod: _first_token(api, pod, arrival))

        async with way.scaled():
            return await _run(watched, arrivals, seconds, ask)


def _client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    return httpx.AsyncClient(base_url=url, timeout=_ANSWER_SECONDS, limits=limits)


async def _run(
    watched: Pods,
    arrivals: Sequence[workload.Arrival],
    seconds: float,
    ask: Ask,
) -> Outcome:
    began = time.monotonic()
    failures: list[str] = []

    async def client(arrival: workload.Arrival) -> float:
        await asyncio.sleep(began + arrival.at - time.monotonic())
        asked = time.monotonic()
        try:
            return await ask(arrival) - asked
        except (httpx.HTTPError, UnansweredError) as error:
            failures.append(f"{type(error).__name__}: {error}"[:300])
            return math.inf

    async with watched.watched():
        waits = await asyncio.gather(*(client(arrival) for arrival in arrivals))
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    if failures:
        step.say(f"  {len(failures)} of {len(waits)} requests failed, the first: {failures[0]}")
    outcome = Outcome(Result(waits=list(waits)), watched.seconds, watched.changes)
    step.say(f"  {outcome.line()}")
    return outcome


async def _first_token(api: httpx.AsyncClient, path: str, arrival: workload.Arrival) -> float:
    """Ask, read the answer to its end, and return when its first token came."""
    body = {
        "model": arrival.request.model,
        "prompt": live.prompt(arrival),
        "max_tokens": arrival.answer_tokens,
        "temperature": 0,
        "stream": True,
    }
    first = 0.0
    async with api.stream("POST", path, json=body) as answer:
        if answer.is_error:
            await answer.aread()
            raise UnansweredError(f"{answer.status_code} {answer.text}")
        async for line in answer.aiter_lines():
            said = line.removeprefix("data: ")
            if not first and said.startswith("{") and json.loads(said).get("choices"):
                first = time.monotonic()
    if not first:
        raise UnansweredError("the stream has no token")
    return first
