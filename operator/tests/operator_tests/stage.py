"""A cluster that goes on by itself in simulated time, and the operator in it as a process that can be killed.

Each request and each event of a watch is one turn of the process, so that a test can have any one of them
be its last. A killed process sends nothing more and hears nothing more; the next one knows nothing of it.
"""

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import httpx

from modelset_operator import acting
from modelset_operator.api import references
from modelset_operator.cluster import http, kinds, leading
from modelset_operator.plan import claims

from . import builders, fake_api, fake_ollama

# A cluster in which nothing has changed for so long is taken to have come to rest.
_QUIET_SECONDS = 50.0
_DOWN_SECONDS = 3.0
_CHANGED_SECONDS = 3.0
_LONGEST_SECONDS = 600.0
# What takes its time, and tells how far it is.
PULL, CREATE = "/api/pull", "/api/create"
CHANGES = (PULL, CREATE, "/api/delete", "/api/generate")
# So many lines of a download are told when it breaks off amid.
_AMID = 3


WRITES = ("before", "amid", "after", "meanwhile")
EVENTS = ("lost", "late", "broken", "expired")


@dataclasses.dataclass
class Fault:
    """What befalls the operator at its write or event number `at`, counted from 0.

    It is killed before a write, or after it and before it hears of it; amid a download, which ends with its
    connection. `meanwhile` kills nobody: only `then` is called, as it is at the others. An event is lost
    (on a real connection it cannot be, unless the server has a defect: that is what lists now and then are
    for), or comes late with all that follow, or in its place the connection breaks or what was seen expires.
    """

    kind: str
    at: int
    then: Callable[[], None] = lambda: None
    met: bool = False


class Cluster:
    """All that outlives the operator: the API server's objects, controllers, kubelets, volumes."""

    def __init__(self) -> None:
        self.api = fake_api.FakeApi()
        self.fleet = fake_ollama.FakeOllamas()
        # How many requests wait at the proxy.
        self.queued = 0
        self.made: collections.Counter[str] = collections.Counter()

    def play(self) -> None:
        """Have all controllers and kubelets do what is due."""
        self.api.collect()
        for kind, _, name in list(self.api.objects):
            if kind == "StatefulSet":
                self._run_pods(name)
            elif kind == "RayService":
                self._run_proxy(name)

    def state(self) -> dict[str, Any]:
        """Return what there is at the end, without what differs from run to run."""
        kept = {
            "/".join(key): _plain(obj) for key, obj in self.api.objects.items() if key[0] != kinds.EVENT.kind
        }
        held = {
            ip: sorted(fake_ollama.digest(name, model) for name, model in server.held.items())
            for ip, server in self.fleet.servers.items()
        }
        return {"objects": kept, "held": held, "made": dict(self.made)}

    def told(self) -> collections.Counter[tuple[str, str]]:
        """Return how often each Event was recorded; why a set is not ready depends on when it is seen."""
        return collections.Counter(
            (event["reason"], "" if event["reason"] == "NotReady" else event["message"])
            for event in self.api.events
        )

    def flips(self) -> collections.Counter[tuple[str, str]]:
        """Return how often each condition has come to be True or False."""
        flips: collections.Counter[tuple[str, str]] = collections.Counter()
        before: dict[str, str] = {}
        for found in self.api.history(kinds.MODEL_SET.kind):
            for condition in (found.get("status") or {}).get("conditions", ()):
                kind, told = condition["type"], condition["status"]
                flips[kind, told] += before.get(kind) != told
                before[kind] = told
        return flips

    def asked(self) -> collections.Counter[str]:
        """Return how often each change was asked of each Ollama."""
        return collections.Counter(
            f"{ip} {request}"
            for ip, server in self.fleet.servers.items()
            for request in server.requests
            # What the registry does not have is asked for now and then.
            if request.startswith(CHANGES)
            and request.split()[1] in self.fleet.registry.keys() | self.fleet.variants
        )

    def _run_pods(self, name: str) -> None:
        stateful_set = self.api.find("StatefulSet", name)
        template = stateful_set["spec"]["template"]
        revision = _digest(template)
        self._adopt(stateful_set)
        pods = {pod["metadata"]["name"]: pod for pod in self._of(stateful_set, "Pod")}
        wanted = [f"{name}-{ordinal}" for ordinal in range(stateful_set["spec"]["replicas"])]
        for pod in pods.keys() - wanted:
            self.api.remove("Pod", "default", pod)
        stale = [pod for pod in wanted if pod in pods and _revision(pods[pod]) != revision]
        if stale and all(pod in pods and _is_ready(pods[pod]) for pod in wanted if pod not in stale):
            self.api.remove("Pod", "default", stale[-1])
        for ordinal, pod in enumerate(wanted):
            if ("Pod", "default", pod) not in self.api.objects:
                self._start_pod(stateful_set, ordinal, revision)
            elif not _is_ready(self.api.find("Pod", pod)) and self._holds_all(f"10.0.0.{ordinal + 1}"):
                with self.api.edited("Pod", pod) as found:
                    found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        updated = sum(_revision(pod) == revision for pod in self._of(stateful_set, "Pod"))
        status = {
            "observedGeneration": stateful_set["metadata"]["generation"],
            "replicas": len(self._of(stateful_set, "Pod")),
            "updatedReplicas": updated,
        }
        self._set_status("StatefulSet", name, status)

    def _adopt(self, owner: Mapping[str, Any]) -> None:
        for (kind, _, name), obj in list(self.api.objects.items()):
            if kind in ("Pod", "PersistentVolumeClaim") and not obj["metadata"]["ownerReferences"]:
                with self.api.edited(kind, name) as found:
                    found["metadata"]["ownerReferences"] = [_reference(owner)]

    def _start_pod(self, owner: Mapping[str, Any], ordinal: int, revision: str) -> None:
        ip, name = f"10.0.0.{ordinal + 1}", f"{owner['metadata']['name']}-{ordinal}"
        # What is on the volume outlives the pod.
        self.fleet.servers.setdefault(ip, fake_ollama.Server()).loaded.clear()
        labels = owner["spec"]["template"]["metadata"]["labels"] | {"controller-revision-hash": revision}
        metadata = self._child(owner, name, labels)
        running = {"state": {"running": {}}}
        status = {
            "podIP": ip,
            "containerStatuses": [running],
            "conditions": [{"type": "Ready", "status": "False"}],
        }
        (claim,) = owner["spec"]["volumeClaimTemplates"]
        claimed = f"{claim['metadata']['name']}-{name}"
        if ("PersistentVolumeClaim", "default", claimed) not in self.api.objects:
            of_claim = self._child(owner, claimed, claim["metadata"]["labels"])
            self.api.put({**claim, "metadata": of_claim, "status": {"phase": "Bound"}})
        self.made[f"Pod {name} {revision}"] += 1
        self.api.put({"kind": "Pod", "metadata": metadata, "status": status})

    def _holds_all(self, ip: str) -> bool:
        if ("ConfigMap", "default", "assistants-ollama") not in self.api.objects:
            return False
        required = set(self.api.find("ConfigMap", "assistants-ollama")["data"]["required"].split())
        held = {references.parse(model).manifest_path for model in self.fleet.servers[ip].held}
        return required <= held

    def _run_proxy(self, name: str) -> None:
        service = self.api.find("RayService", name)
        config = fake_api.copied(service["spec"]["rayClusterConfig"])
        group = config["workerGroupSpecs"][0]
        # KubeRay takes a change of the number of workers for no change.
        digest = _digest({**config, "workerGroupSpecs": [{**group, "replicas": 0}]})
        cluster = f"{name}-{digest}"
        if ("RayCluster", "default", cluster) not in self.api.objects:
            for old in self._of(service, "RayCluster"):
                self.api.remove("RayCluster", "default", old["metadata"]["name"])
            self.made[f"RayCluster {cluster}"] += 1
            metadata = self._child(service, cluster, service["metadata"]["labels"])
            self.api.put({"kind": "RayCluster", "metadata": metadata, "spec": config})
        if ("Service", "default", f"{name}-serve-svc") not in self.api.objects:
            labels = {"ray.io/originated-from-crd": "RayService", "ray.io/originated-from-cr-name": name}
            metadata = self._child(service, f"{name}-serve-svc", labels)
            self.api.put({"kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 8000}]}})
        applications = {"modelset": {"status": "RUNNING"}}
        status = {
            "observedGeneration": service["metadata"]["generation"],
            "conditions": [{"type": "Ready", "status": "True"}],
            "activeServiceStatus": {"rayClusterName": cluster, "applicationStatuses": applications},
        }
        self._set_status("RayService", name, status)

    def _child(self, owner: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        return {
            "name": name,
            "namespace": "default",
            "labels": dict(labels),
            "ownerReferences": [_reference(owner)],
        }

    def _of(self, owner: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
        uid = owner["metadata"]["uid"]
        return [
            obj
            for key, obj in self.api.objects.items()
            if key[0] == kind and any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences", ()))
        ]

    def _set_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        found = self.api.find(kind, name)
        if found.get("status") != status:
            self.api.put({**found, "status": status})


@dataclasses.dataclass
class Run:
    """What came of a run: all writes and events, and the downloads that were broken off."""

    cluster: Cluster
    writes: list[str] = dataclasses.field(default_factory=list)
    events: list[str] = dataclasses.field(default_factory=list)
    broken_off: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class _Leading(leading.Leading):
    """Holds the Lease: what becomes of that is tested elsewhere."""

    @property
    def leads(self) -> bool:
        return True


class Process(http.Http, httpx.AsyncBaseTransport):
    """One operator: all that it asks goes by here, until it is killed."""

    def __init__(self, run: Run, fault: Fault | None) -> None:
        self._cluster = run.cluster
        self._run = run
        self._fault = fault
        self.killed = asyncio.Event()
        actor = acting.Acting(
            self,
            builders.IMAGES,
            (),
            claims.Identity("system/modelset-operator"),
            clock=asyncio.get_running_loop().time,
            pods_client=lambda: httpx.AsyncClient(transport=self),
        )
        leads = _Leading(self, "system", "modelset-operator", "replica")
        self._tasks = (asyncio.create_task(actor.cached.run()), asyncio.create_task(actor.run(leads)))

    async def end(self) -> None:
        """Let go of all that is left of the process."""
        self.killed.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        await self._live()
        fault = None if method == "GET" else self._turn(self._run.writes, f"{method} {path}", WRITES)
        if fault in ("before", "amid"):
            await self._die()
        answer = await self._cluster.api.ask(method, path, query=query, body=body, content_type=content_type)
        if fault == "after":
            await self._die()
        return answer

    async def watch(
        self, kind: kinds.Kind, namespace: str, labels: str, since: str, seconds: int
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        await self._live()
        events = self._cluster.api.watch(kind, namespace, labels, since, seconds)
        async with contextlib.aclosing(events):
            async for event, found in events:
                if event == http.BEGUN:
                    yield event, found
                    continue
                name = f"{event} {kind.kind}/{found['metadata']['name']}"
                match self._turn(self._run.events, name, EVENTS):
                    case "lost":
                        continue
                    case "late":
                        await asyncio.sleep(7.0)
                    case "broken":
                        raise http.UnreachableError("the connection broke")
                    case "expired":
                        raise http.ExpiredError(since)
                yield event, found

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._live()
        if request.url.path == "/demand":
            return await self._demand(request)
        if request.url.path not in CHANGES:
            return await self._cluster.fleet.handle_async_request(request)
        name = f"{request.url.path} {json.loads(request.content)['model']}"
        fault = self._turn(self._run.writes, name, WRITES)
        if fault == "before":
            await self._die()
        response = await self._cluster.fleet.handle_async_request(request)
        if request.url.path in (PULL, CREATE):
            lines = self._slowly(f"{request.url.host} {name}", response, fault)
            return httpx.Response(200, content=lines, request=request)
        if fault in ("amid", "after"):
            await self._die()
        return response

    async def _demand(self, request: httpx.Request) -> httpx.Response:
        """Be the proxy, which answers when something else is asked of it."""
        until = asyncio.get_running_loop().time() + float(request.url.params["wait"])
        while str(self._cluster.queued) == request.url.params["version"]:
            if asyncio.get_running_loop().time() >= until:
                break
            await asyncio.sleep(0.2)
        queued = self._cluster.queued
        model = {"inFlight": 0, "queued": queued, "longestWaitSeconds": 0.0, "idleSeconds": 0.0}
        models = {"smollm2": model} if queued else {}
        return httpx.Response(
            200, json={"version": str(queued), "models": models, "sick": {}}, request=request
        )

    async def _slowly(self, name: str, response: httpx.Response, fault: str | None) -> AsyncIterator[bytes]:
        """Have a download, or the making of a variant, take time; it ends where its connection does."""
        self._run.broken_off[name] += 1
        lines = response.aiter_raw()
        async with contextlib.aclosing(lines):
            count = 0
            async for line in lines:
                await asyncio.sleep(0.5)
                count += 1
                if fault == "amid" and count == _AMID:
                    await self._die()
                if fault != "after":
                    yield line
        self._run.broken_off[name] -= 1
        if fault == "after":
            await self._die()

    def _turn(self, log: list[str], name: str, kinds_of_fault: Sequence[str]) -> str | None:
        log.append(name)
        fault = self._fault
        if fault is None or fault.met or fault.kind not in kinds_of_fault or len(log) - 1 != fault.at:
            return None
        fault.met = True
        if fault.kind == "meanwhile":
            fault.then()
        return fault.kind

    async def _die(self) -> None:
        assert self._fault is not None
        self._fault.then()
        self.killed.set()
        await self._live()

    async def _live(self) -> None:
        if self.killed.is_set():
            await asyncio.Event().wait()

    async def list(
        self, kind: kinds.Kind, namespace: str, labels: str
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        await self._live()
        async for page in self._cluster.api.list(kind, namespace, labels):
            yield page


async def run(
    cluster: Cluster, change: Callable[[Cluster], None] = lambda _: None, fault: Fault | None = None
) -> Run:
    """Run the operator in a cluster that somebody changes, until it has come to rest.

    An operator that is killed is started again.
    """
    loop = asyncio.get_running_loop()
    done = Run(cluster)
    process = Process(done, fault)
    await asyncio.sleep(_CHANGED_SECONDS)
    change(cluster)
    rested, before = loop.time(), None
    while loop.time() - rested < _QUIET_SECONDS:
        assert loop.time() < _LONGEST_SECONDS, "it does not come to rest"
        await asyncio.sleep(1.0)
        cluster.play()
        if process.killed.is_set():
            await process.end()
            await asyncio.sleep(_DOWN_SECONDS)
            process = Process(done, fault)
        now = (*cluster.api.versions().items(), len(done.writes), len(done.events))
        if now != before:
            before, rested = now, loop.time()
    await process.end()
    return done


def _reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    metadata = owner["metadata"]
    return {"kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _revision(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["controller-revision-hash"])


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return bool(pod["status"]["conditions"][0]["status"] == "True")


def _plain(value: Any) -> Any:
    """Leave out versions, uids and times."""
    if isinstance(value, Mapping):
        left_out = ("resourceVersion", "uid", "lastTransitionTime", "creationTimestamp")
        return {key: _plain(inner) for key, inner in value.items() if key not in left_out}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
