"""Which images reach Ollama, and that looking at them holds up nobody."""

import asyncio
import base64
import json
import re
import zlib
from typing import Any

import pytest

from modelset_proxy.engines.ollama import engine, images
from modelset_proxy.openai import catalog, errors, requests
from serve_app.tests import asking, fake_ollama, pictures, running

_MODEL = catalog.Model(name="m:1", served_names=("m",), kind=catalog.ANY)
_STEP_BYTES = 128 * 1024


def _encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _message(*encoded: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}} for text in encoded]
    return {"role": "user", "content": parts}


async def _check(*encoded: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}, _message(*encoded)]}
    job = await engine.Ollama().chat(requests.chat(json.dumps(body).encode()), _MODEL)
    await job.check()


_HUGE = {
    "one chunk": pictures.commented(600_000),
    "chunks": pictures.cut_up(16_384),
    "padding": pictures.stuffed(600_000, b"\xff"),
    "restarts": pictures.stuffed(600_000, b"\xff\xd0"),
    "pixels": pictures.stuffed(600_000, b"x"),
    "segments": pictures.segmented(16_000),
}


@pytest.mark.parametrize("image", [*pictures.WHOLE.values(), *_HUGE.values()], ids=[*pictures.WHOLE, *_HUGE])
async def test_a_whole_image_is_fine(image: bytes) -> None:
    await _check(_encoded(image))


@pytest.mark.parametrize("case", pictures.BROKEN)
async def test_what_is_no_whole_image_never_reaches_ollama(case: str) -> None:
    """A runner with a projector dies of it, and the answers of other clients with it."""
    with pytest.raises(errors.ApiError) as refusal:
        await _check(_encoded(pictures.png()), _encoded(pictures.BROKEN[case]))
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (
        400,
        "messages[1].content[1].image_url.url",
        "invalid_value",
    )


async def test_an_image_may_have_a_hundred_million_pixels() -> None:
    await _check(_encoded(pictures.said_to_have(10_000)))
    with pytest.raises(errors.ApiError, match="more than 100 million pixels"):
        await _check(_encoded(pictures.said_to_have(10_001)))


@pytest.mark.parametrize("case", ["junk", "webp", "gif"])
async def test_another_format_is_told_the_ones_there_are(case: str) -> None:
    with pytest.raises(errors.ApiError, match="PNG nor JPEG"):
        await _check(_encoded(pictures.BROKEN[case]))


_LONG = _encoded(pictures.commented(300_000))


@pytest.mark.parametrize(
    "text",
    [
        "not base64 at all...",
        "AAA",
        "????" + _encoded(pictures.png()),
        _encoded(pictures.commented(3)) + "=",
        _LONG[:-4] + "\xe9AA=",
        # Where one step ends and the next begins.
        _LONG[: _STEP_BYTES - 1] + "=" + _LONG[_STEP_BYTES:],
        _LONG[:_STEP_BYTES] + "????" + _LONG[_STEP_BYTES + 4 :],
    ],
    ids=["words", "short", "first", "padded too much", "accents", "padding in the middle", "later"],
)
async def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(errors.ApiError, match="not valid base64"):
        await _check(text)


class _Worked:
    """Counts what is worked on: bytes, and parts of images at a hundredth of a step each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = self.parts = 0
        self._decode, self._crc32, self._marker = base64.b64decode, zlib.crc32, images._MARKER
        monkeypatch.setattr(images.base64, "b64decode", self._b64decode)
        monkeypatch.setattr(images.zlib, "crc32", self._checksum)
        monkeypatch.setattr(images, "_MARKER", self)

    def _b64decode(self, text: str, *, validate: bool) -> bytes:
        self.bytes += len(text)
        return self._decode(text, validate=validate)

    def _checksum(self, data: memoryview, begun: int) -> int:
        self.bytes += len(data)
        self.parts += 1
        return self._crc32(data, begun)

    def search(self, data: bytearray, position: int, end: int) -> re.Match[bytes] | None:
        found = self._marker.search(data, position, end)
        self.bytes += (found.end() if found else end) - position
        self.parts += 1
        return found


@pytest.mark.parametrize("case", _HUGE)
def test_a_step_is_short_whatever_is_looked_at(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _encoded(_HUGE[case])
    worked = _Worked(monkeypatch)
    done: list[tuple[int, int]] = []
    steps = images.look(text)
    while next(steps, "ended") is None:
        done.append((worked.bytes, worked.parts))
        worked.bytes = worked.parts = 0
    longest, most = map(max, zip(*done, (worked.bytes, worked.parts), strict=True))
    assert 0 < longest <= 2 * _STEP_BYTES
    assert 0 < most <= 257
    assert len(done) < 200


@pytest.mark.parametrize("image", [pictures.cut_up(16_385), pictures.segmented(16_384)], ids=["png", "jpeg"])
async def test_an_image_in_too_many_parts_is_refused(image: bytes) -> None:
    with pytest.raises(errors.ApiError, match="more than 16384 chunks or segments"):
        await _check(_encoded(image))


async def test_a_marker_is_found_where_two_steps_meet() -> None:
    size = _STEP_BYTES - len(pictures.PROGRESSIVE) + pictures.PROGRESSIVE.rindex(b"\xff\xda")
    for more in range(-3, 30):
        await _check(_encoded(pictures.stuffed(size + more, b"x")))


async def test_all_images_together_take_one_step_a_turn() -> None:
    inspector = images.Inspector()
    turns, taken = 0, list[int]()
    genuine = images.look

    def counted(text: str) -> images.Look:
        steps = genuine(text)
        while True:
            taken.append(turns)
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "look", counted)
        small, long = _encoded(pictures.png()), _encoded(pictures.commented(300_000))
        checks = [
            asyncio.create_task(inspector.check([("a", long)])),
            asyncio.create_task(inspector.check([("b", small), ("c", small)])),
        ]
        while not all(check.done() for check in checks):
            turns += 1
            await asyncio.sleep(0)
    # The last of an image may share its turn with the first of the next.
    assert max(taken.count(turn) for turn in taken) <= 2
    assert len(set(taken)) >= len(taken) - 3


async def test_a_request_has_its_images_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    genuine = images.look

    def look(text: str) -> images.Look:
        looked.append(text)
        return genuine(text)

    monkeypatch.setattr(images, "look", look)
    fake = fake_ollama.FakeOllama()
    picture = _encoded(pictures.png())
    config = {"models": [{**running.USER_CONFIG["models"][1], "capabilities": ["completion", "vision"]}]}
    async with fake_ollama.running(fake), running.proxied(fake.url, user_config=config) as (session, _):
        assert (await asking.ask(session, messages=[_message(picture)], n=3, seed=1))[0] == 200
        assert (await asking.ask(session, messages=[_message("AAAA")]))[0] == 400
    assert looked == [picture, "AAAA"]
    assert [sent["messages"][0]["images"] for sent in fake.sent("/api/chat")] == [[picture]] * 3


async def test_a_scan_needs_a_frame_before_it_and_no_other_segment_will_do() -> None:
    image = b"\xff\xd8" + b"\xff\xe0\x00\x02" + b"\xff\xda\x00\x02x" + b"\xff\xd9"
    with pytest.raises(errors.ApiError, match="damaged"):
        await _check(_encoded(image))
