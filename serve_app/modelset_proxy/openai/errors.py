"""Errors as OpenAI clients expect them: an HTTP status and one JSON envelope.

The envelope is ``{"error": {"message", "type", "param", "code"}}``, as in OpenAI's API reference;
openai-python reads ``message`` and ``code`` from it and retries 408, 409, 429 and 5xx by the status alone.
"""

import msgspec

# Messages quote what clients sent; more of it helps nobody.
_LONGEST_MESSAGE = 1_000
# Whoever sends something unknown gets it back, but not whatever its size.
_SHOWN_CHARACTERS = 64


class ApiError(Exception):
    """A reply that is not a success.

    ``status`` is the HTTP status, ``kind`` OpenAI's error type, ``param`` the request field at fault,
    ``code`` a machine-readable reason, ``retry_after`` whole seconds after which trying again may help,
    ``may_retry`` is False where it cannot.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        may_retry: bool = True,
    ) -> None:
        message = _shortened(message)
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.may_retry = may_retry

    def body(self) -> bytes:
        """Return the JSON envelope."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


def _shortened(message: str) -> str:
    if len(message) <= _LONGEST_MESSAGE:
        return message
    half = _LONGEST_MESSAGE // 2
    return f"{message[:half]} ... {message[-half:]}"


def shown(value: object) -> str:
    """Return what was sent, as far as it may be part of a message."""
    return str(value)[:_SHOWN_CHARACTERS]


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return a 400 for a request that cannot be right, whatever the state of the server."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, why: str) -> ApiError:
    """Return a 400 for a field that OpenAI knows and that cannot be honoured here."""
    return ApiError(
        400, f"Unsupported parameter: '{param}'. {why}", param=param, code="unsupported_parameter"
    )


def model_not_found(model: str) -> ApiError:
    """Return the 404 that OpenAI gives for a model that is not listed."""
    return ApiError(
        404,
        f"The model '{model}' does not exist. GET /v1/models lists the models that do.",
        param="model",
        code="model_not_found",
    )


def wrong_kind(model: str, *, wanted: str, path: str) -> ApiError:
    """Return a 400 for a chat model asked to embed or an embedding model asked to chat."""
    return ApiError(
        400,
        f"The model '{model}' is not {wanted} model and cannot be used with {path}.",
        param="model",
        code="model_not_supported",
    )


def context_length_exceeded(param: str, *, most: int = 0, least: int = 0) -> ApiError:
    """Return OpenAI's 400 for a prompt that does not fit into the model's context.

    ``most`` is how many tokens that takes, and ``least`` how many there are or more, where it is known.
    """
    known = f"{most} tokens; the request has at least {least}" if most else "shorter than the input"
    return ApiError(
        400,
        f"This model's maximum context length is {known}. Shorten it, or ask whoever runs the model for a "
        "longer context.",
        param=param,
        code="context_length_exceeded",
    )


def unavailable(message: str, *, code: str, retry_after: int = 5) -> ApiError:
    """Return a 503 that names when to come back."""
    return ApiError(503, message, kind="server_error", code=code, retry_after=retry_after)


def model_not_ready() -> ApiError:
    """Return the 503 for a model that is listed and that no server holds just now."""
    return unavailable(
        "No model server holds this model at the moment.", code="model_not_ready", retry_after=10
    )


def models_not_known() -> ApiError:
    """Return the 503 for any model while no server has said which there are."""
    return unavailable("No model server has answered yet.", code="upstream_unavailable")


def upstream_failed(
    message: str, *, status: int = 502, code: str = "upstream_error", may_retry: bool = True
) -> ApiError:
    """Return a 5xx for a model server that answered with a failure, or broke off."""
    return ApiError(status, message, kind="server_error", code=code, may_retry=may_retry)


def internal() -> ApiError:
    """Return the 500 for a defect of this program; what happened is in the log, never in the reply."""
    return ApiError(
        500, "The server had an error. The log holds it under the request id.", kind="server_error"
    )
