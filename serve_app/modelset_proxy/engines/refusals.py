"""What the ways in which model servers say no mean to clients, as far as it is the same for all of them."""

import re

import msgspec

from modelset_proxy.openai import errors

# What an error may hold that is nobody's business outside: addresses, URLs and paths.
_INTERNAL = re.compile(r"://|\b\d{1,3}(\.\d{1,3}){3}\b|\[[0-9a-f:]+\]:\d|(^|[\s\"'=(])/\w|[\w-]:\d{2,5}/")


class Refusal(msgspec.Struct, frozen=True):
    """A status but 200: what the client gets, ``why`` for the log, and whether the server lacks the model."""

    error: errors.ApiError
    why: str
    absent: bool = False

    @property
    def final(self) -> bool:
        """Whether no other server would do better: the client's mistake, or a request that ends servers."""
        return not self.error.may_retry or self.error.status < 500


def absent(why: str) -> Refusal:
    """Return the refusal of a server that does not hold the model."""
    return Refusal(errors.model_not_ready(), why, absent=True)


def no_such_route(why: str) -> Refusal:
    """Return the refusal of a server that does not know what it was asked for."""
    return Refusal(errors.ApiError(404, "The model server has no such endpoint.", code="unknown_url"), why)


def by_status(status: int, text: str, *, param: str | None = None) -> errors.ApiError:
    """Return the error for a status whose text says nothing special."""
    if status in (400, 413, 422):
        return errors.invalid(public(text, "The model server refused the request."), param=param)
    if status in (429, 503):
        return errors.unavailable(
            "The model server is busy. Try again shortly.", code="server_overloaded", retry_after=2
        )
    return errors.upstream_failed(public(text, "The model server failed while answering."))


def public(text: str, otherwise: str) -> str:
    """Return a server's words, or others where these might tell what is inside.

    They may begin with a field's name, so no letter of them is changed.
    """
    text = text.strip()
    if not text or len(text) > 500 or _INTERNAL.search(text):
        return otherwise
    return text if text.endswith(".") else f"{text}."
