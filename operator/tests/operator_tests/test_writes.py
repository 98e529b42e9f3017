"""What is sent to the API server, request by request, and where it keeps what."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from modelset_operator.cluster import caches, http, kinds, writes

from . import fake_api

APPS = "/apis/apps/v1/namespaces/default/statefulsets/a"
SETS = "/apis/modelset.dev/v1alpha1/namespaces/default/ollamamodelsets/a"
STATEFUL_SET = {"kind": "StatefulSet", "metadata": {"namespace": "default", "name": "a"}}
MODEL_SET = {
    "kind": "OllamaModelSet",
    "metadata": {"namespace": "default", "name": "a", "uid": "u", "resourceVersion": "7"},
}
OURS = {"fieldManager": "modelset-operator"}


class Api(http.Http):
    """Keeps the one request that is sent, and answers or refuses."""

    def __init__(self, refuses: int = 0) -> None:
        self.sent: dict[str, Any] = {}
        self._refuses = refuses

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        if self._refuses:
            raise http.RefusedError(self._refuses, "no")
        given = {"method": method, "path": path, "query": query, "body": body, "type": content_type}
        self.sent = {key: value for key, value in given.items() if value is not None}
        return {"answered": path}


@pytest.mark.parametrize(
    ("call", "arguments", "sent", "told"),
    [
        pytest.param(
            "find",
            (STATEFUL_SET,),
            {"method": "GET", "path": APPS, "type": "application/json"},
            False,
            id="to look for an object",
        ),
        pytest.param(
            "orphan",
            (STATEFUL_SET,),
            {
                "method": "DELETE",
                "path": APPS,
                "body": {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"},
                "type": "application/json",
            },
            False,
            id="to delete an object and keep what it owns",
        ),
        pytest.param(
            "delete",
            (kinds.STATEFUL_SET, "default", "a", "u"),
            {
                "method": "DELETE",
                "path": APPS,
                "body": {
                    "kind": "DeleteOptions",
                    "apiVersion": "v1",
                    "propagationPolicy": "Background",
                    "preconditions": {"uid": "u"},
                },
                "type": "application/json",
            },
            False,
            id="to delete an object with what it owns",
        ),
        pytest.param(
            "apply",
            (STATEFUL_SET,),
            {
                "method": "PATCH",
                "path": APPS,
                "query": OURS | {"force": "true"},
                "body": STATEFUL_SET,
                "type": "application/apply-patch+yaml",
            },
            True,
            id="to apply an object",
        ),
        pytest.param(
            "apply",
            (MODEL_SET, "status"),
            {
                "method": "PATCH",
                "path": f"{SETS}/status",
                "query": OURS | {"force": "true"},
                "body": MODEL_SET,
                "type": "application/apply-patch+yaml",
            },
            True,
            id="to apply a status",
        ),
        pytest.param(
            "scale_workers",
            ("default", "a", "u", 2, ("w",)),
            {
                "method": "PATCH",
                "path": "/apis/ray.io/v1/namespaces/default/rayclusters/a",
                "query": OURS,
                "body": [
                    {"op": "test", "path": "/metadata/uid", "value": "u"},
                    {"op": "add", "path": "/spec/workerGroupSpecs/0/replicas", "value": 2},
                    {
                        "op": "add",
                        "path": "/spec/workerGroupSpecs/0/scaleStrategy",
                        "value": {"workersToDelete": ["w"]},
                    },
                ],
                "type": "application/json-patch+json",
            },
            True,
            id="to scale workers",
        ),
        pytest.param(
            "grow",
            ("default", "a", "u", "9Gi"),
            {
                "method": "PATCH",
                "path": "/api/v1/namespaces/default/persistentvolumeclaims/a",
                "query": OURS,
                "body": {
                    "metadata": {"uid": "u"},
                    "spec": {"resources": {"requests": {"storage": "9Gi"}}},
                },
                "type": "application/merge-patch+json",
            },
            True,
            id="to grow a claim",
        ),
        pytest.param(
            "annotate",
            (MODEL_SET, "modelset.dev/operator", "system/me"),
            {
                "method": "PATCH",
                "path": SETS,
                "query": OURS,
                "body": {
                    "metadata": {
                        "uid": "u",
                        "resourceVersion": "7",
                        "annotations": {"modelset.dev/operator": "system/me"},
                    }
                },
                "type": "application/merge-patch+json",
            },
            True,
            id="to claim a set",
        ),
        pytest.param(
            "create_event",
            ({"metadata": {"namespace": "default"}, "reason": "Ready"},),
            {
                "method": "POST",
                "path": "/api/v1/namespaces/default/events",
                "body": {"metadata": {"namespace": "default"}, "reason": "Ready"},
                "type": "application/json",
            },
            False,
            id="to tell an event",
        ),
    ],
)
async def test_what_is_sent(call: str, arguments: tuple[Any, ...], sent: dict[str, Any], told: bool) -> None:
    api, wrote = Api(), list[Mapping[str, Any]]()
    await getattr(writes.Writes(api, wrote.append), call)(*arguments)
    assert api.sent == sent
    # What was written is known at once, as the API server has it.
    assert wrote == ([{"answered": sent["path"]}] if told else [])


async def test_what_others_own_is_not_taken_from_them_without_force() -> None:
    api = Api()
    await writes.Writes(api, lambda _: None).apply(STATEFUL_SET, force=False)
    assert api.sent["query"] == OURS | {"force": "false"}


async def test_an_object_that_is_looked_for_may_not_be_there() -> None:
    assert await writes.Writes(Api(404), lambda _: None).find(STATEFUL_SET) is None
    with pytest.raises(http.RefusedError):
        await writes.Writes(Api(403), lambda _: None).find(STATEFUL_SET)


PATHS = {
    "OllamaModelSet": "/apis/modelset.dev/v1alpha1/ollamamodelsets",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "Service": "/api/v1/services",
    "ConfigMap": "/api/v1/configmaps",
    "Pod": "/api/v1/pods",
    "PersistentVolumeClaim": "/api/v1/persistentvolumeclaims",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/poddisruptionbudgets",
    "Event": "/api/v1/events",
    "Secret": "/api/v1/secrets",
    "Lease": "/apis/coordination.k8s.io/v1/leases",
    "RayService": "/apis/ray.io/v1/rayservices",
    "RayCluster": "/apis/ray.io/v1/rayclusters",
}


def test_where_the_api_server_keeps_each_kind() -> None:
    assert {name: kind.path() for name, kind in kinds.BY_NAME.items()} == PATHS


@pytest.mark.parametrize(
    ("where", "path"),
    [
        (("ns",), "/api/v1/namespaces/ns/pods"),
        (("ns", "a"), "/api/v1/namespaces/ns/pods/a"),
        (("ns", "a", "status"), "/api/v1/namespaces/ns/pods/a/status"),
    ],
)
def test_where_it_keeps_a_namespaces_objects(where: tuple[str, ...], path: str) -> None:
    assert kinds.POD.path(*where) == path


SET, COMPONENT = "modelset.dev/set", "app.kubernetes.io/component"
OF_SET = {
    "ollamamodelsets": {""},
    "statefulsets": {SET},
    "services": {f"{SET},{COMPONENT} in (ollama,cache)", "ray.io/originated-from-crd=RayService"},
    "configmaps": {f"{SET},{COMPONENT}=ollama"},
    "pods": {SET},
    "persistentvolumeclaims": {f"{SET},{COMPONENT} in (ollama,cache)"},
    "networkpolicies": {SET},
    "poddisruptionbudgets": {SET},
    "rayservices": {SET},
    "rayclusters": {SET},
}


@pytest.mark.parametrize(("served", "namespaces"), [((), {""}), (("a", "b"), {"a", "b"})])
def test_what_is_watched_in_which_namespaces(served: tuple[str, ...], namespaces: set[str]) -> None:
    watched = [one for one, _ in caches.Caches(fake_api.FakeApi(), served, lambda _: None).selections()]
    assert {(one.kind.plural, one.namespace, one.labels) for one in watched} == {
        (plural, namespace, labels)
        for plural, those in OF_SET.items()
        for labels in those
        for namespace in namespaces
    }
