"""Cuts a large JSON body into parts of which each is decoded in short time. Pure.

A decoder lets nobody in until it is through, however long that takes. So long texts are taken out of the body
and decoded in slices, and the items of its one long list are told apart. What is left is decoded as any other
body, which finds whatever is wrong with it.
"""

import re
import secrets
from typing import Any

import msgspec

from modelset_proxy.openai import errors, steps

# What is done in one step: so many bytes, or a token of JSON for each of so many.
_STEP_BYTES = 128 * 1024
_TOKEN_BYTES = 32
# Shorter texts stay where they are.
_TEXT_BYTES = 1024
# Longer than any length that is allowed somewhere in a request, as what it stands for.
_MARK_LENGTH = 256
_MOST_TEXT_BYTES = 20 * 1024 * 1024
_MOST_ITEM_BYTES = 512 * 1024
_MOST_OTHER_BYTES = 1024 * 1024
# More than there are tokens in the longest of contexts.
_MOST_ITEMS = 1024 * 1024

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# An object of nothing but plain values is one token; most messages are.
_FLAT = rb'\{[^{}\[\]"]*+(?:' + _STRING + rb'[^{}\[\]"]*+)*+\}'
_token = re.compile(_FLAT + b"|" + _STRING + rb'|[{}\[\],"]', re.DOTALL)
_HEX = rb"[0-9a-fA-F]"
# Ends before an escape that the bytes at hand hold only a part of; two make up one character beyond 16 bits.
_inner = re.compile(
    rb'(?:[^"\\]++|\\u[dD][89abAB]%(hex)s{2}\\u%(hex)s{4}|\\u(?![dD][89abAB])%(hex)s{4}|\\[^u])*+'
    % {b"hex": _HEX},
    re.DOTALL,
)
_QUOTE, _COMMA, _LIST, _OBJECT = b'",[{'
_OPENED_BY = {ord("]"): _LIST, ord("}"): _OBJECT}


class Batch(msgspec.Struct):
    """Some of the items of the long list, the first of which has this number, as a list."""

    first: int
    body: bytes


class Cut:
    """A body in parts: ``outline`` has marks for long texts, and the list ends with its first items."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.outline = b""
        self.batches: list[Batch] = []
        self._secret = secrets.token_hex(_MARK_LENGTH // 2)
        self._texts: dict[str, str] = {}

    def take_out(self, text: str) -> bytes:
        """Return the mark that stands for a text."""
        mark = f"{self._secret}{len(self._texts)}"
        self._texts[mark] = text
        return b'"%s"' % mark.encode()

    def put_back(self, value: Any, source: bytes) -> Any:
        """Return what was decoded from a part with the texts that were taken out of it."""
        return self._whole(value) if self._secret.encode() in source else value

    def _whole(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._texts.get(value, value) if len(value) > _MARK_LENGTH else value
        if isinstance(value, list):
            value[:] = map(self._whole, value)
        elif isinstance(value, dict):
            return {self._whole(name): self._whole(item) for name, item in value.items()}
        elif isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                setattr(value, name, self._whole(getattr(value, name)))
        return value


def cut(body: bytes, field: str) -> steps.Steps[Cut]:
    """Cut a body whose ``field`` may be a long list; raises a 400, or msgspec's DecodeError."""
    return _Cutter(body, field).run()


class _Cutter:
    """``size`` counts the bytes that stay, all parts together."""

    def __init__(self, body: bytes, field: str) -> None:
        self._body = body
        self._cut = Cut(field)
        self._outline: list[bytes] = []
        self._part = self._outline
        self._copied = 0
        self._size = 0
        self._open = bytearray()
        self._name = b""
        self._listing = False
        self._items = 0
        self._item_began = 0
        self._batch_began = 0
        self._batch_first = 0
        self._listed = 0

    def run(self) -> steps.Steps[Cut]:
        body, at, spent = self._body, 0, 0
        while at < len(body):
            found = _token.search(body, at, at + _STEP_BYTES)
            if found is None:
                at = self._skip(at)
                yield
                continue
            begin, end = found.span()
            if body[begin] != _QUOTE:
                end = self._mark(begin, end)
            elif end - begin == 1 or end - begin > _TEXT_BYTES:
                end = yield from self._text(begin)
            elif len(self._open) == 1:
                self._name = body[begin:end]
            spent += end - at + _TOKEN_BYTES
            at = end
            if spent > _STEP_BYTES:
                spent = 0
                self._check_size(at)
                yield
        self._check_size(len(body))
        self._copy(len(body))
        self._cut.outline = b"".join(self._outline)
        return self._cut

    def _mark(self, begin: int, end: int) -> int:
        """Take in what is no text; return where it ends."""
        kind = self._body[begin]
        if kind == _COMMA:
            if self._listing and len(self._open) == 2:
                self._next_item(begin)
        elif kind in _OPENED_BY:
            self._leave(kind, begin)
        elif end - begin == 1 or end - begin > _TEXT_BYTES or len(self._open) < 2:
            self._enter(kind, begin)
            return begin + 1
        return end

    def _skip(self, begin: int) -> int:
        """Pass over a step without tokens, of which little stays if it is all space; return where it ends."""
        end = min(begin + _STEP_BYTES, len(self._body))
        if not self._body[begin:end].strip(b" \t\r\n"):
            self._copy(begin, end)
            self._part.append(b" ")
            self._size += 1
        return end

    def _copy(self, upto: int, after: int | None = None) -> None:
        """Keep what was not kept yet, and go on after it."""
        self._part.append(self._body[self._copied : upto])
        self._size += upto - self._copied
        self._copied = upto if after is None else after

    def _text(self, begin: int) -> steps.Steps[int]:
        """Take out a text; return where it ends."""
        body, at = self._body, begin + 1
        slices: list[str] = []
        while True:
            upto = min(at + _STEP_BYTES, len(body))
            while upto < len(body) and body[upto] & 0xC0 == 0x80 and upto > at + _STEP_BYTES - 4:
                upto -= 1
            inner = _inner.match(body, at, upto)
            stop = at if inner is None else inner.end()
            slices.append(msgspec.json.decode(b'"%s"' % body[at:stop], type=str))
            closed = stop < len(body) and body[stop] == _QUOTE
            if stop - begin > _MOST_TEXT_BYTES:
                raise errors.invalid(
                    f"A text of the request is longer than {_MOST_TEXT_BYTES} bytes.",
                    code="string_above_max_length",
                )
            if closed or stop == at:
                break
            at = stop
            yield
        if not closed:
            raise msgspec.DecodeError(
                "JSON is malformed: a string does not end, or has an escape that is none"
            )
        if stop - begin > _TEXT_BYTES:
            self._copy(begin, stop + 1)
            mark = self._cut.take_out("".join(slices))
            self._part.append(mark)
            self._size += len(mark)
            self._name = b""
        elif len(self._open) == 1:
            self._name = body[begin : stop + 1]
        return stop + 1

    def _enter(self, kind: int, at: int) -> None:
        self._open.append(kind)
        if len(self._open) == 2 and kind == _LIST and self._is_field():
            # Of several fields of one name, the last is the one.
            self._cut.batches.clear()
            self._listing = True
            self._items = self._batch_first = 0
            self._copy(at + 1)
            self._item_began = self._batch_began = self._size

    def _is_field(self) -> bool:
        name = msgspec.json.decode(self._name, type=str) if b"\\" in self._name else self._name[1:-1].decode()
        return name == self._cut.field

    def _leave(self, kind: int, at: int) -> None:
        if not self._open or self._open.pop() != _OPENED_BY[kind]:
            raise msgspec.DecodeError("JSON is malformed: brackets do not match")
        if self._listing and len(self._open) == 1:
            self._check_size(at)
            self._listing = False
            self._end_batch(at, at)
            self._part = self._outline

    def _next_item(self, at: int) -> None:
        self._check_size(at)
        self._items += 1
        if self._items >= _MOST_ITEMS:
            raise errors.invalid(
                f"'{self._cut.field}' must have at most {_MOST_ITEMS} items.", param=self._cut.field
            )
        if self._size + at - self._copied - self._batch_began > _STEP_BYTES:
            self._end_batch(at, at + 1)
            self._part = [b"["]
            self._batch_first = self._items
            self._batch_began = self._size
        self._item_began = self._size + at - self._copied

    def _check_size(self, at: int) -> None:
        size = self._size + at - self._copied
        if self._listing and size - self._item_began > _MOST_ITEM_BYTES:
            param = f"{self._cut.field}[{self._items}]"
            raise errors.invalid(
                f"'{param}' is larger than {_MOST_ITEM_BYTES} bytes without its long texts.",
                param=param,
                code="request_too_complex",
            )
        if not self._listing and size - self._listed > _MOST_OTHER_BYTES:
            raise errors.invalid(
                f"What is beside '{self._cut.field}' is larger than {_MOST_OTHER_BYTES} bytes without its "
                "long texts.",
                code="request_too_complex",
            )

    def _end_batch(self, at: int, after: int) -> None:
        self._copy(at, after)
        self._listed += self._size - self._batch_began
        if self._part is self._outline:
            return
        batch = b"".join((*self._part, b"]"))
        if not batch[1:-1].strip():
            raise msgspec.DecodeError("JSON is malformed: an item of a list is missing")
        self._cut.batches.append(Batch(self._batch_first, batch))
