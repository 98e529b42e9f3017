"""Ollamas that pull through the cache: what comes from outside, how often, and what bad registries do."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import pytest
from aiohttp import test_utils

from modelset_cache import server, store, transfers, upstream

from . import fake_registry
from .conftest import CHUNK, LIMIT, PullError, World, until

NAME = "library/smollm2:135m"
ALICE, WRONG = ({"username": "alice", "password": word} for word in ("s3cret", "wrong"))
Make = Callable[[int], bytes]


async def begin(world: World, *layers: bytes) -> None:
    world.registry.publish(NAME, *layers)
    await world.start_cache()


def elsewhere(world: World, content: bytes) -> str:
    """Return where the cache sends on to who wants a blob."""
    host, _, port = world.registry.host.partition(":")
    return f"http://{host}.cache.invalid:{port}/v2/library/smollm2/blobs/{fake_registry.digest_of(content)}"


async def test_three_pods_cost_one_download_from_outside(world: World, model: Make) -> None:
    weights, config = model(17 * CHUNK + 5), b"{}"
    await begin(world, weights, config)
    ollamas = [world.ollama() for _ in range(3)]
    await asyncio.gather(*(one.pull(world.registry.host, NAME) for one in ollamas))
    assert all(set(one.blobs.values()) == {weights, config} for one in ollamas)
    assert world.registry.sent == len(weights) + len(config)


async def test_parts_that_are_asked_for_out_of_order_come_once_too(world: World, model: Make) -> None:
    weights = model(10 * CHUNK)
    await begin(world, weights, b"{}")
    url = elsewhere(world, weights)

    async def part(start: int, end: int) -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        async with world.session.get(url, proxy=world.proxy, headers=headers) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (
                206,
                f"bytes {start}-{end - 1}/{len(weights)}",
            )
            return await answer.read()

    ends = [(7200, 10_000), (0, 2500), (2500, 7200), (0, 10_000)]
    assert await asyncio.gather(*(part(*one) for one in ends)) == [weights[a:b] for a, b in ends]
    assert world.registry.sent == len(weights)


async def test_a_cache_that_is_killed_goes_on_at_the_byte_where_it_was(world: World, model: Make) -> None:
    weights = model(9 * CHUNK)
    await begin(world, weights, b"{}")
    world.registry.hold_after = 300
    pull = asyncio.create_task(world.ollama().pull(world.registry.host, NAME))
    digest = fake_registry.digest_of(weights)
    kept = store.Store(world.folder, world.limit, CHUNK)

    def have() -> int:
        blob = kept.find(digest)
        return sum(blob.have) if blob else 0

    # Of two chunks the first bytes have come, and no more.
    await until(lambda: have() == 600)
    pull.cancel()
    await world.stop_cache()
    world.registry.hold_after = None
    world.registry.proceed.set()
    await asyncio.gather(pull, return_exceptions=True)
    assert have() == 600
    world.registry.asked.clear()
    await world.start_cache()
    ollama = world.ollama()
    await ollama.pull(world.registry.host, NAME)
    assert ollama.blobs[digest] == weights
    parts = [int(one.rpartition("=")[2].partition("-")[0]) for one in world.registry.parts if digest in one]
    assert sorted(parts) == sorted([0, CHUNK, 300, CHUNK + 300, *range(2 * CHUNK, 9 * CHUNK, CHUNK)])


async def test_what_is_there_is_served_when_a_cache_has_restarted(world: World, model: Make) -> None:
    weights = model(3 * CHUNK)
    await begin(world, weights, b"{}")
    await world.ollama().pull(world.registry.host, NAME)
    await world.stop_cache()
    await world.start_cache()
    world.registry.sent = 0
    await world.ollama().pull(world.registry.host, NAME)
    assert world.registry.sent == 0


@pytest.mark.parametrize("wants", ["basic", "bearer"])
async def test_it_says_who_the_set_is_and_who_pulls_does_not_know(
    world: World, model: Make, wants: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.registry.wants = wants
    world.knows(**ALICE)
    await begin(world, model(2 * CHUNK), b"{}")
    ollama = world.ollama()
    await ollama.pull(world.registry.host, NAME)
    assert len(ollama.blobs) == 2
    if wants == "bearer":
        # One token is good for all that is pulled of one repository.
        assert world.registry.tokens == [{"scope": "repository:library/smollm2:pull", "service": "models"}]
    assert not any(word in caplog.text for word in ("s3cret", "t0ken", "YWxpY2U"))


async def test_a_token_of_ones_own_needs_no_challenge(world: World, model: Make) -> None:
    world.registry.wants = "bearer"
    world.knows(registrytoken="t0ken")
    await begin(world, model(CHUNK), b"{}")
    await world.ollama().pull(world.registry.host, NAME)
    assert world.registry.tokens == []


async def test_credentials_that_change_are_taken_up(world: World, model: Make) -> None:
    world.registry.wants = "basic"
    world.knows(**WRONG)
    await begin(world, model(CHUNK), b"{}")
    with pytest.raises(PullError):
        await world.ollama().pull(world.registry.host, NAME)
    world.knows(**ALICE)
    await world.ollama().pull(world.registry.host, NAME)


@pytest.mark.parametrize("wants", ["basic", "bearer"])
@pytest.mark.parametrize("known", [{}, WRONG])
async def test_a_registry_that_refuses_is_told_with_what_to_do(
    world: World, model: Make, wants: str, known: dict[str, str]
) -> None:
    world.registry.wants = wants
    world.knows(**known)
    await begin(world, model(CHUNK), b"{}")
    with pytest.raises(PullError) as refused:
        await world.ollama().pull(world.registry.host, NAME)
    host = world.registry.host
    assert str(refused.value) == (
        f"pull model manifest: 403: {host} refuses access to library/smollm2 (401): is it in the Secret that"
        " spec.registry.credentialsSecret names?"
    )


async def test_what_the_registry_does_not_have_nobody_has(world: World, model: Make) -> None:
    await begin(world, model(CHUNK), b"{}")
    with pytest.raises(PullError, match="file does not exist"):
        await world.ollama().pull(world.registry.host, "library/none:1")


async def test_a_registry_that_cuts_and_fails_is_asked_again_for_the_rest(world: World, model: Make) -> None:
    weights = model(9 * CHUNK)
    await begin(world, weights, b"{}")
    world.registry.cuts = [300, 10, 20]
    world.registry.failing = [503, 500]
    ollama = world.ollama()
    await ollama.pull(world.registry.host, NAME)
    assert weights in ollama.blobs.values()
    assert world.registry.sent == len(weights) + len(b"{}")


async def test_one_that_goes_on_failing_is_given_up_told_and_resumed(world: World, model: Make) -> None:
    weights = model(2 * CHUNK)
    await begin(world, weights, b"{}")
    world.registry.failing = [503] * 1000
    with pytest.raises(PullError, match="max retries exceeded"):
        await world.ollama().pull(world.registry.host, NAME)
    world.registry.failing = []
    await world.ollama().pull(world.registry.host, NAME)
    assert world.registry.sent == len(weights) + len(b"{}")


async def test_what_is_not_what_its_digest_says_is_thrown_away(world: World, model: Make) -> None:
    weights = model(5 * CHUNK)
    await begin(world, weights, b"{}")
    digest = fake_registry.digest_of(weights)
    world.registry.lies = {digest: bytes(len(weights))}
    ollama = world.ollama()
    with pytest.raises(PullError, match="digest mismatch"):
        await ollama.pull(world.registry.host, NAME)
    assert not ollama.blobs
    kept = store.Store(world.folder, world.limit, CHUNK)
    await until(lambda: kept.find(digest) is None)
    world.registry.lies = {}
    await ollama.pull(world.registry.host, NAME)
    assert ollama.blobs[digest] == weights


async def test_a_lie_that_was_not_found_out_before_a_restart_is_after_it(world: World, model: Make) -> None:
    weights = model(2 * CHUNK)
    await begin(world, weights, b"{}")
    digest = fake_registry.digest_of(weights)
    kept = store.Store(world.folder, world.limit, CHUNK)
    blob = kept.make(digest, len(weights))
    for index in range(2):
        blob.append(index, bytes(CHUNK))
    ollama = world.ollama()
    # It may have got the old bytes or the new ones.
    with contextlib.suppress(PullError):
        await ollama.pull(world.registry.host, NAME)
    await ollama.pull(world.registry.host, NAME)
    assert ollama.blobs[digest] == weights


async def test_a_registry_without_ranges_serves_too(world: World, model: Make) -> None:
    weights = model(9 * CHUNK)
    world.registry.knows_ranges = False
    await begin(world, weights, b"{}")
    ollama = world.ollama()
    await ollama.pull(world.registry.host, NAME)
    assert weights in ollama.blobs.values()


async def test_a_registry_that_is_not_said_to_be_insecure_is_asked_over_tls(
    world: World, model: Make
) -> None:
    world.insecure = False
    await begin(world, model(CHUNK), b"{}")
    with pytest.raises(PullError, match=f"502: {world.registry.host} does not answer"):
        await world.ollama().pull(world.registry.host, NAME)
    assert world.registry.asked == []


async def test_a_silent_registry_is_left_in_time(
    world: World, model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(transfers, "TRIES", 1)
    await begin(world, model(CHUNK), b"{}")
    world.registry.hold_after = 0
    with pytest.raises(PullError, match="max retries exceeded"):
        await world.ollama(tries=1).pull(world.registry.host, NAME)


async def test_a_manifest_without_end_is_not_read_to_it(
    world: World, model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "MOST_SMALL_BYTES", 10)
    await begin(world, model(CHUNK), b"{}")
    with pytest.raises(PullError, match="answers with more than 10 bytes"):
        await world.ollama().pull(world.registry.host, NAME)


async def test_what_can_never_fit_is_refused_with_what_to_do(world: World, model: Make) -> None:
    world.limit = 2 * CHUNK
    await begin(world, model(2 * CHUNK + 1), b"{}")
    with pytest.raises(
        PullError, match=r"507: .* has 2001 bytes, .* room for 2000: raise spec\.registry\.cache\.size"
    ):
        await world.ollama().pull(world.registry.host, NAME)
    world.registry.publish("library/fits:1", model(2 * CHUNK), b"")
    await world.ollama().pull(world.registry.host, "library/fits:1")


async def test_a_full_cache_lets_go_of_what_was_used_longest_ago(world: World, model: Make) -> None:
    world.limit = 7 * CHUNK
    await world.start_cache()
    for tag, size in (("a", 2), ("b", 3), ("c", 4)):
        world.registry.publish(f"library/m:{tag}", model(size * CHUNK), tag.encode())
        await world.ollama().pull(world.registry.host, f"library/m:{tag}")
    kept = store.Store(world.folder, world.limit, CHUNK)
    there = [size for size in (2, 3, 4) if kept.find(fake_registry.digest_of(model(size * CHUNK)))]
    assert there == [4]


async def test_what_is_no_registrys_is_not_answered(world: World, model: Make) -> None:
    await begin(world, model(CHUNK), b"{}")
    for path, status in (
        ("/", 404),
        ("/v2/m/blobs/sha256:00", 404),
        ("/v2/../manifests/1", 404),
        ("/v2/m/manifests/a%2Fb", 404),
    ):
        async with world.session.get(f"http://{world.registry.host}{path}", proxy=world.proxy) as answer:
            assert answer.status == status, path
    async with world.session.post(
        f"http://{world.registry.host}/v2/m/manifests/1", proxy=world.proxy
    ) as answer:
        assert answer.status == 405
    headers = {"Host": "a b"}
    async with world.session.get(f"{world.proxy}/v2/m/manifests/1", headers=headers) as answer:
        assert (answer.status, await answer.text()) == (400, "the header Host names no registry")
    assert world.registry.asked == []


async def test_a_range_beyond_the_end_is_refused(world: World, model: Make) -> None:
    weights = model(CHUNK)
    await begin(world, weights, b"{}")
    headers = {"Range": f"bytes={CHUNK}-"}
    async with world.session.get(elsewhere(world, weights), proxy=world.proxy, headers=headers) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{CHUNK}")


async def test_errors_of_blobs_have_no_body_which_ollama_would_keep(world: World, model: Make) -> None:
    weights = model(CHUNK)
    await begin(world, weights, b"{}")
    large = bytes(LIMIT + 1)
    world.registry.publish("library/large:1", large, b"{}")
    world.registry.failing = [403]
    for content, status in ((weights, 502), (b"none", 404), (large, 507)):
        async with world.session.get(elsewhere(world, content), proxy=world.proxy) as answer:
            assert (answer.status, await answer.read()) == (status, b"")


async def test_a_pod_that_leaves_ends_the_download_when_nobody_else_reads(world: World, model: Make) -> None:
    weights = model(50 * CHUNK)
    await begin(world, weights, b"{}")
    world.registry.hold_after = CHUNK // 2
    pull = asyncio.create_task(world.ollama(part_bytes=len(weights)).pull(world.registry.host, NAME))
    await until(lambda: world.registry.sent > 0)
    pull.cancel()
    await asyncio.gather(pull, return_exceptions=True)
    kept = store.Store(world.folder, world.limit, CHUNK)
    world.registry.proceed.set()

    def have() -> int:
        blob = kept.find(fake_registry.digest_of(weights))
        return sum(blob.have) if blob else 0

    # What was begun is ended, and the one after it.
    await until(lambda: have() >= 2 * CHUNK)
    await asyncio.sleep(0.02)
    assert have() <= 3 * CHUNK


@pytest.mark.parametrize("body", [b'{"manifests": []}', b"no JSON", b'{"layers": [{}]}', b'{"layers": []}'])
async def test_manifests_of_other_kinds_are_passed_on(world: World, body: bytes) -> None:
    world.registry.manifests["library/m/1"] = body
    await world.start_cache()
    url = f"http://{world.registry.host}/v2/library/m/manifests/1"
    async with world.session.get(url, proxy=world.proxy) as answer:
        assert (answer.status, await answer.read()) == (200, body)


@pytest.mark.parametrize("names_digests", [True, False])
async def test_a_manifest_is_passed_on_with_what_the_registry_says_of_it(
    world: World, model: Make, names_digests: bool
) -> None:
    world.registry.names_digests = names_digests
    await begin(world, model(CHUNK), b"{}")
    body = world.registry.manifests["library/smollm2/135m"]
    url = f"http://{world.registry.host}/v2/library/smollm2/manifests/135m"
    async with world.session.get(url, proxy=world.proxy) as answer:
        assert await answer.read() == body
        found = answer.headers.get("Content-Type"), answer.headers.get("Docker-Content-Digest")
    assert found == (fake_registry.MANIFEST_TYPE, fake_registry.digest_of(body) if names_digests else None)


async def test_the_registry_hears_who_pulls_and_what_is_understood(world: World, model: Make) -> None:
    await begin(world, model(CHUNK), b"{}")
    url = f"http://{world.registry.host}/v2/library/smollm2/manifests/135m"
    ollama = {"User-Agent": "ollama/0.17", "Accept": "application/x"}
    for headers in (ollama, {}):
        async with world.session.get(
            url, proxy=world.proxy, headers=headers, skip_auto_headers=["User-Agent", "Accept"]
        ) as answer:
            assert answer.ok
    heard = [{name: one.get(name) for name in ollama} for one in world.registry.heard]
    assert heard == [ollama, {"User-Agent": "modelset-cache", "Accept": "*/*"}]


async def test_a_blob_that_is_asked_for_as_a_whole_comes_as_a_whole(world: World, model: Make) -> None:
    weights = model(2 * CHUNK + 5)
    await begin(world, weights, b"{}", b"")
    for content in (weights, b""):
        for method, body in (("HEAD", b""), ("GET", content)):
            async with world.session.request(method, elsewhere(world, content), proxy=world.proxy) as answer:
                assert (answer.status, await answer.read()) == (200, body)
                told = ("Content-Length", "Content-Type", "Docker-Content-Digest", "Accept-Ranges")
                assert [answer.headers.get(name) for name in (*told, "Content-Range")] == [
                    str(len(content)),
                    "application/octet-stream",
                    fake_registry.digest_of(content),
                    "bytes",
                    None,
                ]


async def test_a_registry_that_sends_on_is_followed_and_the_other_host_learns_nothing(
    world: World, model: Make
) -> None:
    world.registry.wants = "basic"
    world.registry.sends_on = True
    world.knows(**ALICE)
    weights = model(2 * CHUNK)
    await begin(world, weights, b"{}")
    ollama = world.ollama()
    await ollama.pull(world.registry.host, NAME)
    assert weights in ollama.blobs.values()
    assert set(world.registry.signed) == {("by=a%2Bb%2Fc%3D&d=e+f", False)}


async def test_it_tells_that_it_lives_and_what_it_has_counted(world: World, model: Make) -> None:
    def counted(page: str, what: str) -> float:
        (line,) = [one for one in page.splitlines() if one.startswith(f"modelset_cache_{what}_bytes_total ")]
        return float(line.split()[1])

    watched = test_utils.TestServer(server.watched())
    await watched.start_server()

    async def page(path: str) -> str:
        async with world.session.get(watched.make_url(path)) as answer:
            assert (answer.status, answer.content_type) == (200, "text/plain")
            return await answer.text()

    assert await page("/healthz") == "ok"
    before = await page("/metrics")
    await begin(world, model(2 * CHUNK), b"{}")
    for _ in range(2):
        await world.ollama().pull(world.registry.host, NAME)
    after = await page("/metrics")
    found = {what: counted(after, what) - counted(before, what) for what in ("fetched", "served")}
    assert found == {"fetched": 2 * CHUNK + 2, "served": 2 * (2 * CHUNK + 2)}
    await watched.close()
