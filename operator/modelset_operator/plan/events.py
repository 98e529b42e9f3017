"""Events for people who read `kubectl describe`: one at each turn of a set's life, none in between."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelset_operator.plan import models, status

NORMAL, WARNING = "Normal", "Warning"
# Reasons for not being ready that are part of getting ready.
_EXPECTED = frozenset(
    {"PullingModels", "WaitingForModels", "Starting", "Creating", "ScaledToZero", "PodsNotReady"}
)


@dataclasses.dataclass(frozen=True)
class Event:
    """An Event about the set."""

    type: str
    reason: str
    message: str


def transitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Event, ...]:
    """Return what to tell when a set's status turns from one into another."""
    phases = {entry.get("name"): entry for entry in before.get("models") or ()}
    events = []
    for entry in after["models"]:
        previous = phases.get(entry["name"], {})
        events.extend(_model_events(previous, entry))
    events.extend(_volume_events(before, after))
    events.extend(_readiness_events(before, after))
    return tuple(events)


def _model_events(previous: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Event]:
    before, phase, name = previous.get("phase"), entry["phase"], entry["name"]
    if phase == models.FAILED and (before != phase or previous.get("message") != entry.get("message")):
        return [Event(WARNING, "PullFailed", f"{name}: {entry.get('message', 'no reason given')}")]
    if phase == models.PULLING and before != phase:
        return [Event(NORMAL, "Pulling", f"pulling {name}")]
    # A small model may be there before anybody saw it being pulled.
    arrived = before == models.PULLING or previous.get("digest") != entry.get("digest")
    if arrived and phase in (models.LOADING, models.READY):
        return [Event(NORMAL, "Pulled", f"pulled {name} ({_size(entry.get('size', 0))})")]
    return []


def _volume_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    was, now = (_ollama(told) for told in (before, after))
    if now.get("reason") != status.VOLUMES_TOO_SMALL or was.get("reason") == status.VOLUMES_TOO_SMALL:
        return []
    return [Event(WARNING, status.VOLUMES_TOO_SMALL, now["message"])]


def _ollama(told: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = told.get("conditions") or ()
    return next((one for one in conditions if one.get("type") == status.OLLAMA_READY), {})


def _readiness_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    was, now = status.is_true(before, status.READY), status.is_true(after, status.READY)
    if was == now and _refusal(after) in ("", _refusal(before)):
        return []
    ready = next(condition for condition in after["conditions"] if condition["type"] == status.READY)
    if now:
        return [Event(NORMAL, "Ready", f"serving {after['modelNames']} at {after['endpoint']}")]
    kind = NORMAL if ready["reason"] in _EXPECTED else WARNING
    return [Event(kind, "NotReady", f"{ready['reason']}: {ready['message']}")]


def _refusal(told: Mapping[str, Any]) -> str:
    """Return what a status says is in the way: somebody has to act, also before the set was ever ready."""
    for condition in told.get("conditions") or ():
        if condition.get("type") == status.READY and condition.get("reason") == status.APPLY_FAILED:
            return str(condition.get("message"))
    return ""


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
