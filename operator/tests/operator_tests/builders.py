"""Short ways to write down sets, pods and what was observed."""

from typing import Any

from modelset_operator.api import references, spec
from modelset_operator.engines import state
from modelset_operator.manifests import ray
from modelset_operator.plan import observed as seen

IMAGES = spec.Images(ollama="ollama/ollama:test", proxy="modelset-proxy:test", cache="modelset-operator:test")
CREATED = "2026-01-02T03:04:05Z"
CREATED_SECONDS = 1767323045
NOW = "2026-01-02T04:00:00Z"
CHAT = ("completion", "tools")
EMBEDS = ("embedding",)


def resource(*models: str | dict[str, Any], name: str = "assistants", **spec_fields: Any) -> dict[str, Any]:
    """Return an OllamaModelSet as the API server would; models are names or whole entries."""
    entries = [{"name": model} if isinstance(model, str) else model for model in models]
    return {
        "apiVersion": "modelset.dev/v1alpha1",
        "kind": "OllamaModelSet",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": "set-uid",
            "generation": 1,
            "creationTimestamp": CREATED,
        },
        "spec": {"models": entries, **spec_fields},
    }


def modelset(*models: str | dict[str, Any], **spec_fields: Any) -> spec.ModelSet:
    """Return a parsed set."""
    return spec.parse(resource(*models, **spec_fields), IMAGES)


def store(**held: tuple[str, ...] | None) -> state.Store:
    """Return what a pod holds: keyword arguments are model names, with `__` for `:`, and capabilities."""
    names = {name.replace("__", ":"): capabilities for name, capabilities in held.items()}
    return store_of(names)


def store_of(
    held: dict[str, tuple[str, ...] | None], loaded: tuple[str, ...] = (), version: int = 0
) -> state.Store:
    """Return what a pod holds, by reference, with what each can do; `loaded` is in memory.

    Later versions have other digests.
    """
    entries, spelled = {}, {}
    for name, capabilities in held.items():
        reference = references.parse(name)
        entries[reference.key] = state.Held(
            f"digest-of-{reference}{version or ''}", 1_500_000, facts(capabilities), changed=version
        )
        spelled[reference.key] = str(reference)
    return state.Store(entries, spelled, {references.parse(name).key: 0 for name in loaded})


def facts(capabilities: tuple[str, ...] | None) -> state.Facts | None:
    """Return what a model tells of itself that can do this; None where it was not asked."""
    return None if capabilities is None else state.Facts(capabilities)


def pod(ordinal: int = 0, *, store: state.Store | None = None, ready: bool = False) -> seen.Pod:
    """Return an Ollama pod."""
    return seen.Pod(
        name=f"assistants-ollama-{ordinal}",
        pool="assistants-ollama",
        uid=f"pod-{ordinal}",
        ip=f"10.0.0.{ordinal + 1}",
        ready=ready,
        store=store,
    )


def ray_service(
    modelset: spec.ModelSet,
    entries: list[dict[str, Any]] | None = None,
    app: str = "RUNNING",
    ready: str = "True",
) -> dict[str, Any]:
    """Return a RayService that lists these models, in the state that KubeRay reports when it runs."""
    manifest = ray.ray_service(modelset, entries or [], {"labels": {}, "annotations": {}})
    manifest["metadata"]["generation"] = 3
    manifest["status"] = {
        "observedGeneration": 3,
        "conditions": [{"type": "Ready", "status": ready, "reason": "NonZeroServeEndpoints"}],
        "activeServiceStatus": {
            "rayClusterName": "assistants-abc",
            "applicationStatuses": {"modelset": {"status": app}},
        },
    }
    return manifest


def listed(modelset: spec.ModelSet, *names: str, kind: str = "Chat") -> list[dict[str, Any]]:
    """Return user_config entries for some models of a set."""
    return [
        ray.model_entry(model, kind, ["completion"], modelset.created)
        for model in modelset.models
        if model.name in names
    ]


def told_listed(*names: str, kind: str = "Chat") -> dict[str, Any]:
    """Return a status that tells of these models that clients may ask for them."""
    entries = [
        {"name": name, "servedNames": [name], "type": kind, "capabilities": ["completion"]} for name in names
    ]
    return {"modelNames": ";".join(sorted(names)), "models": entries}


def observed(modelset_resource: dict[str, Any], **fields: Any) -> seen.Observed:
    """Return what one look has found."""
    parsed = spec.parse(modelset_resource, IMAGES)
    return seen.Observed(modelset=parsed, resource=modelset_resource, now=NOW, **fields)
