"""The registry cache of a set: what it is made of, who reaches it, and what is told of it."""

import dataclasses
import json
from typing import Any

import httpx
import pytest

from modelset_cache import __main__ as program
from modelset_operator.api import names, neighbours, sources, spec
from modelset_operator.cluster import caches
from modelset_operator.engines import ollama as engine
from modelset_operator.manifests import cache, network, ollama
from modelset_operator.plan import decide, events, status, volumes
from modelset_operator.plan import observed as seen

from . import builders, fake_api, worlds
from .test_network import AROUND, MONITORING, OWN_OLLAMA, OWN_PROXY, allows, only

HOST = "models.example:5000"
CACHED: dict[str, Any] = {"host": HOST, "cache": {}}
PRIVATE: dict[str, Any] = {
    "host": HOST,
    "insecure": True,
    "credentialsSecret": {"name": "models-login"},
    "cache": {
        "size": "8Gi",
        "storageClassName": "fast",
        "resources": {"limits": {"memory": "256Mi"}},
        "nodeSelector": {"disk": "large"},
    },
}


def of(registry: dict[str, Any]) -> tuple[spec.ModelSet, spec.Cache]:
    modelset = builders.modelset("a", registry=registry)
    assert modelset.cache is not None
    return modelset, modelset.cache


def pod_of(registry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = cache.stateful_set(*of(registry))["spec"]["template"]["spec"]
    return found


def look(registry: dict[str, Any], *pods: seen.Pod, **fields: Any) -> seen.Observed:
    return builders.observed(builders.resource("a", registry=registry), pods=pods, **fields)


def own(kind: str, **fields: Any) -> dict[str, Any]:
    """Return an object of the set's own."""
    reference = names.owner_reference("assistants", "set-uid")
    metadata = {"name": "assistants-cache", "uid": "u", "ownerReferences": [reference], **fields}
    return {"kind": kind, "metadata": metadata}


# --- what it is made of


def test_a_set_without_one_has_nothing_of_it() -> None:
    modelset = builders.modelset("a", registry={"host": HOST})
    assert modelset.cache is None
    (pool,) = modelset.pools
    template = ollama.stateful_set(modelset, pool, 1)["spec"]["template"]
    assert names.CACHED_LABEL not in template["metadata"]["labels"]
    assert "HTTP_PROXY" not in [one["name"] for one in template["spec"]["containers"][0]["env"]]
    applied = [one.manifest["metadata"]["name"] for one in decide.plan(look({"host": HOST})).applies]
    assert "assistants-cache" not in applied


def test_ollama_pods_are_led_to_it_and_say_so() -> None:
    modelset, _ = of(CACHED)
    template = ollama.stateful_set(modelset, *modelset.pools, 1)["spec"]["template"]
    url = "http://assistants-cache.default.svc:5000"
    environment = template["spec"]["containers"][0]["env"]
    assert {"name": "HTTP_PROXY", "value": url} in environment
    assert {"name": "NO_PROXY", "value": "0.0.0.0"} in environment  # noqa: S104 - nothing listens by this
    assert template["metadata"]["labels"][names.CACHED_LABEL] == "true"
    assert cache.service(modelset)["spec"]["clusterIP"] == "None"
    (port,) = cache.service(modelset)["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (5000, "http")


def test_its_program_understands_what_it_is_started_with() -> None:
    (container,) = pod_of(PRIVATE)["containers"]
    assert container["command"] == ["python", "-m", program.__spec__.parent]
    parsed = program.parse(container["args"])
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert parsed.folder.is_relative_to(mounts["blobs"])
    assert parsed.bytes == 8 * 1024**3
    assert (parsed.insecure, parsed.credentials.name) == ([HOST], ".dockerconfigjson")
    assert str(parsed.credentials.parent) == mounts["credentials"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"http": parsed.port, "metrics": parsed.watch_port}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}


def test_without_a_secret_or_an_insecure_host_it_knows_none() -> None:
    pod = pod_of(CACHED)
    parsed = program.parse(pod["containers"][0]["args"])
    assert (parsed.insecure, parsed.credentials, "volumes" in pod) == ([], None, False)
    assert parsed.bytes == 50 * 1024**3


def test_the_secret_is_in_its_pod_alone_as_a_file_and_may_come_later() -> None:
    modelset, _ = of(PRIVATE)
    (volume,) = pod_of(PRIVATE)["volumes"]
    assert volume["secret"] == {"secretName": "models-login", "optional": True, "defaultMode": 0o440}
    assert "env" not in pod_of(PRIVATE)["containers"][0]
    others = [one.manifest for one in decide.plan(look(PRIVATE)).applies]
    named = [one["kind"] for one in others if "models-login" in json.dumps(one)]
    assert named == ["StatefulSet"]
    assert "models-login" not in json.dumps(ollama.stateful_set(modelset, *modelset.pools, 1))


def test_it_fits_pod_security_restricted_and_runs_where_the_set_says() -> None:
    pod = pod_of(PRIVATE)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert (pod["nodeSelector"], container["resources"]) == (
        {"disk": "large"},
        {"limits": {"memory": "256Mi"}},
    )
    assert container["image"] == builders.IMAGES.cache


def test_it_takes_the_way_out_that_ollama_pods_would() -> None:
    way_out = {"name": "HTTPS_PROXY", "value": "http://egress.example:3128"}
    env = [{"name": "OLLAMA_DEBUG", "value": "1"}, way_out]
    modelset = builders.modelset("a", registry=CACHED, ollama={"env": env})
    assert modelset.cache is not None
    (container,) = cache.stateful_set(modelset, modelset.cache)["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [way_out]


@pytest.mark.parametrize(
    ("registry", "claim"),
    [
        (CACHED, {"resources": {"requests": {"storage": "50Gi"}}}),
        (PRIVATE, {"resources": {"requests": {"storage": "8Gi"}}, "storageClassName": "fast"}),
    ],
)
def test_its_volume_goes_with_it(registry: dict[str, Any], claim: dict[str, Any]) -> None:
    made = cache.stateful_set(*of(registry))["spec"]
    assert made["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    (template,) = made["volumeClaimTemplates"]
    assert template["spec"] == {"accessModes": ["ReadWriteOnce"], **claim}
    assert f"{template['metadata']['name']}-{names.cache('assistants')}-0" == cache.claim("assistants")


def test_nonsense_names_the_field() -> None:
    with pytest.raises(spec.SpecError, match=r"spec\.registry\.cache\.size: 'much' is no amount"):
        builders.modelset("a", registry={"cache": {"size": "much"}})


# --- who reaches what


def test_only_the_sets_ollama_pods_reach_it_and_it_alone_reaches_registries() -> None:
    policies = network.policies(of(PRIVATE)[0], AROUND)
    its = only(names.CACHE_COMPONENT, policies)
    assert allows(its["ingress"], "from", ("default", OWN_OLLAMA), 5000)
    for pod in (("default", OWN_PROXY), ("other", OWN_OLLAMA), ("default", {})):
        assert not allows(its["ingress"], "from", pod, 5000)
    assert allows(its["ingress"], "from", ("monitoring", {}), 8081)
    assert not allows(its["ingress"], "from", ("monitoring", {}), 5000)
    assert its["egress"] == only(names.OLLAMA_COMPONENT, network.policies(_uncached(), AROUND))["egress"]
    ollamas = only(names.OLLAMA_COMPONENT, policies)["egress"]
    its_labels = names.selector("assistants", names.CACHE_COMPONENT)
    assert allows(ollamas, "to", ("default", its_labels), 5000)
    assert not allows(ollamas, "to", ("models", {"app": "registry"}), 5000)
    assert "ipBlock" not in json.dumps(ollamas)
    unread = network.policies(of(PRIVATE)[0], neighbours.Neighbours())
    assert len(only(names.CACHE_COMPONENT, unread)["ingress"]) == 1
    assert MONITORING not in only(names.CACHE_COMPONENT, unread)["ingress"]


def _uncached() -> spec.ModelSet:
    return builders.modelset("a", registry={"host": HOST, "insecure": True})


# --- what is pulled through it


@pytest.mark.parametrize(
    ("source", "insecure"),
    [
        (sources.Source(HOST, insecure=False), False),
        (sources.Source(HOST, insecure=True), True),
        (sources.Source(HOST, insecure=False, cached=True), True),
    ],
)
async def test_ollama_asks_a_cache_over_plain_http(source: sources.Source, insecure: bool) -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, content=b'{"status": "success"}')

    client = engine.Ollama(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
    assert [one.status async for one in client.ensure("10.0.0.1", "a", source)] == ["success"]
    assert bodies[0]["insecure"] is insecure


def test_a_pod_that_does_not_know_it_yet_pulls_nothing_in_the_open() -> None:
    old = builders.pod(0, store=builders.store_of({}))
    new = dataclasses.replace(builders.pod(1, store=builders.store_of({})), cached=True)
    resource = builders.resource("a", registry=CACHED, ollama={"replicas": 2})
    pulls = decide.plan(builders.observed(resource, pods=(old, new))).pulls
    assert [(pull.pod, pull.source.cached) for pull in pulls] == [("assistants-ollama-1", True)]


def test_variants_are_made_on_such_a_pod_all_the_same() -> None:
    resource = builders.resource("m:1", {"name": "v", "from": "m:1"}, registry={"cache": {}})
    pod = builders.pod(store=builders.store_of({"m:1": builders.CHAT}))
    assert [pull.key for pull in decide.plan(builders.observed(resource, pods=(pod,))).pulls] == ["v:latest"]


# --- what becomes of it


CLAIM: dict[str, Any] = {
    "metadata": {"name": "blobs-assistants-cache-0", "uid": "c"},
    "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    "status": {"phase": "Bound"},
}
UNGROWN = {"c": seen.Ungrown("8Gi", "the storageclass must support resize")}


def test_its_claim_grows_and_never_without_it() -> None:
    there = seen.CacheObjects(claims=(CLAIM,))
    grown = volumes.growths(look(PRIVATE, cache=there))
    assert grown == (volumes.Growth("blobs-assistants-cache-0", "c", "8Gi"),)
    assert volumes.growths(look({"host": HOST}, cache=there)) == ()
    refused = look(PRIVATE, cache=there, ungrown=UNGROWN)
    assert volumes.growths(refused) == ()
    assert volumes.too_small(refused) == ""


@pytest.mark.parametrize("ready", [True, False])
def test_a_claim_that_cannot_grow_is_told_once_with_what_to_do(ready: bool) -> None:
    pods = (seen.CachePod("assistants-cache-0", ready=ready),)
    refused = look(PRIVATE, cache=seen.CacheObjects(claims=(CLAIM,), pods=pods), ungrown=UNGROWN)
    told = decide.told(refused)
    (leaf,) = [one for one in told.status["conditions"] if one["type"] == status.CACHE_READY]
    expected = ("True", "VolumesTooSmall") if ready else ("False", "PodNotReady")
    assert (leaf["status"], leaf["reason"]) == expected
    assert (
        "smaller than spec.registry.cache.size (8Gi): blobs-assistants-cache-0 (1Gi); these"
        " PersistentVolumeClaims cannot be made larger: the storageclass must support resize; delete them and"
        " their pods to have a larger one"
    ) in leaf["message"]
    warned = [events.Event(events.WARNING, "VolumesTooSmall", leaf["message"])] if ready else []
    assert [one for one in told.events if one.reason == "VolumesTooSmall"] == warned
    again = dataclasses.replace(refused, resource={**refused.resource, "status": told.status})
    assert decide.told(again).events == ()


@pytest.mark.parametrize(
    ("registry", "cached", "metadata", "gone"),
    [
        (None, False, {}, True),
        (None, True, {}, False),
        (CACHED, False, {}, False),
        (None, False, {"deletionTimestamp": builders.NOW}, False),
        (None, False, {"ownerReferences": []}, False),
    ],
)
def test_it_goes_when_it_is_taken_out_and_no_pod_pulls_through_it(
    registry: dict[str, Any] | None, cached: bool, metadata: dict[str, Any], gone: bool
) -> None:
    found = own("StatefulSet", **metadata)
    pod = dataclasses.replace(builders.pod(store=builders.store_of({})), cached=cached)
    observed = look(registry or {"host": HOST}, pod, cache=seen.CacheObjects(stateful_set=found))
    assert decide.plan(observed).deletions == ((found,) if gone else ())


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ((), ("False", "PodNotReady", "nothing can be pulled: its pod is about to start")),
        (
            (seen.CachePod("assistants-cache-0", ready=True),),
            ("True", "Serving", "models are pulled through the cache"),
        ),
        (
            (
                seen.CachePod(
                    "assistants-cache-0",
                    ready=False,
                    status={
                        "containerStatuses": [
                            {
                                "name": "cache",
                                "image": "i:1",
                                "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
                            }
                        ]
                    },
                ),
            ),
            (
                "False",
                "ImagePullFailed",
                "nothing can be pulled: assistants-cache-0: image i:1 cannot be pulled: not found; it is the"
                " operator's own; set spec.registry.cache.imagePullSecrets where its registry asks who pulls",
            ),
        ),
    ],
)
def test_a_condition_tells_of_it_and_what_serves_is_ready_without_it(
    pods: tuple[seen.CachePod, ...], told: tuple[str, str, str]
) -> None:
    found = decide.told(look(CACHED, cache=seen.CacheObjects(pods=pods))).status
    (leaf,) = [one for one in found["conditions"] if one["type"] == status.CACHE_READY]
    assert (leaf["status"], leaf["reason"], leaf["message"]) == told
    without = decide.told(look({"host": HOST})).status["conditions"]
    assert status.CACHE_READY not in [one["type"] for one in without]


def test_a_foreign_object_of_its_name_is_left_alone() -> None:
    foreign = own("Service", ownerReferences=[], labels={})
    plan = decide.plan(look(CACHED, cache=seen.CacheObjects(service=foreign)))
    assert [told.partition(" was made")[0] for told in plan.foreign] == ["Service assistants-cache"]


# --- a whole set


async def test_a_set_gets_one_pulls_through_it_and_lets_go_of_it(world: worlds.World) -> None:
    world.edit(*worlds.MODELS, registry={**worlds.REGISTRY, "cache": {"size": "1Gi"}})
    await world.to_ready()
    assert world.api.find("Service", "assistants-cache")["spec"]["ports"][0]["port"] == 5000
    found = world.api.find("StatefulSet", "assistants-cache")
    assert found["metadata"]["labels"][names.COMPONENT_LABEL] == names.CACHE_COMPONENT
    assert world.condition("CacheReady") == "False"
    world.api.put(
        {
            "kind": "Pod",
            "metadata": {
                "name": "assistants-cache-0",
                "namespace": "default",
                "uid": "cache-0",
                "labels": found["spec"]["template"]["metadata"]["labels"],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    await world.reconcile(2)
    assert (world.condition("CacheReady"), world.condition("Ready")) == ("True", "True")

    world.edit(*worlds.MODELS, registry=worlds.REGISTRY)
    await world.reconcile(2)
    assert ("StatefulSet", "default", "assistants-cache") in world.api.objects, "a pod pulls through it still"
    with world.api.edited("Pod", "assistants-ollama-0") as pod:
        del pod["metadata"]["labels"][names.CACHED_LABEL]
    await world.reconcile(2)
    assert ("StatefulSet", "default", "assistants-cache") not in world.api.objects


async def test_what_the_cache_owns_is_watched_with_the_rest() -> None:
    cached = caches.Caches(fake_api.FakeApi(), (), lambda _: None)
    labels = names.common_labels("assistants", names.CACHE_COMPONENT)
    metadata = {"namespace": "default", "name": "assistants-cache", "resourceVersion": "1", "labels": labels}
    cached.wrote({"kind": "Service", "metadata": metadata})
    assert cached.own_services.get("default", "assistants-cache") is not None
