"""What the fields of a chat are called in the request that the chat was made of."""

import contextlib
from collections.abc import Iterator

from modelset_proxy.openai import errors

_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "tools": "tools",
}
_WITHIN = {".function.": ".", ".image_url.url": ".image_url", ".tool_call_id": ".call_id"}


class Names:
    """Names by the fields of a chat. Messages are noted, as they need not be one to an item."""

    def __init__(self) -> None:
        self._own = dict(_NAMES)

    def note(self, field: str, own: str) -> None:
        """Take down what a field, and all within it, is made of."""
        self._own[field] = own

    def rename(self, error: errors.ApiError) -> None:
        """Have an error name the request's own field."""
        if error.param is not None:
            own = self._of(error.param)
            error.message = error.message.replace(f"'{error.param}'", f"'{own}'")
            error.param = own

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Have the errors that are raised within name the request's own fields."""
        try:
            yield
        except errors.ApiError as error:
            self.rename(error)
            raise

    def _of(self, field: str) -> str:
        known, within = field, ""
        while known not in self._own:
            known, dot, last = known.rpartition(".")
            if not dot:
                return field
            within = f".{last}{within}"
        for name, own in _WITHIN.items():
            within = within.replace(name, own)
        return self._own[known] + within
