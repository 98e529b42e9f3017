"""Errors as Anthropic's clients expect them: ``{"type": "error", "error": {"type", "message"}}``.

There is no field for the parameter at fault, so the message names it. The anthropic client retries 408, 409,
429 and 5xx by the status alone, so a busy model needs no status of Anthropic's own (529).
"""

import msgspec

from modelset_proxy.openai import errors, sse

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


def body(error: errors.ApiError, *, request_id: str) -> bytes:
    """Return the JSON envelope."""
    return msgspec.json.encode({**_envelope(error), "request_id": request_id})


def event(error: errors.ApiError) -> bytes:
    """Return the event for a failure in mid-stream. Nothing follows it."""
    return sse.named("error", msgspec.json.encode(_envelope(error)))


def _envelope(error: errors.ApiError) -> dict[str, object]:
    return {"type": "error", "error": {"type": _kind(error), "message": _message(error)}}


def _kind(error: errors.ApiError) -> str:
    if error.status == 503 and error.may_retry:
        return "overloaded_error"
    return _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")


def _message(error: errors.ApiError) -> str:
    if error.code == "context_length_exceeded":
        # Clients that shorten conversations by themselves look for these words.
        return f"prompt is too long: {error.message}"
    if error.param and error.param not in error.message:
        return f"{error.param}: {error.message}"
    return error.message
