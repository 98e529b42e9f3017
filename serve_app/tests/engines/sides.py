"""One way to script and to question the fake servers of both engines."""

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp

from modelset_proxy.serving import config, proxy
from serve_app.tests import fake_compatible, fake_ollama, running


class Mark(enum.Enum):
    """What happens between words."""

    CUT = "the connection is cut"
    END = "the answer ends before it is done"
    ERROR = "an error that says CUDA"


Step = str | asyncio.Event | Mark
# Nothing is said of what the models can do.
_MODELS = [
    {name: value for name, value in model.items() if name != "capabilities"}
    for model in running.USER_CONFIG["models"]
]
_CONFIG = {**running.USER_CONFIG, "models": _MODELS}
_CALLS = {"f": '{"a": 1}', "g": '{"b": 2}'}


class Side(Protocol):
    """A fake server, and its engine."""

    engine: str
    asked: asyncio.Event
    cancelled: asyncio.Event

    @property
    def url(self) -> str:
        """Where the server listens."""

    def say(self, *steps: Step) -> None:
        """Have chats and completions answered with this."""

    def call(self, *names: str) -> None:
        """Have chats answered with calls of these functions: f has an a of 1, g a b of 2."""

    def refuse(self, status: int, text: str) -> None:
        """Have everything that is asked of a model refused."""

    def forget(self, model: str) -> None:
        """Have the server not hold a model any more."""

    def seeds(self) -> list[int]:
        """Return the seeds of the chats that it was sent."""

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Run the server."""

    async def stop(self) -> None:
        """End the server."""


class Ollama:
    """Implements ``Side``."""

    engine = config.OLLAMA

    def __init__(self) -> None:
        self.fake = fake_ollama.FakeOllama({"smollm2:135m": ["completion", "tools"], "all-minilm:latest": []})
        self.asked, self.cancelled = self.fake.asked, self.fake.cancelled

    @property
    def url(self) -> str:
        return self.fake.url

    def say(self, *steps: Step) -> None:
        *_, last = fake_ollama.answer(*(step for step in steps if isinstance(step, str)))
        marks: dict[Step, list[fake_ollama.Step]] = {
            Mark.CUT: [fake_ollama.CUT],
            Mark.ERROR: [{"error": "CUDA error"}],
            Mark.END: [],
        }
        self.fake.chat = []
        for step in steps:
            if isinstance(step, Mark):
                self.fake.chat += marks[step]
                return
            self.fake.chat += [step] if isinstance(step, asyncio.Event) else fake_ollama.answer(step)[:-1]
        self.fake.chat.append(last)

    def call(self, *names: str) -> None:
        calls = [
            {"id": f"call_{name}", "function": {"name": name, "arguments": {_CALLS[name][2]: number + 1}}}
            for number, name in enumerate(names)
        ]
        message = {"role": "assistant", "content": "", "tool_calls": calls}
        self.fake.chat = [{"message": message, "done": False}, fake_ollama.answer("x")[-1]]

    def refuse(self, status: int, text: str) -> None:
        self.fake.refusal = status, text

    def forget(self, model: str) -> None:
        del self.fake.models[model]

    def seeds(self) -> list[int]:
        return [body["options"]["seed"] for body in self.fake.sent("/api/chat")]

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        return fake_ollama.running(self.fake)

    async def stop(self) -> None:
        await self.fake.stop()


class Compatible:
    """Implements ``Side``."""

    engine = config.OPENAI

    def __init__(self) -> None:
        self.fake = fake_compatible.FakeCompatible()
        self.asked, self.cancelled = self.fake.asked, self.fake.cancelled

    @property
    def url(self) -> str:
        return self.fake.url

    def say(self, *steps: Step) -> None:
        marks: dict[Step, fake_compatible.Step] = {
            Mark.CUT: fake_compatible.Failure.CUT,
            Mark.END: fake_compatible.Failure.END,
            Mark.ERROR: {"error": {"message": "CUDA error", "type": "InternalServerError", "code": 500}},
        }
        self.fake.script = [marks[step] if isinstance(step, Mark) else step for step in steps]

    def call(self, *names: str) -> None:
        script: list[fake_compatible.Step] = []
        for index, name in enumerate(names):
            arguments = _CALLS[name]
            first: dict[str, Any] = {"index": index, "id": f"call_{name}", "type": "function"}
            script += [
                {"tool_calls": [{**first, "function": {"name": name, "arguments": ""}}]},
                {"tool_calls": [{"index": index, "function": {"arguments": arguments[:3]}}]},
                {"tool_calls": [{"index": index, "function": {"arguments": arguments[3:]}}]},
            ]
        self.fake.script = script
        self.fake.reason = "tool_calls"

    def refuse(self, status: int, text: str) -> None:
        self.fake.refusal = status, text

    def forget(self, model: str) -> None:
        self.fake.models.remove(model)

    def seeds(self) -> list[int]:
        return [body["seed"] for body in self.fake.sent("/v1/chat/completions")]

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        return fake_compatible.running(self.fake)

    async def stop(self) -> None:
        await self.fake.stop()


@contextlib.asynccontextmanager
async def proxied(*sides: Side) -> AsyncIterator[tuple[aiohttp.ClientSession, proxy.Proxy]]:
    """Run servers of one engine and a proxy in front of them."""
    async with contextlib.AsyncExitStack() as stack:
        for side in sides:
            await stack.enter_async_context(side.running())
        urls = [side.url for side in sides]
        yield await stack.enter_async_context(
            running.proxied(*urls, engine=sides[0].engine, user_config=_CONFIG)
        )
