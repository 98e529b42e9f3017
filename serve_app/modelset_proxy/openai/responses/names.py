"""What the fields of a chat are called in the request that the chat was made of."""

import contextlib
import re
from collections.abc import Iterator

from modelset_proxy.openai import errors

_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "tools": "tools",
}
_WITHIN = {".function.": ".", ".image_url.url": ".image_url", ".json_schema": "", ".tool_call_id": ".call_id"}
_MESSAGE = re.compile(r"messages\[(\d{1,9})\](?:\.tool_calls\[(\d{1,9})\])?")
_FIELD = re.compile(r"\w+")


class Names:
    """Names by the fields of a chat.

    ``messages`` are the items of which its messages are made, of several the first, and ``calls`` those of
    which its calls are, by message and call.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.calls: dict[tuple[int, int], str] = {}

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

    def _item(self, message: int, call: str | None) -> str:
        """Return the item of a message, or of a call in it; servers may name what nobody has sent."""
        if call is not None:
            return self.calls.get((message, int(call)), "input")
        return self.messages[message] if message < len(self.messages) else "input"

    def _of(self, field: str) -> str:
        if found := _MESSAGE.match(field):
            own = self._item(int(found[1]), found[2])
        elif (found := _FIELD.match(field)) and found[0] in _NAMES:
            own = _NAMES[found[0]]
        else:
            return field
        within = field[found.end() :]
        for name, said in _WITHIN.items():
            within = within.replace(name, said)
        return own + within
