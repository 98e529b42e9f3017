"""The parts that need no registry: challenges, credentials, ranges, and files on a volume."""

import fcntl
import hashlib
import json
import os
import pathlib
from typing import Any

import pytest

from modelset_cache import __main__ as program
from modelset_cache import challenges, credentials, ranges, store


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ("", "", {}),
        ("Basic", "basic", {}),
        ('Basic realm="Models, all of them"', "basic", {"realm": "Models, all of them"}),
        (
            'Bearer realm="https://auth.example/token",service="models",scope="repository:a/b:pull"',
            "bearer",
            {"realm": "https://auth.example/token", "service": "models", "scope": "repository:a/b:pull"},
        ),
        ('bearer Realm="a\\"b", service=models', "bearer", {"realm": 'a"b', "service": "models"}),
    ],
)
def test_challenges_are_read(header: str, scheme: str, parameters: dict[str, str]) -> None:
    assert challenges.parse(header) == challenges.Challenge(scheme, parameters)


KNOWN = credentials.Credentials("alice", "s:3cret")
PAIR = "YWxpY2U6czozY3JldA=="


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"auths": {"models.example:5000": {"username": "alice", "password": "s:3cret"}}}, KNOWN),
        ({"auths": {"models.example:5000": {"auth": PAIR}}}, KNOWN),
        ({"auths": {"https://Models.Example:5000/v2/": {"auth": PAIR}}}, KNOWN),
        (
            {"auths": {"models.example:5000": {"registrytoken": "t"}}},
            credentials.Credentials("", "", "t"),
        ),
        ({"auths": {"models.example": {"auth": PAIR}}}, credentials.NOBODY),
        ({"auths": {"models.example:5000": {"auth": "no base64"}}}, credentials.NOBODY),
        ({"auths": {"models.example:5000": {"auth": "YWxpY2U6!czozY3JldA=="}}}, credentials.NOBODY),
        ({"auths": {"models.example:5000": "alice"}}, credentials.NOBODY),
        ({"auths": []}, credentials.NOBODY),
        ([], credentials.NOBODY),
    ],
)
def test_credentials_are_those_of_the_host(config: Any, found: credentials.Credentials) -> None:
    assert credentials.of_host(config, "models.example:5000") == found


def test_credentials_are_read_from_the_file_as_it_is_now(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.json"
    assert credentials.read(None, "h") == credentials.read(path, "h") == credentials.NOBODY
    path.write_text("{")
    assert credentials.read(path, "h") == credentials.NOBODY
    path.write_text(json.dumps({"auths": {"h": {"auth": PAIR}}}))
    assert credentials.read(path, "h").basic == f"Basic {PAIR}"
    assert credentials.NOBODY.basic == ""


def test_credentials_are_in_no_traceback() -> None:
    assert "3cret" not in repr(KNOWN)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, 100)),
        ("bytes=90-200", (90, 100)),
        ("bytes=99-99", (99, 100)),
        ("bytes=0-1,4-5", None),
        ("bytes=-5", None),
        ("lines=1-2", None),
    ],
)
def test_ranges_are_read(header: str | None, part: tuple[int, int] | None) -> None:
    assert ranges.asked(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=9-8", "bytes=200-300"])
def test_ranges_beyond_the_end_are_told(header: str) -> None:
    with pytest.raises(ranges.UnsatisfiableError):
        ranges.asked(header, 100)


@pytest.mark.parametrize(
    ("header", "found"),
    [("bytes 5-9/100", (5, 100)), ("bytes 5-9/*", None), ("", None), ("bytes */100", None)],
)
def test_what_part_came_is_read(header: str, found: tuple[int, int] | None) -> None:
    assert ranges.answered(header) == found


def test_a_blob_is_as_long_as_its_files(tmp_path: pathlib.Path) -> None:
    content = bytes(range(25))
    kept = store.Store(tmp_path, 1000, chunk_bytes=10)
    blob = kept.make(digest(content), len(content))
    assert (blob.chunks, [blob.length(index) for index in range(3)]) == (3, [10, 10, 5])
    blob.append(0, content[:10])
    blob.append(1, content[10:14])
    blob.append(2, content[20:])
    again = kept.find(digest(content))
    assert again is not None
    assert (again.size, again.have, again.complete, again.whole) == (25, [10, 4, 5], False, False)
    again.append(1, content[14:20])
    assert again.complete
    assert b"".join(again.read(at, 7) for at in (0, 7, 10, 17, 20)) == content
    again.verify()
    assert again.whole
    assert kept.find(digest(b"another")) is None


def test_a_blob_of_other_bytes_is_found_out(tmp_path: pathlib.Path) -> None:
    blob = store.Store(tmp_path, 1000, chunk_bytes=10).make(digest(b"true"), 4)
    blob.append(0, b"lies")
    with pytest.raises(store.LyingError):
        blob.verify()
    assert not blob.whole


def test_a_full_disk_leaves_what_was_written(tmp_path: pathlib.Path) -> None:
    blob = store.Store(tmp_path, 1000, chunk_bytes=10).make(digest(b"ab"), 2)
    blob.append(0, b"a")
    blob.folder.joinpath("0").unlink()
    blob.folder.joinpath("0").mkdir()
    with pytest.raises(OSError, match="0"):
        blob.append(0, b"b")


@pytest.mark.parametrize(
    ("sizes", "in_use", "wanted", "left"),
    [
        ([30, 30, 30], [], 10, [0, 1, 2]),
        ([30, 30, 30], [], 11, [1, 2]),
        ([30, 30, 30], [], 70, [2]),
        ([30, 30, 30], [0], 40, [0, 2]),
        ([30, 30, 30], [0], 70, [0]),
    ],
)
def test_what_was_used_longest_ago_makes_room(
    tmp_path: pathlib.Path, sizes: list[int], in_use: list[int], wanted: int, left: list[int]
) -> None:
    kept = store.Store(tmp_path, 100)
    digests = [digest(bytes([index])) for index in range(len(sizes))]
    for index, size in enumerate(sizes):
        blob = kept.make(digests[index], size)
        os.utime(blob.folder, (index, index))
    kept.make(digest(b"new"), wanted, frozenset(digests[index] for index in in_use))
    assert [index for index, one in enumerate(digests) if kept.find(one)] == left


def test_what_is_in_use_is_left_even_where_no_room_can_be_made(tmp_path: pathlib.Path) -> None:
    kept = store.Store(tmp_path, 100)
    kept.make(digest(b"a"), 60)
    with pytest.raises(store.NoRoomError, match="41 bytes are wanted, of 100 for all; 60 are in use"):
        kept.make(digest(b"b"), 41, frozenset({digest(b"a")}))
    assert kept.find(digest(b"a")) is not None


def test_other_folders_of_a_volume_are_no_blobs(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lost+found").mkdir()
    kept = store.Store(tmp_path, 100)
    kept.make(digest(b"a"), 60)
    kept.make(digest(b"b"), 60)
    assert (tmp_path / "lost+found").exists()


def test_two_processes_do_not_write_to_one_volume(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "blobs"
    with store.alone(folder), (folder / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert store.Store(folder, 100).make(digest(b"a"), 1).size == 1


def test_the_command_line_names_what_it_needs() -> None:
    parsed = program.parse(["--folder=/f", "--bytes=10", "--insecure=a", "--insecure=b"])
    assert (parsed.folder, parsed.bytes, parsed.insecure) == (pathlib.Path("/f"), 10, ["a", "b"])
    assert (parsed.credentials, parsed.port, parsed.watch_port) == (None, 5000, 8081)
