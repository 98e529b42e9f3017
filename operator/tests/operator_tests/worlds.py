"""A cluster with the operator in it, whose controllers and kubelets a test plays."""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import httpx

from modelset_operator import observer, reconciler
from modelset_operator.api import references
from modelset_operator.cluster import caches, keys, writes
from modelset_operator.demand import readers
from modelset_operator.engines import ollama, pulls, work

from . import builders, fake_api, fake_ollama, fake_proxies

OWNER = ("default", "assistants")
REGISTRY = {"host": "models.example:5000", "insecure": True}
SMOL = "models.example:5000/library/smollm2:135m"
MINI = "models.example:5000/library/all-minilm:latest"
MODELS = (
    {"name": "smollm2:135m", "servedNames": ["smollm2"]},
    {"name": "all-minilm", "servedNames": ["all-minilm"]},
)


@dataclasses.dataclass
class World:
    """A cluster with the operator's parts, and the controllers and kubelets that a test plays."""

    api: fake_api.FakeApi
    fleet: fake_ollama.FakeOllamas
    pokes: asyncio.Queue[pulls.Set] = dataclasses.field(default_factory=asyncio.Queue)
    now: list[float] = dataclasses.field(default_factory=lambda: [1000.0])
    proxies: fake_proxies.FakeProxies = dataclasses.field(default_factory=fake_proxies.FakeProxies)
    told: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.restart_operator()

    async def close(self) -> None:
        """End all that runs."""
        await self.work.close()
        await self.reading.close()
        if self.watching is not None:
            self.watching.cancel()

    def restart_operator(self) -> None:
        """Forget all that the operator keeps in memory."""
        client = ollama.Ollama(httpx.AsyncClient(transport=self.fleet))
        self.work = work.Work(client, self.pokes.put_nowait, lambda: self.now[0])
        if self.watching is not None:
            self.watching.cancel()
        self.cached = caches.Caches(self.api, (), lambda _: self.told.set())
        self.watching = asyncio.create_task(self.cached.run())
        self.reading = readers.Readers(self.proxies, self.pokes.put_nowait, lambda: self.now[0])
        self.reconciler = reconciler.Reconciler(
            writes.Writes(self.api, self.cached.wrote),
            observer.Observer(self.cached, builders.IMAGES),
            self.work,
            self.reading,
            keys.Keys(self.api, "system", "modelset-operator"),
            lambda: self.now[0],
        )

    async def reconcile(self, times: int = 1) -> float | None:
        again: float | None = None
        for _ in range(times):
            await self.cached.synced()
            await self.api.told()
            for uid in self.work.sights(OWNER):
                if ip := self.ip_of(uid):
                    await self.fleet.looked_at(ip)
            again = await self.reconciler.reconcile(OWNER)
        return again

    def ip_of(self, uid: str) -> str:
        """Return a pod's address, "" when it is gone."""
        pods = [obj for key, obj in self.api.objects.items() if key[0] == "Pod"]
        return str(next((pod["status"]["podIP"] for pod in pods if pod["metadata"]["uid"] == uid), ""))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Reconcile whenever there is something new to look at, until a condition holds."""
        await self.reconcile()
        while not condition():
            await self.pokes.get()
            await self.reconcile()

    async def until_pulled(self, *models: str, ip: str = "10.0.0.1") -> None:
        await self.until(lambda: set(models) <= set(self.fleet.servers[ip].held))
        await self.reconcile()

    async def until_ready(self, pod: str) -> None:
        while True:
            self.settle_pods()
            conditions = self.api.find("Pod", pod)["status"]["conditions"]
            if conditions[0]["status"] == "True":
                break
            await self.pokes.get()
            await self.reconcile()
        await self.reconcile()

    def start_pod(self, ordinal: int = 0, ip: str = "10.0.0.1") -> None:
        """Be the StatefulSet controller and the kubelet: a pod runs, not ready yet."""
        template = self.api.find("StatefulSet", "assistants-ollama")["spec"]["template"]
        self.fleet.servers.setdefault(ip, fake_ollama.Server())
        self.api.put(
            {
                "kind": "Pod",
                "metadata": {
                    "name": f"assistants-ollama-{ordinal}",
                    "namespace": "default",
                    "uid": f"pod-{ordinal}",
                    "labels": template["metadata"]["labels"],
                },
                "status": {
                    "podIP": ip,
                    "containerStatuses": [{"state": {"running": {}}}],
                    "conditions": [{"type": "Ready", "status": "False"}],
                },
            }
        )

    def retain_claim(self, size: str) -> None:
        """Have the volume of an earlier set of the name be there."""
        labels = {"modelset.dev/set": "assistants", "app.kubernetes.io/component": "ollama"}
        metadata = {"name": "models-assistants-ollama-0", "namespace": "default", "labels": labels}
        claim = {"resources": {"requests": {"storage": size}}}
        self.api.put(
            {
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": claim,
                "status": {"phase": "Bound"},
            }
        )

    def settle_pods(self) -> None:
        """Be the kubelet: a pod that holds what the ConfigMap asks for becomes ready."""
        required = set(self.api.find("ConfigMap", "assistants-ollama")["data"]["required"].split())
        for kind, _, name in list(self.api.objects):
            if kind == "Pod":
                with self.api.edited(kind, name) as pod:
                    held = self.fleet.servers[pod["status"]["podIP"]].held
                    paths = {references.parse(model).manifest_path for model in held}
                    (ready,) = pod["status"]["conditions"]
                    ready["status"] = "True" if required <= paths else "False"

    def run_kuberay(self) -> None:
        """Be KubeRay: the RayService runs what it asks for, and its Service exists."""
        with self.api.edited("RayService", "assistants") as service:
            service["status"] = {
                "observedGeneration": service["metadata"]["generation"],
                "conditions": [{"type": "Ready", "status": "True"}],
                "activeServiceStatus": {"applicationStatuses": {"modelset": {"status": "RUNNING"}}},
            }
        if ("Service", "default", "assistants-serve-svc") not in self.api.objects:
            owner = {"uid": service["metadata"]["uid"], "controller": True}
            labels = {
                "ray.io/originated-from-crd": "RayService",
                "ray.io/originated-from-cr-name": "assistants",
            }
            metadata = {
                "name": "assistants-serve-svc",
                "namespace": "default",
                "ownerReferences": [owner],
                "labels": labels,
            }
            self.api.put({"kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 8000}]}})

    def edit(self, *models: dict[str, Any], **fields: Any) -> None:
        found = self.api.find("OllamaModelSet", "assistants")
        spec = {**found["spec"], "models": list(models), **fields}
        self.api.put({**found, "spec": spec})

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.api.find("OllamaModelSet", "assistants").get("status", {})
        return status

    def phases(self) -> dict[str, str]:
        return {entry["name"]: entry["phase"] for entry in self.status["models"]}

    def condition(self, kind: str) -> str:
        return next(entry["status"] for entry in self.status["conditions"] if entry["type"] == kind)

    def listed(self) -> list[str]:
        config = json.loads(self.api.find("RayService", "assistants")["spec"]["serveConfigV2"])
        entries = config["applications"][0]["deployments"][0]["user_config"]["models"]
        return [entry["model"] for entry in entries]

    async def to_ready(self) -> None:
        """Take a new set all the way to the steady state."""
        await self.reconcile()
        self.start_pod()
        self.run_kuberay()
        await self.reconcile()
        await self.until_pulled(SMOL, MINI)
        await self.until_ready("assistants-ollama-0")
        self.run_kuberay()
        with self.api.edited("StatefulSet", "assistants-ollama") as stateful_set:
            generation = stateful_set["metadata"]["generation"]
            stateful_set["status"] = {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1}
        await self.reconcile(2)
