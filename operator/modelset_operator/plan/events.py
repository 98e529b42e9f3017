"""Events for people who read `kubectl describe`: one at each turn of a set's life, none in between."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelset_operator.api import quantities
from modelset_operator.plan import conditions, models, obstacles, status

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
    events = _scaling_events(before, after)
    for entry in after["models"]:
        previous = phases.get(entry["name"], {})
        events.extend(_model_events(previous, entry))
    events.extend(_volume_events(before, after))
    events.extend(_readiness_events(before, after))
    return tuple(events)


def _scaling_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    was, now = before.get("desiredReplicas"), after.get("desiredReplicas")
    if was is None or now is None or was == now:
        return []
    return [Event(NORMAL, "ScaledUp" if now > was else "ScaledDown", f"from {was} to {now} Ollama pods")]


def _model_events(previous: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Event]:
    before, phase, name, base = previous.get("phase"), entry["phase"], entry["name"], entry.get("from")
    if phase == models.FAILED and (before != phase or previous.get("message") != entry.get("message")):
        reason = "CreateFailed" if base else "PullFailed"
        return [Event(WARNING, reason, f"{name}: {entry.get('message', 'no reason given')}")]
    if phase == models.PULLING and before != phase and not base:
        return [Event(NORMAL, "Pulling", f"pulling {name}")]
    if told := _refresh_events(previous, entry):
        return told
    # A small model may be there before anybody saw it being pulled.
    arrived = before in (models.PULLING, models.CREATING) or previous.get("digest") != entry.get("digest")
    if arrived and phase in (models.LOADING, models.READY):
        if base:
            return [Event(NORMAL, "Created", f"created {name} from {base}")]
        return [Event(NORMAL, "Pulled", f"pulled {name} ({_size(entry.get('size', 0))})")]
    return []


def _refresh_events(previous: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Event]:
    """Return what to tell of a model that answers: its tag has moved, or nobody knows whether it has."""
    name, was, now = entry["name"], previous.get("digest"), entry.get("digest")
    if entry.get("from") or not previous.get("phase") == entry["phase"] == models.READY:
        return []
    if was and now and was != now:
        return [Event(NORMAL, "Updated", f"{name} has moved from {_short(was)} to {_short(now)}")]
    before, told = (str(one.get("message", "")) for one in (previous, entry))
    if told.startswith(models.NOT_REFRESHED) and not before.startswith(models.NOT_REFRESHED):
        return [Event(WARNING, "RefreshFailed", f"{name}: {told}")]
    return []


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _volume_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    return [
        Event(WARNING, status.VOLUMES_TOO_SMALL, conditions.find(after, told)["message"])
        for told in (status.OLLAMA_READY, status.CACHE_READY)
        if _too_small(after, told) and not _too_small(before, told)
    ]


def _too_small(told: Mapping[str, Any], condition: str) -> bool:
    return conditions.find(told, condition).get("reason") == status.VOLUMES_TOO_SMALL


def _readiness_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    was, now = conditions.is_true(before, status.READY), conditions.is_true(after, status.READY)
    if was == now and _in_the_way(after) in ("", _in_the_way(before)):
        return []
    ready = conditions.find(after, status.READY)
    if now:
        return [Event(NORMAL, "Ready", f"serving {after['modelNames']} at {after['endpoint']}")]
    kind = NORMAL if ready["reason"] in _EXPECTED else WARNING
    return [Event(kind, "NotReady", f"{ready['reason']}: {ready['message']}")]


def _in_the_way(told: Mapping[str, Any]) -> str:
    """Return what a status says is in the way: somebody has to act, also before the set was ever ready.

    What is refused is told as a whole; of pods' troubles the kind is, since their words change meanwhile.
    """
    ready = conditions.find(told, status.READY)
    if ready.get("reason") == status.APPLY_FAILED:
        return str(ready.get("message"))
    return str(ready["reason"]) if ready.get("reason") in obstacles.REASONS else ""


def _size(count: int) -> str:
    return quantities.rounded(count, 1000, (" B", " kB", " MB", " GB"))
