"""The ``response`` object: what was asked for, how far it is, and what came of it."""

import secrets
import time
from typing import Any

import msgspec

from modelset_proxy.openai import errors, pieces, requests, usage
from modelset_proxy.openai.responses import items
from modelset_proxy.openai.responses.requests import Reasoning, Request, Text


class Response:
    """The object that stands for one request, at any time of its life."""

    def __init__(self, request: Request) -> None:
        self._fixed = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            **_settings(request),
        }

    def begun(self) -> dict[str, Any]:
        """Return it before anything has come."""
        return self._body(items.IN_PROGRESS, [])

    def ended(self, output: items.Output) -> dict[str, Any]:
        """Return it with all that has come."""
        taken = _usage(output.end)
        if output.cut_by is not None:
            details = {"reason": output.cut_by}
            return self._body(items.INCOMPLETE, output.bodies(), incomplete_details=details, usage=taken)
        return self._body(items.COMPLETED, output.bodies(), completed_at=int(time.time()), usage=taken)

    def failed(self, output: items.Output, error: errors.ApiError) -> dict[str, Any]:
        """Return it with what has come before it failed."""
        # OpenAI has few codes for this; ours is in the error's own event.
        told = {"code": "server_error", "message": error.message}
        return self._body("failed", output.bodies(), error=told)

    def _body(self, status: str, output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            **self._fixed,
            "status": status,
            "output": output,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "usage": None,
            **more,
        }


def whole(request: Request, output: items.Output) -> tuple[bytes, usage.Tokens]:
    """Return the body of a response that is not streamed, and what it took."""
    tokens = usage.Tokens()
    if output.end is not None:
        tokens.add(output.end, counts_prompt=True)
    return msgspec.json.encode(Response(request).ended(output)), tokens


def _settings(request: Request) -> dict[str, Any]:
    """Return what was asked for, and what holds where nothing was said."""
    body = request.body
    return {
        "model": body.model,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_logprobs": body.top_logprobs or 0,
        "tools": [_tool(tool) for tool in request.chat.tools or ()],
        "tool_choice": body.tool_choice or "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": body.text or Text(),
        "reasoning": body.reasoning or Reasoning(),
        "metadata": body.metadata or {},
        "background": False,
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
    }


def _tool(tool: requests.FunctionTool | requests.CustomTool) -> dict[str, Any]:
    return {
        "type": "function",
        "description": None,
        "parameters": None,
        "strict": None,
        **msgspec.to_builtins(tool)["function"],
    }


def _usage(end: pieces.End | None) -> dict[str, Any] | None:
    if end is None:
        return None
    # Servers tell neither what they had read before nor which tokens were thoughts.
    return {
        "input_tokens": end.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": end.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }
