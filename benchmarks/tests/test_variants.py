"""What surrounds the measurement of variants: what they are made of, who asks them, disk and floors."""

import asyncio
import collections
import dataclasses
import itertools
import json
import os
from pathlib import Path

import httpx
import pytest

from benchmarks.variants import asking, making, recipes, result

ALL_WELL = result.Figures(
    disk=2 * 2**20,
    loads=1,
    alone=[("I am Ada.", "I am Ada."), ("I am Bruno.", "I am Bruno.")],
    interleaved=[(0, "I am Ada."), (1, "I am Bruno."), (1, "Bruno!"), (0, "I am Ada.")],
    seconds=2.0,
)


def test_no_two_variants_are_alike() -> None:
    made = recipes.variants(50)
    for told in ([variant.name for variant in made], [variant.by_hand for variant in made]):
        assert len(set(told)) == 50
    # Also apart from the number of years, so that their answers differ.
    assert len({variant.system.partition(" for ")[0] for variant in made}) == 50
    assert len({variant.parameters["seed"] for variant in made}) == 50
    assert {variant.parameters["temperature"] for variant in made} == {0}


def test_requests_are_interleaved_and_the_same_in_each_run() -> None:
    order = recipes.interleaved(50, 20)
    assert set(collections.Counter(order).values()) == {20}
    assert set(order) == set(range(50))
    assert order == recipes.interleaved(50, 20)
    turns = sum(one != other for one, other in itertools.pairwise(order))
    assert turns > 900


def test_disk_is_counted_in_blocks_of_all_files_below_a_folder(tmp_path: Path) -> None:
    before = making.bytes_on_disk(tmp_path)
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "small").write_bytes(os.urandom(3))
    (tmp_path / "large").write_bytes(os.urandom(100_000))
    assert 100_003 < making.bytes_on_disk(tmp_path) - before < 150_000


async def test_so_many_are_asked_at_a_time_and_one_that_fails_has_no_answer() -> None:
    asked: list[int] = []
    under_way = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way
        under_way += 1
        asked.append(under_way)
        await asyncio.sleep(0)
        under_way -= 1
        model = json.loads(request.content)["model"]
        choice = {"message": {"content": f"I am {model}."}}
        return httpx.Response(503 if model == "ill" else 200, json={"choices": [choice]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = asking.Client(http, "http://proxy", "http://ollama", 1024)
        found = await client.all(["a", "ill", "b", "c", "d"], clients=3)
    assert found == ["I am a.", None, "I am b.", "I am c.", "I am d."]
    assert max(asked) == 3


def test_all_floors_are_reached_when_all_is_well() -> None:
    disk, answered, loads, equal = result.asked_for(ALL_WELL)
    assert [floor.reached for floor in (disk, answered, loads, equal)] == [True] * 4
    assert disk.line() == "ok     2 variants of one base: disk each, MiB: 1 (at most 1)"
    assert answered.note == "2.0 a second, 3 as when asked alone"
    assert equal.note == "2 different answers"


@pytest.mark.parametrize(
    ("missed", "what"),
    [
        ("disk", {"disk": 2 * 2**20 + 2**18}),
        ("answered", {"interleaved": [*ALL_WELL.interleaved[1:], (0, None)]}),
        ("loads", {"loads": 2}),
        ("answer as Ollama's own", {"alone": [*ALL_WELL.alone[1:], ("I am Ada.", "I am Eve.")]}),
    ],
)
def test_what_is_not_as_it_should_be_misses_its_floor(missed: str, what: dict[str, object]) -> None:
    found = list(result.asked_for(dataclasses.replace(ALL_WELL, **what)))  # type: ignore[arg-type]
    assert [floor.name for floor in found if not floor.reached] == [
        floor.name for floor in found if missed in floor.name
    ]
