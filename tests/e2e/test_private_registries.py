"""A registry that wants to know who asks, three pods, and one download from outside, cut short or not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.support import modelset as ms
from tests.e2e.support import registry
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

SECRET = "registry-login"  # noqa: S105 - a name
# A kilobyte here and there, of manifests and of requests.
SPARE = 1.02
CHUNK_BYTES = 16 * 1024 * 1024
STARTED_SECONDS = 120


def _manifest(kube: Kube, port: int) -> Manifest:
    manifest = ms.manifest("private", [ms.CHAT], registry.host(kube, port))
    cache = {"size": "1Gi", "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}}
    manifest["spec"]["registry"] |= {"credentialsSecret": {"name": SECRET}, "cache": cache}
    manifest["spec"]["ollama"] |= {"replicas": 3}
    return manifest


def _found_in(kube: Kube) -> list[str]:
    """Return where the credentials can be read, but in the Secret and in the registry itself."""
    kinds = "pods,statefulsets,configmaps,services,rayservices,rayclusters,ollamamodelsets,events"
    objects = json.loads(kube.run("get", kinds, "--output", "json"))["items"]
    texts = {
        f"{one['kind']} {one['metadata']['name']}": json.dumps(one)
        for one in objects
        if one["metadata"]["name"] != registry.NAME
    }
    pods = kube.find("pods", "modelset.dev/set=private")
    for name in (pod["metadata"]["name"] for pod in pods):
        texts[f"log of {name}"] = kube.run("logs", name, "--all-containers", "--tail=-1")
        if "-ollama-" in name:
            texts[f"environment of {name}"] = kube.run("exec", name, "--", "env")
    assert any("-cache-" in name for name in texts)
    return [name for name, text in texts.items() if any(secret in text for secret in registry.secrets())]


def _is_half_there(private: ms.ModelSet) -> Callable[[], bool]:
    def half() -> bool:
        told = str(private.model("smollm2:135m").get("progress", "")).removesuffix("%")
        return told.isdigit() and int(told) >= 40

    return half


@pytest.mark.parametrize(
    ("port", "cut"),
    [
        pytest.param(registry.BASIC_PORT, False, id="password"),
        pytest.param(registry.TOKEN_PORT, False, id="token", marks=pytest.mark.long),
        pytest.param(registry.BASIC_PORT, True, id="cut-short", marks=pytest.mark.long),
    ],
)
def test_three_pods_cost_one_download_and_none_knows_the_password(kube: Kube, port: int, cut: bool) -> None:
    registry.install(kube)
    registry.login(kube, SECRET, port)
    if cut:
        registry.put(kube, registry.SLOW)
    kube.apply(_manifest(kube, port))
    private = ms.ModelSet(kube, "private")
    if cut:
        until(_is_half_there(private), bool, seconds=STARTED_SECONDS, what="half of the model is there")
        kube.run("delete", "pod", "private-cache-0", "--force", "--grace-period=0")
        registry.end(kube, registry.SLOW)
    private.await_ready()

    told = until(
        lambda: private.model("smollm2:135m"),
        lambda found: found["readyReplicas"] == "3/3",
        seconds=STARTED_SECONDS,
        what="all pods have the model",
    )
    most = told["size"] * SPARE + (CHUNK_BYTES if cut else 0)
    assert told["size"] <= registry.sent(kube) <= most
    assert private.condition("CacheReady")["status"] == "True"
    with private.client() as client:
        answer = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "Hello!"}], max_tokens=4
        )
    assert answer.choices[0].message.content
    assert _found_in(kube) == []
