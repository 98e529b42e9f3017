"""Multipart forms, read into parts and made anew from them. Pure."""

import secrets

import msgspec
from python_multipart import exceptions, multipart

from modelset_proxy.openai import errors

_MOST_PARTS = 64
_TEXT_BYTES = 1024


class Part(msgspec.Struct, frozen=True):
    """One field of a form; ``filename`` and ``content_type`` are None where the client gave none."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str | None = None


class Form(msgspec.Struct, frozen=True):
    """The parts of a form in their order."""

    parts: tuple[Part, ...]

    def text(self, name: str) -> str | None:
        """Return the text of a field that may come once; None without it, a 400 for more than one."""
        found = [part.data for part in self.parts if part.name == name]
        if not found:
            return None
        if len(found) > 1:
            raise errors.invalid(f"'{name}' is given more than once.", param=name)
        return found[0][:_TEXT_BYTES].decode("utf-8", "replace")

    def encode(self, **texts: str) -> tuple[bytes, bytes]:
        """Return content type and body of the form, with some of its fields replaced."""
        boundary = secrets.token_hex(16).encode()
        body = b"".join(
            b"--%s\r\n%s\r\n\r\n%s\r\n"
            % (boundary, _head(part), texts[part.name].encode() if part.name in texts else part.data)
            for part in self.parts
        )
        return b"multipart/form-data; boundary=" + boundary, body + b"--" + boundary + b"--\r\n"


def form(content_type: bytes, body: bytes) -> Form:
    """Read a form; raises a 400."""
    kind, options = multipart.parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _broken("its content type names no boundary")
    reader = _Reader()
    parser = multipart.MultipartParser(boundary, reader.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except exceptions.MultipartParseError as problem:
        raise _broken(str(problem)) from None
    if not reader.ended:
        raise _broken("it is cut off")
    return Form(tuple(reader.parts))


class _Reader:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = self._data = b""
        self._chunks: list[bytes] = []

    def callbacks(self) -> "multipart.MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            raise _broken(f"it has more than {_MOST_PARTS} parts")
        self._headers, self._chunks = {}, []

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end_part(self) -> None:
        _, options = multipart.parse_options_header(self._headers.get(b"content-disposition", b""))
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise _broken("a part of it has no name")
        content_type = self._headers.get(b"content-type")
        self.parts.append(
            Part(
                name.decode("utf-8", "replace"),
                b"".join(self._chunks),
                None if filename is None else filename.decode("utf-8", "replace"),
                None if content_type is None else content_type.decode("latin-1"),
            )
        )

    def _end(self) -> None:
        self.ended = True


def _head(part: Part) -> bytes:
    head = f'Content-Disposition: form-data; name="{_quoted(part.name)}"'
    if part.filename is not None:
        head += f'; filename="{_quoted(part.filename)}"'
    if part.content_type is not None:
        head += f"\r\nContent-Type: {_one_line(part.content_type)}"
    return head.encode()


def _quoted(text: str) -> str:
    """As browsers do it: what would end the quotes or the line is written as a percent escape."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _broken(why: str) -> errors.ApiError:
    return errors.invalid(f"The form cannot be read: {why}.", code="invalid_form")
