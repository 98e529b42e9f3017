"""What one server is asked, of any engine."""

import msgspec

from modelset_proxy.engines import encoding


class Question(msgspec.Struct, frozen=True):
    """What is asked: ``param`` and ``schema`` are the fields of OpenAI's request that hold the prompt and
    what the answer is to follow, for errors; an answer that is not ``streams`` is read whole before any of
    it is handed on.
    """

    path: str
    body: bytes | encoding.Parts
    param: str
    streams: bool
    content_type: str = "application/json"
    schema: str = "response_format"
