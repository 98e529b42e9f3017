"""Every name that is seen outside the operator: the resource, its children, labels, annotations."""

from typing import Any

GROUP = "modelset.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "OllamaModelSet"
PLURAL = "ollamamodelsets"

FIELD_MANAGER = "modelset-operator"

SET_LABEL = f"{GROUP}/set"
APPLICATION_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
OLLAMA_COMPONENT = "ollama"
PROXY_COMPONENT = "proxy"
CACHE_COMPONENT = "cache"

OPENAI_LABEL = "openai-compatible"
MODELS_LABEL = f"{GROUP}/models"
MODEL_LABEL_PREFIX = f"model.{GROUP}/"
MODEL_NAMES_ANNOTATION = f"{GROUP}/openai-model-names"
OPERATOR_ANNOTATION = f"{GROUP}/operator"
# On Ollama pods that pull through the cache of their set.
CACHED_LABEL = f"{GROUP}/registry-cache"
HASH_ANNOTATION = f"{GROUP}/applied-hash"
# When the set's registries are to be asked whether tags have moved, as an RFC 3339 time.
REFRESH_ANNOTATION = f"{GROUP}/refresh"

OLLAMA_PORT = 11434
SERVE_PORT = 8000
CACHE_PORT = 5000
CACHE_WATCH_PORT = 8081


def ollama(set_name: str) -> str:
    """Name of the pool of all Ollama pods of a set: of its StatefulSet, headless Service and ConfigMap."""
    return f"{set_name}-ollama"


def cache(set_name: str) -> str:
    """Name of the registry cache of a set: of its StatefulSet and its Service."""
    return f"{set_name}-{CACHE_COMPONENT}"


def cache_url(set_name: str, namespace: str) -> str:
    """URL of the cache for the set's Ollama pods."""
    return f"http://{cache(set_name)}.{namespace}.svc:{CACHE_PORT}"


def pods_of(set_name: str, component: str) -> str:
    """Name of what a set has for all pods of a component: its NetworkPolicy, its PodDisruptionBudget."""
    return f"{set_name}-{component}"


def ray_service(set_name: str) -> str:
    """Name of a set's RayService; KubeRay derives its own names from it."""
    return set_name


def serve_service(set_name: str) -> str:
    """Name of the Service that KubeRay makes for port 8000 of a set's RayService."""
    return f"{set_name}-serve-svc"


def pool_of(pod: str) -> str:
    """Name of the pool that an Ollama pod is of: a StatefulSet's pods have its name and their number."""
    return pod.rpartition("-")[0]


def ollama_url(pool: str, namespace: str) -> str:
    """URL whose DNS name lists the Ollama pods of a pool that can serve."""
    return f"http://{pool}.{namespace}.svc:{OLLAMA_PORT}"


def proxy_url(set_name: str, namespace: str) -> str:
    """URL of a set's proxy."""
    return f"http://{serve_service(set_name)}.{namespace}.svc:{SERVE_PORT}"


def endpoint(set_name: str, namespace: str) -> str:
    """Base URL for OpenAI clients."""
    return f"{proxy_url(set_name, namespace)}/v1"


def ollama_selector(set_name: str) -> dict[str, str]:
    """Labels that select a set's Ollama pods, and nothing else."""
    return selector(set_name, OLLAMA_COMPONENT)


def proxy_selector(set_name: str) -> dict[str, str]:
    """Labels that select the Ray pods of a set's proxy."""
    return selector(set_name, PROXY_COMPONENT)


def selector(set_name: str, component: str) -> dict[str, str]:
    """Labels that select all pods of a set's component."""
    return {SET_LABEL: set_name, COMPONENT_LABEL: component}


def selector_text(labels: dict[str, str]) -> str:
    """Return labels in the form that list requests and the scale subresource take."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def common_labels(set_name: str, component: str) -> dict[str, str]:
    """Labels of every object of a set; they never depend on models, so pod templates can carry them."""
    return {
        APPLICATION_LABEL: "modelset",
        "app.kubernetes.io/instance": set_name,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        COMPONENT_LABEL: component,
        SET_LABEL: set_name,
    }


def owner_reference(set_name: str, uid: str) -> dict[str, Any]:
    """Reference that lets the garbage collector delete a child with its set, the operator running or not."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": set_name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
