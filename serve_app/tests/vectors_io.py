"""Golden vectors: what a client sent, what Ollama got, what real Ollama answered, what the client got.

Recorded from a running Ollama by ``python -m serve_app.tests.vectors_io URL [NAME ...]`` and then read by a
human; the tests only ever compare. The models are those that ``stack/models.py`` makes. Each file under
``vectors/`` is one case; its ``native_request`` names the model that answered.
"""

import json
import pathlib
import sys
import urllib.error
import urllib.request
from typing import Any

import msgspec

from modelset_proxy.engines import decoders, port, vectors
from modelset_proxy.engines.ollama import answers, native
from modelset_proxy.openai import catalog, chat, completions, embeddings, errors, requests, steps

FOLDER = pathlib.Path(__file__).parent / "vectors"
CHAT = catalog.Model(
    name="smollm2:135m",
    served_names=("smollm2",),
    kind=catalog.CHAT,
    capabilities=frozenset({"completion"}),
    keep_alive="-1",
    created=1700000000,
)
TOOLS = msgspec.structs.replace(
    CHAT,
    name="smollm2:135m-tools",
    served_names=("tools",),
    capabilities=frozenset({"completion", "tools"}),
)
THINKING = msgspec.structs.replace(
    CHAT,
    name="smollm2:135m-thinking",
    served_names=("thinking",),
    capabilities=frozenset({"completion", "thinking"}),
)
COLOURS = msgspec.structs.replace(
    CHAT,
    name="smollm2:135m-colours",
    served_names=("colours",),
    capabilities=frozenset({"completion", "vision"}),
)
EMBEDDING = catalog.Model(
    name="all-minilm:latest",
    served_names=("all-minilm",),
    kind=catalog.EMBEDDING,
    capabilities=frozenset({"embedding"}),
    keep_alive="5m",
    created=1700000000,
)
TINY = msgspec.structs.replace(CHAT, served_names=("tiny",), context_length=64)
MODELS = catalog.Catalog([CHAT, TOOLS, THINKING, COLOURS, TINY, EMBEDDING])

_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}
_TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}
# Eight by eight pixels of one colour.
_RED = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
_BLUE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEElEQVR4nGNgYPiPAw0pCQCpcD/BFMrqcwAAAABJRU5ErkJggg=="
_HI = [{"role": "user", "content": "Say hi"}]
_BASE = {"model": "smollm2", "messages": _HI, "temperature": 0, "seed": 1, "max_tokens": 8}
_CALLING = {
    **_BASE,
    "model": "tools",
    "messages": [{"role": "user", "content": "The weather in Rome?"}],
    "tools": [_WEATHER],
    "max_tokens": 60,
}
_REASONING = {
    **_BASE,
    "model": "thinking",
    "messages": [{"role": "user", "content": "Which is bigger, a cat or an elephant?"}],
    "max_tokens": 60,
}


def _looking(*images: str, **more: Any) -> tuple[str, dict[str, Any]]:
    text = {"type": "text", "text": "Which colour do you see?"}
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images
    ]
    messages = [{"role": "user", "content": [*parts, text]}]
    return "/chat/completions", {**_BASE, "model": "colours", "messages": messages, **more}


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", _BASE),
    "chat_stream": (
        "/chat/completions",
        {**_BASE, "stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 4},
    ),
    "chat_all_roles": (
        "/chat/completions",
        {
            **_BASE,
            "messages": [
                {
                    "role": "developer",
                    "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief"}],
                },
                {"role": "user", "content": [{"type": "text", "text": "Weather in Rome?"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "I should look it up",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
                {"role": "assistant", "content": "It is 21 degrees."},
                {"role": "user", "content": "Thanks"},
            ],
            "stop": ["\n\n", "###"],
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "user": "u1",
            "metadata": {"a": "b"},
            "store": False,
        },
    ),
    "chat_logprobs_stream": (
        "/chat/completions",
        {**_BASE, "stream": True, "logprobs": True, "top_logprobs": 2, "max_tokens": 3},
    ),
    "chat_logprobs": ("/chat/completions", {**_BASE, "logprobs": True, "max_tokens": 2}),
    "chat_json_schema": (
        "/chat/completions",
        {
            **_BASE,
            "max_tokens": 40,
            "messages": [{"role": "user", "content": "Is the sky blue?"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "strict": True,
                    "schema": {
                        "type": "object",
                        "properties": {"yes": {"type": "boolean"}},
                        "required": ["yes"],
                        "additionalProperties": False,
                    },
                },
            },
        },
    ),
    "chat_json_object": (
        "/chat/completions",
        {**_BASE, "max_tokens": 12, "response_format": {"type": "json_object"}},
    ),
    "chat_tool_named": (
        "/chat/completions",
        {
            **_BASE,
            "max_tokens": 60,
            "messages": [{"role": "user", "content": "Weather in Rome, in C?"}],
            "tools": [_WEATHER, _TIME],
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        },
    ),
    "chat_tool_required_stream": (
        "/chat/completions",
        {
            **_BASE,
            "stream": True,
            "max_tokens": 60,
            "messages": [{"role": "user", "content": "Weather in Rome, in C?"}],
            "tools": [_WEATHER, _TIME],
            "tool_choice": "required",
        },
    ),
    "chat_tool_none": ("/chat/completions", {**_BASE, "tools": [_WEATHER], "tool_choice": "none"}),
    "chat_tools_auto": ("/chat/completions", _CALLING),
    "chat_tools_auto_stream": ("/chat/completions", {**_CALLING, "stream": True}),
    "chat_tools_auto_logprobs": ("/chat/completions", {**_CALLING, "logprobs": True}),
    "chat_tools_auto_logprobs_stream": ("/chat/completions", {**_CALLING, "stream": True, "logprobs": True}),
    "chat_tool_result": (
        "/chat/completions",
        {
            **_CALLING,
            "messages": [
                {"role": "user", "content": "The weather in Rome?"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city":"Rome","unit":"C"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees and sunny"},
            ],
        },
    ),
    "chat_reasoning": ("/chat/completions", {**_REASONING, "reasoning_effort": "low"}),
    "chat_reasoning_stream": ("/chat/completions", {**_REASONING, "stream": True}),
    "chat_reasoning_none": ("/chat/completions", {**_REASONING, "reasoning_effort": "none", "max_tokens": 8}),
    "chat_reasoning_logprobs": ("/chat/completions", {**_REASONING, "logprobs": True, "max_tokens": 20}),
    "chat_reasoning_logprobs_stream": (
        "/chat/completions",
        {**_REASONING, "stream": True, "logprobs": True, "max_tokens": 20},
    ),
    # The first token after the thoughts is said, dropped, and said again as the schema wants it.
    "chat_reasoning_json_object_logprobs_stream": (
        "/chat/completions",
        {
            **_REASONING,
            "stream": True,
            "logprobs": True,
            "response_format": {"type": "json_object"},
            "max_tokens": 30,
        },
    ),
    "chat_reasoning_cut": ("/chat/completions", {**_REASONING, "max_tokens": 3}),
    # Ollama lets the model think freely, then holds it to the schema.
    "chat_reasoning_json_object_stream": (
        "/chat/completions",
        {**_REASONING, "stream": True, "response_format": {"type": "json_object"}},
    ),
    "chat_reasoning_replayed": (
        "/chat/completions",
        {
            **_REASONING,
            "messages": [
                {"role": "user", "content": "How many legs do three dogs have?"},
                {"role": "assistant", "content": "Twelve.", "reasoning_content": "Three times four."},
                {"role": "user", "content": "Which is bigger, a cat or an elephant?"},
            ],
        },
    ),
    # With reasoning_effort Ollama holds only what comes after the thoughts to the call's form.
    "chat_reasoning_tool_required": (
        "/chat/completions",
        {**_CALLING, "model": "thinking", "tool_choice": "required"},
    ),
    "chat_reasoning_tool_required_effort": (
        "/chat/completions",
        {**_CALLING, "model": "thinking", "tool_choice": "required", "reasoning_effort": "low"},
    ),
    "chat_image": _looking(_RED),
    "chat_image_stream": _looking(_BLUE, stream=True, stream_options={"include_usage": True}),
    "chat_images": _looking(_RED, _BLUE),
    "chat_too_long": (
        "/chat/completions",
        {**_BASE, "model": "tiny", "messages": [{"role": "user", "content": "word " * 200}]},
    ),
    "chat_bad_schema": (
        "/chat/completions",
        {
            **_BASE,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "nope"}},
            },
        },
    ),
    "chat_bad_tool_schema": (
        "/chat/completions",
        {
            **_BASE,
            "model": "tools",
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "parameters": {"type": "object", "properties": {"a": {"type": 3}}},
                    },
                }
            ],
        },
    ),
    "completion": (
        "/completions",
        {
            "model": "smollm2",
            "prompt": "Once upon a time",
            "temperature": 0,
            "seed": 1,
            "max_tokens": 5,
            "echo": True,
        },
    ),
    "completion_stream_logprobs": (
        "/completions",
        {
            "model": "smollm2",
            "prompt": "Once upon a time",
            "temperature": 0,
            "seed": 1,
            "max_tokens": 3,
            "logprobs": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "embedding": ("/embeddings", {"model": "all-minilm", "input": "hello"}),
    "embedding_base64": (
        "/embeddings",
        {"model": "all-minilm", "input": ["hello", "b"], "encoding_format": "base64", "dimensions": 8},
    ),
    "embedding_too_many_dimensions": (
        "/embeddings",
        {"model": "all-minilm", "input": "a", "dimensions": 4096},
    ),
    "embedding_too_long": ("/embeddings", {"model": "all-minilm", "input": "word " * 1000}),
}


def to_native(path: str, body: bytes) -> tuple[str, bytes]:
    """Translate a client's body; return the path at Ollama and the native body."""
    if path == "/chat/completions":
        request = requests.chat(body)
        model = MODELS.find(request.model, catalog.CHAT, path)
        return "/api/chat", steps.at_once(native.chat(request, model)).body.of(0)
    if path == "/completions":
        completion = requests.completion(body)
        model = MODELS.find(completion.model, catalog.CHAT, path)
        return "/api/generate", native.completion(completion, str(completion.prompts[0]), model).of(0)
    embedding = requests.embedding(body)
    model = MODELS.find(embedding.model, catalog.EMBEDDING, path)
    return "/api/embed", native.embedding(embedding, model)


def to_openai(path: str, body: bytes, status: int, answer: bytes) -> tuple[int, bytes]:
    """Translate Ollama's answer back; return the status and body for the client."""
    try:
        return 200, _success(path, body, status, answer)
    except errors.ApiError as error:
        return error.status, error.body()


def _success(path: str, body: bytes, status: int, answer: bytes) -> bytes:
    param = {"/chat/completions": "messages", "/completions": "prompt", "/embeddings": "input"}[path]
    if status != 200:
        raise answers.error(status, answers.error_text(answer), param=param)
    if path == "/embeddings":
        decoder = vectors.Vectors(answers.embeddings, port.Attempt("", ""))
        [*_, found] = [*decoder.feed(answer), *decoder.end()]
        return b"".join(embeddings.answer(requests.embedding(body), found))
    lines = decoders.Lines()
    rows = [*lines.feed(answer), *filter(None, [lines.rest()])]
    if path == "/completions":
        completion = requests.completion(body)
        reader = answers.Reader()
        pieces = [reader.read(row) for row in rows]
        if completion.stream:
            stream = completions.Stream(completion)
            return stream.events(0, pieces) + stream.end()
        choice = completions.Choice()
        choice.add(pieces)
        return b"".join(completions.completion(completion, [choice])[0])
    request = requests.chat(body)
    job = steps.at_once(native.chat(request, MODELS.find(request.model, catalog.CHAT, path)))
    reader = answers.Reader(job.forced, single_call=job.single_call)
    pieces = [reader.read(row) for row in rows]
    if request.stream:
        events = chat.Stream(request)
        return events.events(0, pieces) + events.end()
    collected = chat.Choice()
    collected.add(pieces)
    return chat.completion(request, [collected])[0]


def normal(body: bytes) -> list[Any]:
    """Return the JSON texts of a reply, or of the events of a stream, without what differs each time."""
    text = body.decode()
    parts = (
        [part.removeprefix("data: ") for part in text.split("\n\n") if part]
        if text[:5] == "data:"
        else [text]
    )
    return [part if part == "[DONE]" else _without_chance(json.loads(part)) for part in parts]


def _without_chance(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_chance(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _without_chance(item) for key, item in value.items()}
    if str(plain.get("id", "")).startswith(("chatcmpl-", "cmpl-", "call_")) and "created" in plain:
        plain |= {"id": "ID", "created": 0}
    elif str(plain.get("id", "")).startswith("call_"):
        plain["id"] = "call_ID"
    return plain


def record(url: str, *names: str) -> None:
    """Ask a running Ollama, which must have the models above, and write the vectors, all or those named."""
    for name in names or REQUESTS:
        path, request = REQUESTS[name]
        body = json.dumps(request).encode()
        native_path, native = to_native(path, body)
        status, answer = _post(url + native_path, native)
        client_status, reply = to_openai(path, body, status, answer)
        vector = {
            "path": path,
            "request": request,
            "native_path": native_path,
            "native_request": json.loads(native),
            "native_status": status,
            "native_answer": answer.decode(),
            "status": client_status,
            "reply": normal(reply),
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(vector, indent=1, ensure_ascii=False) + "\n")


def _post(url: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


if __name__ == "__main__":
    record(*sys.argv[1:])
