"""What the errors of servers of OpenAI's API mean: each has its own way of writing them. Pure."""

import re
from typing import Any

import msgspec

from modelset_proxy.engines import asking, refusals
from modelset_proxy.openai import errors

# Ollama: "exceeds the context length"; llama.cpp: "exceeds the available context size"; vLLM: the others.
_TOO_LONG = re.compile(
    r"exceed\w* (the |maximum |available )*context|maximum context length|maximum model length", re.IGNORECASE
)
_ABOUT_A_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)


class Error(msgspec.Struct):
    """OpenAI's error; the ``code`` is a word there, and the status with vLLM and llama.cpp."""

    message: str = ""
    param: str | None = None
    code: int | str | None = None


class Body(Error):
    """The body of a refusal: OpenAI's envelope, an older vLLM's error without one, or FastAPI's."""

    error: Error | str | None = None
    detail: Any = None


_body = msgspec.json.Decoder(Body)


def refusal(status: int, body: bytes, question: asking.Question) -> refusals.Refusal:
    """Return what a status but 200 means."""
    told = _read(body)
    if status == 404:
        is_model = _ABOUT_A_MODEL.search(told.message)
        return refusals.absent(told.message) if is_model else refusals.no_such_route(told.message)
    return refusals.Refusal(_error(status, told, question.param), told.message)


def within(error: Error | str) -> errors.ApiError:
    """Return what an error within an answer means."""
    told = Error(error) if isinstance(error, str) else error
    status = told.code if isinstance(told.code, int) and told.code >= 400 else 500
    return _error(status, told, "messages")


def _read(body: bytes) -> Error:
    try:
        told = _body.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Error(body[:200].decode("utf-8", "replace"))
    if isinstance(told.error, Error):
        return told.error
    if told.detail is not None:
        return Error(
            told.detail if isinstance(told.detail, str) else msgspec.json.encode(told.detail).decode()
        )
    return Error(told.error) if isinstance(told.error, str) else told


def _error(status: int, told: Error, param: str) -> errors.ApiError:
    if _TOO_LONG.search(told.message):
        return errors.context_length_exceeded(param)
    if status in (401, 403):
        # It is the proxy that has no key for the server, whatever key the client has for the proxy.
        return errors.upstream_failed("The model server does not let the proxy in.")
    return refusals.by_status(status, told.message, param=told.param)
