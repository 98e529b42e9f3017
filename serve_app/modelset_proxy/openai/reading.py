"""From the bytes of a body to a request, of whatever kind. Errors name the field at fault."""

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from modelset_proxy.openai import cutting, errors, steps

Request = TypeVar("Request")
# What is decoded in one go: milliseconds, whatever is in it.
_SHORT_BYTES = 256 * 1024
_POSITION = re.compile(r" \(byte \d+\)")


class Reader(Generic[Request]):
    """Decodes and checks one kind of request, whose ``field`` may be a long list of ``item``."""

    def __init__(
        self, request: type[Request], field: str, item: Any, check: Callable[[Request], None]
    ) -> None:
        self._field = field
        self._decoder = msgspec.json.Decoder(request)
        self._items: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[item])
        self._check = check

    def __call__(self, body: bytes) -> Request:
        """Decode and check a body at once; raises a 400."""
        try:
            request = self._decoder.decode(body)
        except _PROBLEMS as problem:
            raise _refusal(problem) from None
        self._check(request)
        return request

    def in_steps(self, body: bytes) -> steps.Steps[Request]:
        """Decode and check a body in steps, a large one in many; raises a 400."""
        if len(body) <= _SHORT_BYTES:
            return self(body)
        first = 0
        try:
            cut = yield from cutting.cut(body, self._field)
            yield
            request: Request = cut.put_back(self._decoder.decode(cut.outline), cut.outline)
            items = getattr(request, self._field)
            # Of several fields of one name the last is the one, and it may be no list.
            for batch in cut.batches if isinstance(items, list) else ():
                yield
                first = batch.first
                items += cut.put_back(self._items.decode(batch.body), batch.body)
        except _PROBLEMS as problem:
            raise _refusal(problem, self._field, first, in_parts=True) from None
        self._check(request)
        return request


def convert(value: Any, kind: Any, where: str) -> Any:
    """Return a part of a body, which is at ``where``, as what it ought to be; raises a 400."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as problem:
        raise _misfit(str(problem), where) from None


_PROBLEMS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _refusal(
    problem: Exception, field: str = "", first: int = 0, *, in_parts: bool = False
) -> errors.ApiError:
    """Return the 400 for what a decoder says, of a whole body or of items from the ``first`` on."""
    said = _POSITION.sub("", str(problem)) if in_parts else str(problem)
    if not isinstance(problem, msgspec.ValidationError):
        return errors.invalid(f"The request body is not valid JSON: {said}.", code="invalid_json")
    error = _misfit(said)
    if first and error.param:
        number, bracket, rest = error.param.removeprefix("[").partition("]")
        param = f"{field}[{first + int(number)}{bracket}{rest}"
        error.message = error.message.replace(f"'{error.param}'", f"'{param}'")
        error.param = param
    return error


def _misfit(said: str, where: str = "") -> errors.ApiError:
    text, _, path = said.partition(" - at `$")
    param = f"{where}{path.rstrip('`')}".lstrip(".")
    if text.startswith("Object missing required field"):
        param = f"{param}.{text.split('`')[1]}".lstrip(".")
        return errors.invalid(
            f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )
    at = f"Invalid value for '{param}': " if param else "Invalid request body: "
    return errors.invalid(at + text + ".", param=param or None, code="invalid_value")
