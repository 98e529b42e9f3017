"""API keys from a Secret: who has one may call, and a new one is taken up without a restart."""

from __future__ import annotations

import httpx

from tests.e2e.support import modelset as ms
from tests.e2e.support.kube import Kube, Manifest
from tests.e2e.support.waiting import until

# The kubelet brings a changed Secret into a pod within about a minute and a half.
KEY_SECONDS = 180


def _secret(**keys: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "api-keys"}, "stringData": keys}


def _status(port: int, key: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=headers, timeout=10).status_code


def test_only_clients_with_a_key_are_let_in(kube: Kube) -> None:
    manifest = ms.manifest("guarded", [ms.EMBEDDING])
    manifest["spec"]["proxy"]["auth"] = {"apiKeysSecret": {"name": "api-keys"}}
    kube.apply(_secret(alice="first-key"))
    kube.apply(manifest)
    guarded = ms.ModelSet(kube, "guarded")
    guarded.await_ready()
    before = guarded.pod_identities()

    with kube.forward("service/guarded-serve-svc", 8000) as port:
        assert [_status(port, key) for key in (None, "wrong", "first-key")] == [401, 401, 200]

        kube.apply(_secret(alice="first-key\nsecond-key"))

        until(
            lambda: _status(port, "second-key"),
            lambda status: status == 200,
            seconds=KEY_SECONDS,
            what="the new key is let in",
        )
        assert _status(port, "first-key") == 200
        log = until(
            lambda: kube.run("logs", _head(guarded), "--container=ray-head", "--tail=-1"),
            lambda text: '"alice"' in text,
            seconds=30,
            what="the access log names the client",
        )
    assert "first-key" not in log
    assert guarded.pod_identities() == before


def _head(modelset: ms.ModelSet) -> str:
    pods = modelset.kube.find("pods", f"modelset.dev/set={modelset.name},ray.io/node-type=head")
    return str(pods[0]["metadata"]["name"])
