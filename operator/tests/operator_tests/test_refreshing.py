"""Tags that move: when registries are asked again, by whom, and what is told of it."""

import dataclasses
import datetime
from typing import Any

import pytest

from modelset_operator.api import moments, names, references, spec
from modelset_operator.engines import state
from modelset_operator.plan import decide, events, models, refreshing
from modelset_operator.plan import observed as seen

from . import builders, worlds

CHAT = builders.CHAT
NOW = moments.parse(builders.NOW) or 0.0
HOUR = 3600.0
POD_0, POD_1 = "assistants-ollama-0", "assistants-ollama-1"


def at(seconds_ago: float) -> str:
    return moments.written(NOW - seconds_ago)


def pod(ordinal: int, ago: float, digest: str = "", started: float | None = None) -> seen.Pod:
    """Return a pod that has written its model so many seconds ago, and was started before or after that."""
    held = builders.store_of({"m:1": CHAT})
    entry = dataclasses.replace(held.held["m:1"], changed=NOW - ago)
    entry = dataclasses.replace(entry, digest=digest or entry.digest)
    found = builders.pod(ordinal, store=dataclasses.replace(held, held={"m:1": entry}), ready=True)
    return dataclasses.replace(found, started="" if started is None else at(started))


def look(
    *pods: seen.Pod,
    refresh: str | None = None,
    asked: str = "",
    pulls: dict[tuple[str, str], state.Pull] | None = None,
    status: dict[str, Any] | None = None,
) -> seen.Observed:
    entry = {"name": "m:1"} | ({"refresh": refresh} if refresh else {})
    resource = builders.resource(entry, ollama={"replicas": max(1, len(pods))})
    if asked:
        resource["metadata"]["annotations"] = {names.REFRESH_ANNOTATION: asked}
    resource["status"] = status or {}
    return builders.observed(resource, pods=pods, pulls=pulls or {})


def looking(observed: seen.Observed) -> list[str]:
    return [pull.pod for pull in decide.plan(observed).pulls]


@pytest.mark.parametrize(
    ("refresh", "ago", "pods"),
    [
        (None, 9 * HOUR, []),
        ("Never", 9 * HOUR, []),
        ("1h", HOUR - 1, []),
        ("1h", HOUR, [POD_0]),
        ("1h30m", HOUR, []),
        ("Always", 299, []),
        ("Always", 300, [POD_0]),
    ],
)
def test_one_pod_looks_for_all_as_often_as_the_spec_says(
    refresh: str | None, ago: float, pods: list[str]
) -> None:
    assert looking(look(pod(0, ago), pod(1, ago + 5), refresh=refresh)) == pods


@pytest.mark.parametrize(
    ("asked", "ago", "pods"),
    [
        (at(60), 61, [POD_0]),
        (at(60), 59, []),
        # Of what happened within one second nobody knows which came first.
        (at(60), 59.5, [POD_0]),
        (at(-60), 3600, []),
        ("2026-01-02T05:00:00+02:00", 2 * HOUR, [POD_0]),
        ("now, please", 3600, []),
    ],
)
def test_somebody_asks_for_a_look_by_an_annotation_whatever_the_spec_says(
    asked: str, ago: float, pods: list[str]
) -> None:
    assert looking(look(pod(0, ago), pod(1, ago), asked=asked)) == pods


@pytest.mark.parametrize(
    ("refresh", "started", "pods"), [("Always", 20, [POD_1]), ("Always", 40, []), ("1h", 20, [])]
)
def test_a_pod_that_has_started_looks_by_itself_where_the_spec_says_always(
    refresh: str, started: float, pods: list[str]
) -> None:
    assert looking(look(pod(0, 30), pod(1, 30, started=started), refresh=refresh)) == pods


def test_who_has_begun_to_look_goes_on() -> None:
    begun = {("pod-1", "m:1"): state.Pull(state.PullPhase.FAILED, failures=1, message="no such host")}
    pods = (pod(0, HOUR), dataclasses.replace(pod(1, HOUR), ready=False))
    assert looking(look(*pods, refresh="1h", pulls=begun)) == [POD_1]
    assert looking(look(*pods[::-1], refresh="1h")) == [POD_0]


def test_another_version_is_pulled_by_the_others_and_nobody_looks_again_meanwhile() -> None:
    observed = look(pod(0, HOUR, "new"), pod(1, 2 * HOUR), refresh="1h")
    assert looking(observed) == [POD_1]
    assert not refreshing.due(observed.modelset.models[0], observed)


def test_what_pods_hold_is_kept_while_they_look_and_what_they_lack_is_not() -> None:
    (again,) = decide.plan(look(pod(0, HOUR), refresh="1h")).pulls
    empty = builders.pod(0, store=builders.store_of({}))
    (first,) = decide.plan(look(empty, refresh="1h")).pulls
    assert (again.again, first.again) == (True, False)


def test_a_time_that_is_not_known_calls_for_no_look() -> None:
    assert not looking(look(pod(0, NOW), refresh="1h", asked=at(0)))


def test_variants_come_from_no_registry() -> None:
    variant = {"name": "v", "from": "m:1"}
    resource = builders.resource({"name": "m:1", "refresh": "1h"}, variant)
    observed = builders.observed(resource, pods=(pod(0, HOUR),))
    assert [pull.key for pull in decide.plan(observed).pulls if pull.recipe is None] == ["m:1"]
    assert refreshing.due(observed.modelset.models[1], observed) == ()
    assert refreshing.looked_at(observed.modelset.models[1], observed) == 0


@pytest.mark.parametrize(
    ("refresh", "asked", "seconds"),
    [
        (None, "", None),
        ("1h", "", HOUR - 10),
        ("1h", at(-60), 60),
        (None, at(-60), 60),
        (None, at(60), None),
        ("5s", "", None),
    ],
)
def test_a_set_is_looked_at_in_time(refresh: str | None, asked: str, seconds: float | None) -> None:
    assert decide.plan(look(pod(0, 10), refresh=refresh, asked=asked)).refresh_in == seconds


@pytest.mark.parametrize(
    ("pull", "message"),
    [
        (None, ""),
        (state.Pull(state.PullPhase.RUNNING, 1.0, moving=True), ""),
        (state.Pull(state.PullPhase.RUNNING, 0.3), ""),
        (
            state.Pull(state.PullPhase.RUNNING, 0.42, moving=True),
            f"the tag has moved: {POD_0} has 42% of its new version",
        ),
        (
            state.Pull(state.PullPhase.FAILED, failures=1, message="no such host"),
            f"its registry could not be asked again: {POD_0}: no such host",
        ),
    ],
)
def test_a_model_answers_while_it_is_looked_at_and_says_how_that_goes(
    pull: state.Pull | None, message: str
) -> None:
    pulls = {("pod-0", "m:1"): pull} if pull else {}
    (judged,) = models.judge_all(look(pod(0, HOUR), refresh="1h", pulls=pulls))
    assert (judged.phase, judged.message, judged.ready_pods) == ("Ready", message, 1)


def test_a_failed_download_is_told_as_such_where_no_look_is_due() -> None:
    failed = {("pod-1", "m:1"): state.Pull(state.PullPhase.FAILED, failures=1, message="no such host")}
    lacking = builders.pod(1, store=builders.store_of({}), ready=True)
    (judged,) = models.judge_all(look(pod(0, 10), lacking, refresh="1h", pulls=failed))
    assert judged.message == f"{POD_1}: no such host"


def test_the_status_tells_when_a_pod_looked_last_and_does_not_forget_it() -> None:
    (entry,) = decide.told(look(pod(0, 60), pod(1, 90))).status["models"]
    assert entry["checkedAt"] == at(60)
    before = {"models": [entry]}
    (entry,) = decide.told(look(builders.pod(0), status=before)).status["models"]
    assert entry["checkedAt"] == at(60)


def _entry(**fields: Any) -> dict[str, Any]:
    return {"models": [{"name": "m:1", "phase": "Ready", **fields}], "desiredReplicas": 1}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            {"digest": "sha256:0123456789abcdef"},
            {"digest": "fedcba9876543210"},
            [("Updated", "m:1 has moved from 0123456789ab to fedcba987654")],
        ),
        ({"digest": "a"}, {"digest": "a", "message": "anything else"}, []),
        (
            {"digest": "a"},
            {"digest": "a", "message": f"{models.NOT_REFRESHED}p: no"},
            [("RefreshFailed", f"m:1: {models.NOT_REFRESHED}p: no")],
        ),
        (
            {"digest": "a", "message": f"{models.NOT_REFRESHED}p: no"},
            {"digest": "a", "message": f"{models.NOT_REFRESHED}p: nothing"},
            [],
        ),
        ({"digest": "a", "phase": "Pulling"}, {"digest": "b", "size": 5}, [("Pulled", "pulled m:1 (5 B)")]),
        ({"from": "b", "digest": "a"}, {"from": "b", "digest": "c"}, [("Created", "created m:1 from b")]),
    ],
)
def test_events_tell_of_a_tag_that_has_moved_and_of_looks_that_fail(
    before: dict[str, Any], after: dict[str, Any], told: list[tuple[str, str]]
) -> None:
    found = events.transitions(_entry(**before), _entry(**after))
    assert [(one.reason, one.message) for one in found if one.reason != "NotReady"] == told


def test_a_preloaded_model_is_loaded_anew_with_its_new_weights() -> None:
    def version(digest: str, **entry: Any) -> str:
        resource = builders.resource({"name": "m:1", "preload": True}, *entry.get("more", ()))
        observed = builders.observed(resource, pods=(pod(0, 10, digest),))
        return decide.plan(observed).loads[0].version

    assert (version("a"), version("b")) == ("a", "b")


# --- what the spec says


@pytest.mark.parametrize(
    ("text", "refresh"),
    [
        ("Never", spec.Refresh()),
        ("Always", spec.Refresh(300.0, at_starts=True)),
        ("90m", spec.Refresh(5400.0)),
        ("1h30m10s500ms", spec.Refresh(5410.5)),
    ],
)
def test_refresh_is_never_always_or_a_duration(text: str, refresh: spec.Refresh) -> None:
    (model,) = builders.modelset({"name": "m:1", "refresh": text}).models
    assert model.refresh == refresh


@pytest.mark.parametrize("text", ["", "1", "h", "1d", "1h x", "-1h", "always"])
def test_nonsense_names_the_field(text: str) -> None:
    with pytest.raises(spec.SpecError, match=r"spec\.models: refresh: .* is no duration, such as 1h"):
        builders.modelset({"name": "m:1", "refresh": text})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("1970-01-01T00:01:00", 60.0),
        ("2026-11-29T14:30:28.123456789Z", 1795962628.123456),
        ("soon", None),
        ("", None),
    ],
)
def test_moments_are_read_as_they_are_written_everywhere(text: str, seconds: float | None) -> None:
    assert moments.parse(text) == seconds


def test_a_moment_is_written_to_the_second() -> None:
    assert moments.written(60.9) == "1970-01-01T00:01:00Z"


def test_an_older_version_has_a_name_that_no_spec_has() -> None:
    reference = references.parse("Models.Example:5000/team/m:1")
    kept = str(references.aside(reference))
    assert kept == "replaced.Models.Example:5000/team/m:1"
    assert references.parse(kept) == references.aside(reference)
    assert (references.is_aside(kept), references.is_aside(str(reference))) == (True, False)


# --- a whole set


async def test_a_moved_tag_is_pulled_anew_without_a_restart_and_leaves_nothing_behind(
    world: worlds.World,
) -> None:
    await world.to_ready()
    server = world.fleet.servers["10.0.0.1"]
    before = world.status["models"][0]["digest"]
    server.requests.clear()
    world.fleet.registry[worlds.SMOL] = dataclasses.replace(world.fleet.registry[worlds.SMOL], pushed=1)
    now = datetime.datetime.now(datetime.UTC)
    world.fleet.now = moments.written(now.timestamp() + 5)
    found = world.api.find("OllamaModelSet", "assistants")
    found["metadata"]["annotations"] |= {names.REFRESH_ANNOTATION: moments.written(now.timestamp())}
    world.api.put(found)
    await world.until(lambda: len(server.written) == 2)
    await world.until(lambda: world.status["models"][0]["digest"] != before)
    asked = [one for one in server.requests if one.startswith(("/api/pull", "/api/copy"))]
    assert sorted(asked) == [
        f"/api/{what} {name}" for what in ("copy", "pull") for name in (worlds.MINI, worlds.SMOL)
    ]
    world.now[0] += decide.DRAIN_SECONDS
    await world.until(lambda: set(server.held) == {worlds.SMOL, worlds.MINI})
    assert world.condition("Ready") == "True"
    told = [event["reason"] for event in world.api.events]
    assert "Updated" in told
    assert "Removed" not in told
