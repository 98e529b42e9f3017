"""Fixtures: the test cluster and no other, a namespace a test, diagnostics when a test fails."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Generator, Iterator
from concurrent import futures
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from stack import cluster
from tests.e2e.support import asked, diagnostics, namespaces, whole, writes
from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube
from tests.e2e.support.waiting import until

TEST_SECONDS = 900
SETTLE_SECONDS = 60


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not any(item.iter_markers("timeout")):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    whole.arrange(config, items, Path(__file__).parent)


def pytest_deselected(items: list[pytest.Item]) -> None:
    whole.left_out(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for test in whole.unjudged(config):
        terminalreporter.write_line(f"left to `make e2e`, since it looks back at all tests: {test}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (live := item.config.stash.get(namespaces.LIVE, [])):
        diagnostics.attach(report, item.name, live)
    return report


@pytest.fixture(scope="session")
def began() -> datetime.datetime:
    """When the first test began."""
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="session", autouse=True)
def own_cluster(began: datetime.datetime, pytestconfig: pytest.Config) -> Iterator[None]:
    """Refuse to touch any but the kind cluster that this checkout made on this machine; leave it empty."""
    config = json.loads(cluster.kubectl("config", "view", "--minify", "--output", "json"))
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    assert config["current-context"] == cluster.CONTEXT, (
        f"{config['current-context']} is not {cluster.CONTEXT}"
    )
    assert server.hostname == "127.0.0.1", f"{server.hostname} is not this machine"
    yield
    namespaces.await_gone(pytestconfig)


@pytest.fixture
def kube(request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace of the test's own, which enforces Pod Security "restricted"."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")
    yield from namespaces.fresh(f"e2e-{name}"[:63].rstrip("-"), request.config)


@pytest.fixture(scope="session")
def shared_kube(own_cluster: None, pytestconfig: pytest.Config) -> Iterator[Kube]:
    """The namespace of the set that no test changes."""
    yield from namespaces.fresh("e2e-shared", pytestconfig)


@pytest.fixture(scope="session")
def assistants(shared_kube: Kube) -> ms.ModelSet:
    """A Ready set with a chat and an embedding model, and OpenAI's names; tests only look at it."""
    shared_kube.apply(ms.manifest("assistants", ms.SHARED))
    result = ms.ModelSet(shared_kube, "assistants")
    result.await_ready()
    until(
        lambda: result.condition("Progressing"),
        lambda condition: condition.get("status") == "False",
        seconds=SETTLE_SECONDS,
        what="nothing is under way",
    )
    return result


@pytest.fixture(scope="session", autouse=True)
def steady(assistants: ms.ModelSet) -> Iterator[ms.Steady]:
    """A watch over five minutes of the shared set, while other tests run.

    It begins when each model has been in memory once: what that takes is news, and told in the status. Not
    longer: one that takes every core away for seconds changes what there is to say about the set.
    """
    _await_measured(assistants)
    ended = threading.Event()

    def five_minutes_later(before: asked.Asked) -> ms.Later:
        ended.wait(ms.STEADY_SECONDS)
        return ms.Later(writes.of_operator(assistants.kube), count().since(before))

    with asked.counting(assistants.kube.namespace) as count, futures.ThreadPoolExecutor(1) as watch:
        yield ms.Steady(writes.of_operator(assistants.kube), watch.submit(five_minutes_later, count()))
        ended.set()


def _await_measured(assistants: ms.ModelSet) -> None:
    """Have each model loaded, and wait until the status tells what Ollama says that it takes."""
    with assistants.client() as client:
        for model in (ms.CHAT, ms.OPENAI_CHAT):
            client.chat.completions.create(
                model=model["servedNames"][0], messages=[{"role": "user", "content": "Hello"}], max_tokens=1
            )
        client.embeddings.create(model=ms.OPENAI_EMBEDDING["servedNames"][0], input="Hello")
    with assistants.kube.forward(f"pod/{assistants.name}-ollama-0", 11434) as port:
        loaded = httpx.get(f"http://127.0.0.1:{port}/api/ps").raise_for_status().json()["models"]
    until(
        lambda: {model.get("memory") for model in assistants.status()["models"]},
        # Variants are one runner, which Ollama lists once.
        lambda told: told == {model["size"] for model in loaded},
        seconds=SETTLE_SECONDS,
        what="the status tells what each model takes in memory",
    )
