"""Forms that the servers' own routes answer: what is read of them, and what is passed on."""

import aiohttp
import pytest

from modelset_proxy.openai import errors, forms, passthrough
from serve_app.tests import fake_ollama, running

_FORM = b"multipart/form-data; boundary=x"


def _field(name: str, data: bytes, more: str = "") -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (
        name.encode(),
        more.encode(),
        data,
    )


def test_form_is_made_anew_with_the_model_changed() -> None:
    audio = b"\x00whisper\r\n\r\n--y\xff"
    sent = _field("model", b"whisper") + _field("file", audio, '; filename="a \\"b\\".wav"') + b"--x--\r\n"
    passed = passthrough.form_request(_FORM, sent)
    assert passed.model == "whisper"
    content_type, body = passed.rename("w:1")
    again = forms.form(content_type, body)
    assert [(part.name, part.data) for part in again.parts] == [("model", b"w:1"), ("file", audio)]
    assert again.parts[1].filename is not None


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"multipart/form-data", b"--x--"),
        (_FORM, b"--x--\r\n"),
        (_FORM, b"nothing"),
        (_FORM, _field("model", b"b").replace(b"--x", b"--z") + _field("model", b"a") + b"--x--\r\n"),
        (_FORM, _field("file", b"") + b"--x--\r\n"),
        (_FORM, _field("model", b"a")),
        (_FORM, _field("model", b"a") + _field("model", b"b") + b"--x--\r\n"),
        (_FORM, _field("model", b"a") * 65 + b"--x--\r\n"),
        (_FORM, b"--x\r\nContent-Type: text/plain\r\n\r\na\r\n--x--\r\n"),
    ],
)
def test_a_form_that_cannot_be_read_is_a_400(content_type: bytes, body: bytes) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.form_request(content_type, body)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("form", "answer"),
    [("", b"application/json"), ("json", b"application/json"), ("text", b"text/plain; charset=utf-8")],
)
def test_the_answer_is_labelled_as_what_was_asked_for(form: str, answer: bytes) -> None:
    fields = _field("model", b"w") + (_field("response_format", form.encode()) if form else b"")
    assert passthrough.form_request(_FORM, fields + b"--x--\r\n").answer == answer


@pytest.mark.parametrize(("stream", "taken"), [(b"false", True), (b"true", False), (b"1", False)])
def test_transcriptions_are_not_streamed(stream: bytes, taken: bool) -> None:
    body = _field("model", b"w") + _field("stream", stream) + b"--x--\r\n"
    if taken:
        assert passthrough.form_request(_FORM, body).model == "w"
        return
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.form_request(_FORM, body)
    assert (refusal.value.status, refusal.value.param) == (400, "stream")


async def test_what_this_ollama_does_not_offer_is_a_404(ollama: fake_ollama.FakeOllama) -> None:
    form = aiohttp.FormData()
    form.add_field("model", "smollm2")
    form.add_field("file", b"RIFF", filename="a.wav")
    async with (
        running.proxied(ollama.url) as (session, _),
        session.post("/v1/audio/transcriptions", data=form) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_url")
