"""What is in the way of pods that do not come up: Kubernetes' words, and what to do about it. Pure.

All of it is read from what pods and claims are now, so it is gone when its cause is. Of a pod that is only
starting it is told what it waits for, without a reason. What changes from one attempt of the kubelet's to the
next is left out of the words.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelset_operator.api import moments, spec
from modelset_operator.engines import wording
from modelset_operator.manifests import cache as caching
from modelset_operator.manifests import ollama
from modelset_operator.plan import conditions, volumes
from modelset_operator.plan import observed as seen

Pod = seen.Pod | seen.RayPod | seen.CachePod

IMAGE_PULL_FAILED = "ImagePullFailed"
UNSCHEDULABLE = "Unschedulable"
CRASH_LOOPING = "CrashLooping"
OUT_OF_MEMORY = "OutOfMemory"
VOLUME_LOST = "VolumeLost"
# These two are the kubelet's own names.
CONFIG_ERROR = "CreateContainerConfigError"
CREATE_ERROR = "CreateContainerError"
REASONS = frozenset(
    {
        IMAGE_PULL_FAILED,
        UNSCHEDULABLE,
        CRASH_LOOPING,
        OUT_OF_MEMORY,
        VOLUME_LOST,
        CONFIG_ERROR,
        CREATE_ERROR,
    }
)

# The scheduler may be some seconds ahead of a claim, a volume, or a pod that makes room.
SCHEDULING_SECONDS = 30.0
# The kubelet's rule: whoever has run for so long does not crash in a loop.
LOOP_SECONDS = 600.0

# kubelet, pkg/kubelet/images/types.go
_NO_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CRASHED = frozenset({"CrashLoopBackOff", "RunContainerError"})
# Newer kubelets go on with what went wrong, as they say it between two attempts.
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*": (?:[A-Z]\w+: )?')
# Words of the scheduler's plugins, and the fields of a part of the spec that they are about.
_FIELDS = {
    "Insufficient": ("resources",),
    "node affinity/selector": ("nodeSelector", "affinity"),
    "tolerate": ("tolerations",),
    "affinity rules": ("affinity",),
    "topology spread": ("topologySpreadConstraints",),
}
_ANY_FIELD = ("resources", "nodeSelector", "tolerations")
_NO_VOLUME = "bound to non-existent"
_ELSEWHERE = "volume node affinity conflict"
_UNBOUND = ("unbound immediate", "persistent volumes to bind")


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """What is in the way of pods: no `reason` where they are only starting, no `message` where nothing is."""

    reason: str = ""
    message: str = ""


@dataclasses.dataclass(frozen=True)
class _Part:
    """What a set says of pods: the path of that part of its spec, their resources, whether their image."""

    path: str
    resources: Mapping[str, Any]
    image: bool = True

    @property
    def other_image(self) -> str:
        """What to do about an image that nodes cannot pull."""
        secrets = f"{self.path}.imagePullSecrets where its registry asks who pulls"
        if not self.image:
            return f"it is the operator's own; set {secrets}"
        return f"set {self.path}.image to one that nodes can pull, and {secrets}"


def ollama_pods(observed: seen.Observed) -> Obstacle:
    """Return what is in the way of the Ollama pods: the first one's reason, and the words of all."""
    return _together((pod.name, _of_ollama_pod(pod, observed)) for pod in observed.pods)


def ollama_pod(pod: seen.Pod, observed: seen.Observed) -> str:
    """Return what is in the way of one Ollama pod, in words."""
    return _of_ollama_pod(pod, observed).message


def proxy_pods(observed: seen.Observed) -> Obstacle:
    """Return what is in the way of the proxy's pods; those of a Ray cluster on its way out do not matter."""
    proxy = observed.modelset.proxy
    part = _Part("spec.proxy", proxy.resources)
    found = ((pod, _cause(pod, part, observed.now)) for pod in _in_use(observed))
    return _together((pod.name, cause or Obstacle(message=_words(pod.status))) for pod, cause in found)


def cache_pods(cache: spec.Cache, observed: seen.Observed) -> Obstacle:
    """Return what is in the way of the registry cache's pod."""
    part = _Part("spec.registry.cache", cache.resources, image=False)
    claim = caching.claim(observed.modelset.name)
    found = ((pod, _cause(pod, part, observed.now, claim)) for pod in observed.cache.pods)
    return _together((pod.name, cause or Obstacle(message=_words(pod.status))) for pod, cause in found)


def unsettled(observed: seen.Observed) -> bool:
    """Whether the scheduler has only just found no node for a pod: it is an obstacle if it stays so."""
    pods: tuple[Pod, ...] = (*observed.pods, *_in_use(observed), *observed.cache.pods)
    return any(_too_soon(scheduled, observed.now) for pod in pods if (scheduled := _no_node(pod.status)))


def _of_ollama_pod(pod: seen.Pod, observed: seen.Observed) -> Obstacle:
    settings = observed.modelset.ollama
    part = _Part("spec.ollama", settings.resources)
    cause = _lost(pod, observed) or _cause(pod, part, observed.now, ollama.claim(pod.name))
    if cause is not None:
        return cause
    if pod.store is not None:
        return Obstacle()
    # Of a pod about which Kubernetes says nothing.
    silent = "Ollama does not answer yet" if pod.ip else "it has no address yet"
    return Obstacle(message=_words(pod.status) or silent)


def _in_use(observed: seen.Observed) -> Sequence[seen.RayPod]:
    status = (observed.ray_service or {}).get("status") or {}
    parts = [status.get(part) or {} for part in ("activeServiceStatus", "pendingServiceStatus")]
    clusters = {part["rayClusterName"] for part in parts if part.get("rayClusterName")}
    return [pod for pod in observed.ray_pods if not clusters or pod.cluster in clusters]


def _together(pods: Iterable[tuple[str, Obstacle]]) -> Obstacle:
    """Put pods together of which the same is to be said."""
    names: dict[Obstacle, list[str]] = {}
    for name, obstacle in pods:
        if obstacle.message:
            names.setdefault(obstacle, []).append(name)
    reason = next((obstacle.reason for obstacle in names if obstacle.reason), "")
    # What somebody has to act on comes first: long messages are cut.
    ordered = sorted(names, key=lambda obstacle: not obstacle.reason)
    return Obstacle(reason, "; ".join(f"{', '.join(names[one])}: {one.message}" for one in ordered))


def _cause(pod: Pod, part: _Part, now: str, claim: str = "") -> Obstacle | None:
    """Return why a pod does not come up unless something changes. `claim` is that of its volume, if any."""
    if pod.ready:
        return None
    if scheduled := _no_node(pod.status):
        return None if _too_soon(scheduled, now) else _unschedulable(pod.name, scheduled, part, claim)
    for container in _containers(pod.status):
        if found := _container_cause(container, part, now):
            return found
    return None


def _lost(pod: seen.Pod, observed: seen.Observed) -> Obstacle | None:
    claim = volumes.claim_of(pod, observed)
    if claim is None or pod.ready or pod.runs or (claim.get("status") or {}).get("phase") != "Lost":
        return None
    return _volume_lost(pod.name, claim["metadata"]["name"])


def _volume_lost(pod: str, claim: str) -> Obstacle:
    return Obstacle(VOLUME_LOST, f"the volume of PersistentVolumeClaim {claim} is gone; {_anew(pod, claim)}")


def _anew(pod: str, claim: str) -> str:
    return (
        f"to have its models pulled anew onto another one: kubectl delete pvc {claim} --wait=false,"
        f" then kubectl delete pod {pod}"
    )


def _no_node(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the condition by which the scheduler tells that there is no node for a pod."""
    scheduled = conditions.find(status, "PodScheduled")
    told = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return scheduled if told else None


def _too_soon(scheduled: Mapping[str, Any], now: str) -> bool:
    seconds = _seconds(scheduled.get("lastTransitionTime"), now)
    # Clocks differ; one that is far behind is not to keep it from being told.
    return seconds is not None and abs(seconds) < SCHEDULING_SECONDS


def _unschedulable(pod: str, scheduled: Mapping[str, Any], part: _Part, claim: str) -> Obstacle:
    words = str(scheduled.get("message", "")).rstrip(". ")
    if claim and _NO_VOLUME in words:
        return _volume_lost(pod, claim)
    volume = _about_volume(pod, words, claim) if claim else ""
    fields = [field for told, those in _FIELDS.items() if told in words for field in those]
    paths = [f"{part.path}.{field}" for field in dict.fromkeys(fields or ([] if volume else _ANY_FIELD))]
    look = f"look at {', '.join(paths)}, and at what the nodes have" if paths else ""
    return Obstacle(UNSCHEDULABLE, "; ".join(filter(None, [words, volume, look])))


def _about_volume(pod: str, words: str, claim: str) -> str:
    if _ELSEWHERE in words:
        return (
            f"the volume of PersistentVolumeClaim {claim} can be reached from some nodes only:"
            f" have one of them take the pod, or, {_anew(pod, claim)}"
        )
    if any(told in words for told in _UNBOUND):
        return (
            f"PersistentVolumeClaim {claim} has got no volume: kubectl describe pvc {claim} says why;"
            " its StorageClass is spec.ollama.storage.storageClassName, or the cluster's default"
        )
    if claim in words:
        return f"PersistentVolumeClaim {claim} is made anew with the pod: kubectl delete pod {pod}"
    return ""


def _container_cause(container: Mapping[str, Any], part: _Part, now: str) -> Obstacle | None:
    waiting = _waiting(container)
    reason, words = waiting.get("reason"), wording.lasting(str(waiting.get("message", "")))
    if reason in _NO_IMAGE:
        told = _BACK_OFF.sub("", words) or reason
        return Obstacle(
            IMAGE_PULL_FAILED,
            f"image {container.get('image', '')} cannot be pulled: {told}; {part.other_image}",
        )
    if reason in (CONFIG_ERROR, CREATE_ERROR):
        return Obstacle(reason, f"container {container['name']} cannot be made: {words}")
    end = _end(container, now)
    return None if end is None else _crash(container["name"], end, part)


def _end(container: Mapping[str, Any], now: str) -> Mapping[str, Any] | None:
    """Return how a container ended that does not stay up; {} where that is not known, None for all others.

    It is told as well while it runs once more, so that the status does not turn with every attempt.
    """
    state = container.get("state") or {}
    last: Mapping[str, Any] = (container.get("lastState") or {}).get("terminated") or {}
    waiting = _waiting(container)
    if waiting:
        return last if waiting.get("reason") in _CRASHED else None
    if "running" in state:
        runs = _seconds(state["running"].get("startedAt"), now)
        if runs is None or runs >= LOOP_SECONDS:
            return None
    end = state.get("terminated") or last
    if end.get("reason") == "OOMKilled":
        return dict(end)
    ran = _seconds(end.get("startedAt"), end.get("finishedAt"))
    again = container["restartCount"] >= 2 and ran is not None and ran < LOOP_SECONDS
    return dict(end) if again else None


def _crash(container: str, end: Mapping[str, Any], part: _Part) -> Obstacle:
    if end.get("reason") == "OOMKilled":
        limit = (part.resources.get("limits") or {}).get("memory")
        if limit is not None:
            return Obstacle(
                OUT_OF_MEMORY,
                f"container {container} was killed, because it took more memory than its limit, {limit};"
                f" raise {part.path}.resources.limits.memory",
            )
        return Obstacle(
            OUT_OF_MEMORY,
            f"container {container} was killed, because its node had no memory left;"
            f" set {part.path}.resources.requests.memory to what it takes",
        )
    told = f"container {container} ends again and again"
    if end:
        lines = str(end.get("message", "")).strip().splitlines()
        words = [str(end.get("reason", "")), wording.lasting(lines[-1].strip()[:300]) if lines else ""]
        why = ": ".join(filter(None, words))
        told += f", last with exit code {end.get('exitCode')}{f' ({why})' if why else ''}"
    return Obstacle(CRASH_LOOPING, f"{told}; kubectl logs --previous shows what it said")


def _words(status: Mapping[str, Any]) -> str:
    """Return what Kubernetes says of a pod that is only starting."""
    scheduled = conditions.find(status, "PodScheduled")
    waiting = [_waiting(container) for container in _containers(status)]
    told = [one for one in waiting if one.get("reason")]
    if scheduled.get("status") == "False":
        told.append(scheduled)
    return ": ".join(str(told[0][key]) for key in ("reason", "message") if told[0].get(key)) if told else ""


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the containers of a pod in the order in which they start, but those whose work is done."""
    first = status.get("initContainerStatuses") or ()
    left = [one for one in first if ((one.get("state") or {}).get("terminated") or {}).get("exitCode") != 0]
    return [*left, *(status.get("containerStatuses") or ())]


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("state") or {}).get("waiting") or {}


def _seconds(start: Any, end: Any) -> float | None:
    """Return the seconds between two times as Kubernetes writes them, None where one is not known."""
    began, ended = (moments.parse(str(time)) for time in (start, end))
    return None if began is None or ended is None else ended - began
