"""An OllamaModelSet under test: made from the example that users apply."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import openai
import yaml

from stack import cache
from tests.e2e.support.asked import Asked
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

EXAMPLE = cache.REPOSITORY / "examples" / "modelset-airgapped.yaml"
REGISTRY = "model-registry.model-registry.svc.cluster.local:5000"
SLOW_REGISTRY = "model-registry.model-registry.svc.cluster.local:5001"
READY_SECONDS = 300
STEADY_SECONDS = 300

CHAT = {"name": "smollm2:135m", "servedNames": ["smollm2"]}
EMBEDDING = {"name": "all-minilm", "servedNames": ["all-minilm"]}
SMALL_EMBEDDING = {"name": "all-minilm:22m-q8_0", "servedNames": ["all-minilm-small"]}
# OpenAI's names, which its client's own tests ask for. They also send a suffix; not every model takes one.
OPENAI_CHAT = {"name": "smollm2:135m-insert", "servedNames": ["gpt-6-astra", "gpt-3.5-turbo-instruct"]}
OPENAI_EMBEDDING = {"name": "all-minilm", "servedNames": ["all-minilm", "text-embedding-3-small"]}
# The set that no test changes, and what it lists.
SHARED = [CHAT, OPENAI_CHAT, OPENAI_EMBEDDING]
SHARED_NAMES = ["all-minilm", "gpt-3.5-turbo-instruct", "gpt-6-astra", "smollm2", "text-embedding-3-small"]
# In no registry.
MISSING = {"name": "no-such-model:1b", "servedNames": ["missing"]}


def manifest(name: str, models: list[dict[str, Any]], registry: str = REGISTRY) -> Manifest:
    """The example, under another name and with other models."""
    result: Manifest = copy.deepcopy(yaml.safe_load(EXAMPLE.read_text()))
    result["metadata"] = {"name": name}
    result["spec"]["models"] = copy.deepcopy(models)
    result["spec"]["registry"] |= {"host": registry}
    # Small requests: several sets have to fit on a two-core machine at a time.
    result["spec"].setdefault("ollama", {})["resources"] = {"requests": {"cpu": "50m", "memory": "512Mi"}}
    result["spec"].setdefault("proxy", {})["resources"] = {"requests": {"cpu": "100m", "memory": "1Gi"}}
    return result


@dataclass(frozen=True)
class Later:
    """What the operator had written five minutes after a set had settled, and what it had asked meanwhile."""

    writes: dict[str, tuple[str, ...]]
    asked: Asked


@dataclass(frozen=True)
class Steady:
    """What the operator had written when a set had settled, and what it did in the five minutes since."""

    writes: dict[str, tuple[str, ...]]
    later: futures.Future[Later]


class ModelSet:
    """One set on the cluster, seen as its user sees it."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube = kube
        self.name = name

    def get(self) -> Manifest:
        return self.kube.get("ollamamodelset", self.name)

    def status(self) -> Manifest:
        return dict(self.get().get("status", {}))

    def model(self, name: str) -> Manifest:
        """The status of one model; empty while it has none."""
        return next((m for m in self.status().get("models", []) if m["name"] == name), {})

    def condition(self, kind: str) -> Manifest:
        return next((c for c in self.status().get("conditions", []) if c["type"] == kind), {})

    def await_ready(self, seconds: float = READY_SECONDS) -> None:
        def is_ready(found: Manifest) -> bool:
            conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", [])}
            ready = conditions.get("Ready", {})
            current = ready.get("observedGeneration") == found["metadata"]["generation"]
            return bool(current and ready["status"] == "True")

        until(self.get, is_ready, seconds=seconds, what=f"{self.name} is Ready")

    def await_reason(self, kind: str, reason: str, seconds: float) -> str:
        """Wait until a condition is False for this reason; return its message."""
        found = until(
            lambda: self.condition(kind),
            lambda condition: condition.get("reason") == reason and condition["status"] == "False",
            seconds=seconds,
            what=f"{kind} is {reason}",
        )
        return str(found["message"])

    def await_phase(self, model: str, phase: str, seconds: float = READY_SECONDS) -> Manifest:
        return until(
            lambda: self.model(model),
            lambda m: m.get("phase") == phase,
            seconds=seconds,
            what=f"{model} is {phase}",
        )

    @contextlib.contextmanager
    def client(self) -> Iterator[openai.OpenAI]:
        """OpenAI's client, at the set's endpoint."""
        with (
            self.kube.forward(f"service/{self.name}-serve-svc", 8000) as port,
            openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0) as client,
        ):
            yield client

    def pod_identities(self) -> dict[str, tuple[str, int]]:
        """Pod name -> (uid, restarts), of the Ollama and the Ray pods."""
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(c["restartCount"] for c in pod["status"].get("containerStatuses", [])),
            )
            for pod in self.kube.find("pods", f"modelset.dev/set={self.name}")
        }
