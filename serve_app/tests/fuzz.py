"""A fuzz run over HTTP: generated bodies, right, nearly right and broken, none of which may be our fault.

`make fuzz` sends 20,000 (`FUZZ='COUNT SEED'` others) to the whole application in front of a fake Ollama that
answers everything, and fails when one gets a 5xx, an error without its API's envelope, or no answer.
"""

import asyncio
import base64
import collections
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from . import fake_ollama, pictures, running

COUNT = 20_000
CLIENTS = 16
ANSWER_SECONDS = 30
REPORTED = 5

_TIMEOUT = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
_PATHS = ["/v1/chat/completions"] * 6 + ["/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    },
}
_ANTHROPIC_TOOL = {"name": "f", "input_schema": _TOOL["function"]["parameters"]}
_NAMED_SCHEMA = {"name": "x", "schema": {"type": "object"}}
_SCHEMA = {"type": "json_schema", "json_schema": _NAMED_SCHEMA}
_IMAGE, _BROKEN_IMAGE = (
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}
    for data in (pictures.png(), b"hi")
)
_SOURCES = [
    {"type": "base64", "media_type": "image/png", "data": base64.b64encode(pictures.png()).decode()},
    {"type": "base64", "media_type": "image/png", "data": "AAAA"},
    {"type": "url", "url": "https://images.example/one.png"},
    {"type": "file", "file_id": "f"},
]


class Bodies:
    """Generates requests from a seed: the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing here is secret
        self._fields: dict[str, Callable[[], Any]] = {
            "temperature": lambda: self._one(0, 1, 2, 2.5),
            "top_p": lambda: 0.5,
            "n": lambda: self._one(0, 1, 2, 6),
            "seed": lambda: self._random.randint(-(2**63), 2**63 - 1),
            "max_tokens": lambda: self._one(0, 1, 3),
            "max_completion_tokens": lambda: self._one(0, 1, 3),
            "stop": lambda: self._one("a", ["a", "b"], list("abcde")),
            "stream": lambda: self._one(True, False, None),
            "stream_options": lambda: {"include_usage": True},
            "logprobs": lambda: self._one(True, False, 2),
            "top_logprobs": lambda: self._one(0, 5, 21),
            "tools": lambda: (
                [self._one(_TOOL, _ANTHROPIC_TOOL, {"type": "function", **_TOOL["function"]})]
                * self._one(0, 1, 2)
            ),
            "tool_choice": lambda: self._one(
                "auto",
                "none",
                "required",
                {"type": "function", "function": {"name": "f"}},
                {"type": "any"},
                {"type": "tool", "name": "f"},
            ),
            "response_format": lambda: self._one({"type": "text"}, {"type": "json_object"}, _SCHEMA),
            "reasoning_effort": lambda: self._one("none", "low"),
            "user": lambda: "u",
            "logit_bias": lambda: {"1": self._one(0, 5)},
            "parallel_tool_calls": lambda: False,
            "suffix": lambda: "s",
            "echo": lambda: True,
            "best_of": lambda: self._one(0, 1, 3),
            "dimensions": lambda: 2,
            "encoding_format": lambda: self._one("float", "base64", "x"),
            "max_output_tokens": lambda: self._one(0, 3),
            "text": lambda: {"format": self._one({"type": "text"}, {"type": "json_schema", **_NAMED_SCHEMA})},
            "reasoning": lambda: {"effort": self._one("none", "low", "x")},
            "include": lambda: ["message.output_text.logprobs"],
            "system": lambda: self._one("s", [{"type": "text", "text": "s"}], []),
            "stop_sequences": lambda: self._one(["a"], ["a"] * 65),
            "thinking": lambda: self._one(
                {"type": "disabled"}, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 2000}
            ),
            "output_config": lambda: self._one({"effort": "low"}, {"format": {"type": "json_schema"}}),
        }

    def next(self) -> tuple[str, bytes]:
        """Return a path and a body; some bodies are cut off or garbled."""
        path = self._random.choice(_PATHS)
        body: dict[str, Any] = {"model": self._one(*["smollm2"] * 8, "all-minilm", "nope", self._junk())}
        if path.endswith("/embeddings"):
            body["model"] = self._one("all-minilm", "smollm2")
            body["input"] = self._one("a", ["a", "b"], [[1]], self._junk())
        elif path == "/v1/completions":
            body["prompt"] = self._one("a", ["a", "b"], [1], [], "", self._junk())
        elif path == "/v1/responses":
            body["input"] = self._one("a", self._junk(), *[[self._item() for _ in range(3)]] * 4)
            body["instructions"] = self._one(None, "b")
        elif path == "/v1/messages":
            body["max_tokens"] = self._one(1, 3, 3, self._junk())
            body["messages"] = [self._turn() for _ in range(self._random.randint(0, 4))]
        else:
            body["messages"] = [self._message() for _ in range(self._random.randint(0, 4))]
        for field in self._random.sample(sorted(self._fields), self._random.randint(0, 6)):
            body[field] = self._fields[field]() if self._chance(0.8) else self._junk()
        data = json.dumps(body).encode()
        if self._chance(0.05):
            data = data[: self._random.randint(0, len(data))]
        if self._chance(0.03):
            data = bytes(self._random.randint(0, 255) if self._chance(0.02) else byte for byte in data)
        return path, data

    def _one(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _message(self) -> dict[str, Any]:
        role = self._one("system", "developer", "user", "user", "user", "assistant", "tool", "function")
        picture = self._one(_IMAGE, _BROKEN_IMAGE)
        content = self._one("hi", "", None, [{"type": "text", "text": "a"}], [picture], self._junk())
        message: dict[str, Any] = {"role": role, "content": content}
        if role == "assistant" and self._chance(0.5):
            arguments = self._one('{"a": 1}', "", "[", "{}", self._junk())
            message["tool_calls"] = [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
            ]
        elif role == "tool":
            message["tool_call_id"] = self._one("c1", "c2", self._junk())
        elif role == "function":
            message["name"] = "f"
        return message

    def _item(self) -> dict[str, Any]:
        call = {"call_id": self._one("c1", "c2"), "name": "f", "arguments": self._one("{}", "[")}
        part = self._one(
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": self._one(_IMAGE, _BROKEN_IMAGE)["image_url"]["url"]},
            self._junk(),
        )
        return self._one(
            {
                "role": self._one("system", "user", "assistant"),
                "content": self._one("hi", [part], self._junk()),
            },
            {"type": "function_call", **call},
            {"type": "function_call_output", **call, "output": self._one("x", [part], self._junk())},
            {"type": "reasoning", "summary": self._one([], [{"text": "hm"}], self._junk())},
            {"type": self._junk()},
        )

    def _turn(self) -> dict[str, Any]:
        """A message as Anthropic has them."""
        blocks = [
            {"type": "text", "text": "a"},
            {"type": "image", "source": self._one(*_SOURCES)},
            {"type": "thinking", "thinking": "a", "signature": ""},
            {"type": "tool_use", "id": self._one("c1", self._junk()), "name": "f", "input": {"a": 1}},
            {"type": "tool_result", "tool_use_id": self._one("c1", "c2"), "content": self._one("x", [])},
            {"type": "document"},
            self._junk(),
        ]
        content = self._one("hi", "", None, self._random.sample(blocks, self._random.randint(0, 3)))
        return {"role": self._one("user", "user", "assistant", "system", "x"), "content": content}

    def _junk(self, depth: int = 0) -> Any:
        """Any JSON value: wrong types, huge numbers, odd characters, nesting."""
        kind = self._random.randrange(8 if depth < 3 else 6)
        if kind == 6:
            return [self._junk(depth + 1) for _ in range(self._random.randint(0, 3))]
        if kind == 7:
            keys = [
                self._one("a", "role", "type", "content", "text") for _ in range(self._random.randint(0, 3))
            ]
            return {key: self._junk(depth + 1) for key in keys}
        digits = self._random.randint(0, 25)
        return (
            None,
            self._chance(0.5),
            self._random.randint(-3, 10**digits),
            self._random.uniform(-3, 3),
            "x" * self._random.randint(0, 40),
            "\u0000\U0001f600ü",
        )[kind]


class Run:
    """Sends bodies and keeps what was wrong with the answers."""

    def __init__(self, session: aiohttp.ClientSession, bodies: Bodies, count: int) -> None:
        self._session = session
        self._bodies = bodies
        self._left = count
        self.statuses: collections.Counter[int] = collections.Counter()
        self.faults: list[str] = []
        self.slowest = 0.0

    async def work(self) -> None:
        """Send one after another until none is left."""
        while self._left > 0:
            self._left -= 1
            await self._send(*self._bodies.next())

    async def _send(self, path: str, body: bytes) -> None:
        started = time.monotonic()
        try:
            async with self._session.post(path, data=body, timeout=_TIMEOUT) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.faults.append(f"{path} {body[:500]!r}: {error!r}")
            return
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.statuses[response.status] += 1
        unfit = response.status != 200 and not _is_envelope(answer, path)
        if response.status >= 500 or unfit or b'"server_error"' in answer or b'"api_error"' in answer:
            self.faults.append(f"{path} {body[:500]!r}: {response.status} {answer[:300]!r}")


def _is_envelope(answer: bytes, path: str) -> bool:
    try:
        error = json.loads(answer)["error"]
    except (ValueError, LookupError, TypeError):
        return False
    fields = {"message", "type"} if path == "/v1/messages" else {"message", "type", "param", "code"}
    return bool(fields == error.keys())


async def fuzz(count: int, seed: int) -> Run:
    """Send `count` bodies made from `seed` to the application in front of a fake Ollama."""
    fake = fake_ollama.FakeOllama(
        {"smollm2:135m": ["completion", "tools"], "all-minilm:latest": ["embedding"]}
    )
    async with fake_ollama.running(fake), running.proxied(fake.url) as (session, _):
        run = Run(session, Bodies(seed), count)
        await asyncio.gather(*(run.work() for _ in range(CLIENTS)))
    return run


def main() -> None:
    """Run, print what came back, exit with 1 when something was our fault."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    run = asyncio.run(fuzz(count, seed))
    statuses = ", ".join(f"{status}: {seen}" for status, seen in sorted(run.statuses.items()))
    print(f"{count} bodies from seed {seed}; by status {statuses}; slowest {run.slowest:.2f} s")  # noqa: T201
    for fault in run.faults[:REPORTED]:
        print(fault)  # noqa: T201
    print(f"{count - len(run.faults)} passed, {len(run.faults)} failed")  # noqa: T201
    sys.exit(1 if run.faults else 0)


if __name__ == "__main__":
    main()
