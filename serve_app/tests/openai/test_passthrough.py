"""Requests that Ollama's own routes answer: what is read of them, and what is passed on."""

import base64
import json
from typing import Any

import aiohttp
import pytest

from modelset_proxy.engines.ollama import engine
from modelset_proxy.openai import catalog, errors, forms, passthrough
from serve_app.tests import fake_ollama, pictures, running


def test_passed_on_bodies_change_in_the_model_only() -> None:
    passed = passthrough.json_request(b'{"input": [{"model": "x"}], "model": "a", "stream": true, "n": 1e3}')
    assert (passed.model, passed.stream) == ("a", True)
    content_type, body = passed.rename("b")
    assert content_type == b"application/json"
    assert json.loads(body) == {"input": [{"model": "x"}], "model": "b", "stream": True, "n": 1000}


def test_what_is_passed_on_is_what_was_read() -> None:
    passed = passthrough.json_request(
        b'{"model": "x", "model": "a", "input": [{"content": 1, "content": "y"}]}'
    )
    assert passed.model == "a"
    assert passed.rename("b")[1] == b'{"model":"b","input":[{"content":"y"}]}'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "a", "MODEL": "unlisted"}, "MODEL"),
        ({"model": "a", "Stream": True}, "Stream"),
        ({"model": "a", "\u017ftream": True}, "\u017ftream"),
        ({"model": "a", "Messages": []}, "Messages"),
        ({"model": "a", "Input": []}, "Input"),
        ({"model": "a", "messages": [{"Content": []}]}, "messages[0].Content"),
        ({"model": "a", "input": [{"content": [{"Type": "input_image"}]}]}, "input[0].content[0].Type"),
        (
            {"model": "a", "messages": [{"content": [{"type": "image", "source": {"DATA": "AAAA"}}]}]},
            "messages[0].content[0].source.DATA",
        ),
    ],
)
def test_a_field_that_only_ollama_would_read_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.json_request(json.dumps(body).encode())
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_names_are_free_where_only_functions_read_them() -> None:
    body = {
        "model": "a",
        "tools": [{"name": "f", "input_schema": {"properties": {"Model": {}}}}],
        "messages": [{"content": [{"type": "tool_use", "input": {"Model": 1, "Content": []}}]}],
    }
    assert json.loads(passthrough.json_request(json.dumps(body).encode()).rename("a")[1]) == body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_value"),
        (b'{"model": 1}', None),
        (b'{"model": "a", "stream": "yes"}', None),
        (b'{"model": "a", "input": "\xff"}', "invalid_json"),
        (b'{"model": "a", "input": ' + b'{"content":' * 20 + b"1" + b"}" * 21, None),
    ],
)
def test_a_passed_on_body_that_is_no_request_is_a_400(body: bytes, code: str | None) -> None:
    with pytest.raises(errors.ApiError) as refusal:
        passthrough.json_request(body)
    assert (refusal.value.status, refusal.value.code) == (400, code)


@pytest.mark.parametrize(
    ("contents", "param"),
    [
        (
            {"input": [{"content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {
                "messages": [
                    {"content": "x"},
                    {"content": [{"type": "image", "source": {"type": "base64", "data": "iVBORw0KGgo="}}]},
                ]
            },
            "messages[1].content[0].source.data",
        ),
        (
            {
                "messages": [
                    {
                        "content": [
                            {
                                "type": "tool_result",
                                "content": [{"type": "image", "source": {"type": "base64", "data": "?"}}],
                            }
                        ]
                    }
                ]
            },
            "messages[0].content[0].content[0].source.data",
        ),
    ],
)
async def test_images_that_ollama_would_not_survive_are_not_passed_on(
    contents: dict[str, Any], param: str
) -> None:
    passed = passthrough.json_request(json.dumps({"model": "a", **contents}).encode())
    model = catalog.Model(name="a", served_names=("a",), kind=catalog.CHAT)
    with pytest.raises(errors.ApiError) as refusal:
        await engine.Ollama().relay("/v1/responses", passed, model).check()
    assert (refusal.value.status, refusal.value.param) == (400, param)


async def test_whole_images_and_links_are_passed_on() -> None:
    picture = base64.b64encode(pictures.png()).decode()
    parts = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{picture}"},
        {"type": "input_image", "image_url": "https://images.example/one.png"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_text", "text": "data:image/png;base64,AAAA"},
    ]
    body = {"model": "a", "input": [{"role": "user", "content": parts}]}
    passed = passthrough.json_request(json.dumps(body).encode())
    model = catalog.Model(name="a", served_names=("a",), kind=catalog.CHAT)
    await engine.Ollama().relay("/v1/responses", passed, model).check()
    assert json.loads(passed.rename("a")[1]) == body


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


def test_answers_get_the_served_name_wherever_the_reads_end() -> None:
    data = b'data: {"response":{"model":"m:1","text":"\\"model\\":\\"m:1\\""}}\n\ndata: {"model":"m:1"}'
    wanted = data.replace(b'"model":"m:1"', b'"model":"served"')
    for size in range(1, len(data)):
        renamer = passthrough.Renamer("m:1", "served")
        out = b"".join(renamer.feed(data[at : at + size]) for at in range(0, len(data), size))
        assert out + renamer.rest() == wanted


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/messages"])
async def test_other_apis_are_passed_on(ollama: fake_ollama.FakeOllama, path: str) -> None:
    async with running.proxied(ollama.url) as (session, _):
        async with session.post(path, json={"model": "smollm2", "input": "x"}) as response:
            assert (response.status, await response.json()) == (200, {"model": "smollm2", "ok": True})
        async with session.post(path, json={"model": "smollm2", "stream": True}) as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert await response.text() == 'event: a\ndata: {"model":"smollm2"}\n\nevent: b\ndata: {}\n\n'
        async with session.post(path, json={"model": "none"}) as response:
            assert response.status == 404
        async with session.post(path, data=b"{") as response:
            body = await response.json()
            assert (response.status, body["error"]["code"]) == (400, "invalid_json")
            assert body.get("type") == ("error" if path.endswith("messages") else None)
    assert {sent["model"] for _, sent in ollama.requests if "model" in sent} >= {"smollm2:135m"}


async def test_what_this_ollama_does_not_offer_is_a_404(ollama: fake_ollama.FakeOllama) -> None:
    form = aiohttp.FormData()
    form.add_field("model", "smollm2")
    form.add_field("file", b"RIFF", filename="a.wav")
    async with (
        running.proxied(ollama.url) as (session, _),
        session.post("/v1/audio/transcriptions", data=form) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_url")
