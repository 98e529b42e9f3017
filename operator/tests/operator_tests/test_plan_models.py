"""What models come to: one row a situation."""

from typing import Any

import pytest

from modelset_operator.engines import state
from modelset_operator.plan import models
from modelset_operator.plan import observed as seen

from . import builders

RUNNING, FAILED = state.PullPhase.RUNNING, state.PullPhase.FAILED
CHAT, EMBEDS = builders.CHAT, builders.EMBEDS
REFUSED = state.Pull(FAILED, failures=1, message="pull model manifest: file does not exist")
HALF = state.Pull(RUNNING, fraction=0.5, moving=True)


def judge(model: str | dict[str, Any], replicas: int = 1, **fields: Any) -> models.Judged:
    resource = builders.resource(model, ollama={"replicas": replicas}, status=None)
    resource["status"] = fields.pop("status", {})
    (judged,) = models.judge_all(builders.observed(resource, **fields))
    return judged


def pods(*stores: state.Store | None, ready: bool = False) -> tuple[seen.Pod, ...]:
    return tuple(builders.pod(i, store=store, ready=ready) for i, store in enumerate(stores))


def required_names(observed: seen.Observed) -> list[str]:
    (found, *_) = models.required(*observed.modelset.pools, observed).values()
    return [model.name for model in found]


EMPTY, HOLDS = builders.store(), builders.store(m__1=CHAT)


@pytest.mark.parametrize(
    ("fields", "phase", "progress", "ready"),
    [
        pytest.param({}, "Pending", "", 0, id="no pod yet"),
        pytest.param({"pods": pods(None)}, "Pending", "", 0, id="the pod does not run yet"),
        pytest.param({"pods": pods(EMPTY)}, "Pending", "", 0, id="the pull has not begun"),
        pytest.param(
            {"pods": pods(EMPTY), "pulls": {("pod-0", "m:1"): HALF}}, "Pulling", "50%", 0, id="half"
        ),
        pytest.param({"pods": pods(HOLDS)}, "Loading", "100%", 0, id="on disk, the pod not ready"),
        pytest.param({"pods": pods(HOLDS, ready=True)}, "Ready", "100%", 1, id="can answer"),
        pytest.param(
            {"pods": pods(builders.store(m__1=None), ready=True)},
            "Loading",
            "100%",
            0 + 1,
            id="kind not known",
        ),
        pytest.param(
            {"pods": pods(EMPTY), "pulls": {("pod-0", "m:1"): REFUSED}}, "Failed", "", 0, id="Ollama refused"
        ),
        pytest.param(
            {
                "pods": pods(EMPTY),
                "pulls": {("pod-0", "m:1"): state.Pull(RUNNING, failures=2, message="no such host")},
            },
            "Failed",
            "",
            0,
            id="trying again quietly",
        ),
        pytest.param(
            {
                "pods": pods(EMPTY),
                "pulls": {("pod-0", "m:1"): state.Pull(RUNNING, 0.3, True, 2, "no such host")},
            },
            "Pulling",
            "30%",
            0,
            id="trying again with success",
        ),
        pytest.param(
            {
                "pods": pods(EMPTY),
                "pulls": {("pod-0", "m:1"): state.Pull(state.PullPhase.INTERRUPTED, 0.3, message="gone")},
            },
            "Pending",
            "",
            0,
            id="interrupted is not failed",
        ),
        pytest.param(
            {"replicas": 2, "pods": pods(HOLDS, EMPTY, ready=True), "pulls": {("pod-1", "m:1"): HALF}},
            "Ready",
            "75%",
            1,
            id="one pod answers while the other pulls",
        ),
        pytest.param(
            {"replicas": 2, "pods": pods(EMPTY)[:1], "pulls": {("pod-0", "m:1"): HALF}},
            "Pulling",
            "25%",
            0,
            id="a pod that does not exist yet counts",
        ),
        pytest.param(
            {"pods": pods(EMPTY), "pulls": {("pod-0", "m:1"): state.Pull(RUNNING, 1.0, True)}},
            "Pulling",
            "99%",
            0,
            id="never 100% before it is verified",
        ),
        pytest.param(
            {
                "replicas": 2,
                "status": {
                    "models": [{"name": "m:1", "phase": "Pulling", "progress": "90%", "readyReplicas": "0/2"}]
                },
                "pods": pods(HOLDS, EMPTY, ready=True),
            },
            "Ready",
            "50%",
            1,
            id="what another pod had is no progress of one that begins",
        ),
        pytest.param(
            {"pods": pods(EMPTY), "pulls": {("pod-0", "m:1"): state.Pull(RUNNING, moving=True)}},
            "Pulling",
            "0%",
            0,
            id="nothing is there yet",
        ),
        pytest.param({"replicas": 0}, "Pending", "", 0, id="scaled to zero"),
    ],
)
def test_phases(fields: dict[str, Any], phase: str, progress: str, ready: int) -> None:
    judged = judge("m:1", **fields)
    assert (judged.phase, judged.progress, judged.ready_pods) == (phase, progress, ready)


@pytest.mark.parametrize(("told", "message"), [({"message": "told before"}, "told before"), ({}, "")])
def test_a_failure_survives_a_restart_of_the_operator_until_something_better_is_known(
    told: dict[str, str], message: str
) -> None:
    before = {"observedGeneration": 1, "models": [{"name": "m:1", "phase": "Failed", **told}]}
    judged = judge("m:1", status=before, pods=pods(EMPTY), pulls={("pod-0", "m:1"): state.Pull(RUNNING)})
    assert (judged.phase, judged.message) == ("Failed", message)


BROKEN = state.Store({"m:1": state.Held("digest-of-m:1", 1, problem="no such layer")}, {"m:1": "m:1"})


@pytest.mark.parametrize(
    ("fields", "phase", "message"),
    [
        pytest.param(
            {"pods": pods(HOLDS)},
            "Loading",
            "on disk, waiting for assistants-ollama-0 to become ready",
            id="its pod is not ready",
        ),
        pytest.param(
            {"pods": pods(builders.store(m__1=None), ready=True)},
            "Loading",
            "Ollama has not told yet what the model can do",
            id="nobody has told what it is",
        ),
        pytest.param(
            {"replicas": 2, "pods": pods(builders.store(m__1=None), BROKEN, ready=True)},
            "Loading",
            "no such layer",
            id="Ollama cannot tell what it is",
        ),
        pytest.param(
            {
                "pods": pods(EMPTY),
                "pulls": {("pod-0", "m:1"): state.Pull(state.PullPhase.INTERRUPTED, message="gone")},
            },
            "Pending",
            "assistants-ollama-0: gone",
            id="its download was broken off",
        ),
        pytest.param(
            {"pods": pods(EMPTY), "pulls": {("pod-0", "m:1"): state.Pull(state.PullPhase.WAITING)}},
            "Pending",
            "waiting for other downloads onto the same pods",
            id="its download has not begun",
        ),
        pytest.param({}, "Pending", "no Ollama pod has been created yet", id="there is no pod"),
        pytest.param({"replicas": 0}, "Pending", "spec.ollama.replicas is 0", id="no pod is asked for"),
    ],
)
def test_what_a_model_waits_for(fields: dict[str, Any], phase: str, message: str) -> None:
    judged = judge("m:1", **fields)
    assert (judged.phase, judged.message) == (phase, message)


def test_what_the_newest_version_does_not_tell_the_newest_tells_that_does() -> None:
    versions = ((1, EMBEDS), (3, None), (2, CHAT), (0, EMBEDS))
    stores = [builders.store_of({"m:1": told}, version=version) for version, told in versions]
    judged = judge("m:1", replicas=4, pods=pods(*stores, ready=True))
    assert judged.held is not None
    assert (judged.kind, judged.held.digest) == ("Chat", "digest-of-m:13")


def pulling(progress: str, replicas: int = 1) -> dict[str, Any]:
    return {
        "models": [
            {"name": "m:1", "phase": "Pulling", "progress": progress, "readyReplicas": f"0/{replicas}"}
        ]
    }


@pytest.mark.parametrize(
    ("before", "pulls", "progress"),
    [
        pytest.param(pulling("42%"), {}, "42%", id="the operator has just restarted"),
        pytest.param(
            pulling("42%"), {("pod-0", "m:1"): state.Pull(RUNNING, 0.1, True)}, "42%", id="counting anew"
        ),
        pytest.param(pulling("42%"), {("pod-0", "m:1"): HALF}, "50%", id="further than before"),
        pytest.param(pulling(""), {}, "0%", id="it was not told how far it was"),
        pytest.param(pulling("100%"), {}, "99%", id="it was told to be there already"),
        pytest.param(pulling("42%", 2), {("pod-0", "m:1"): state.Pull(RUNNING, 0.1)}, "10%", id="other pods"),
    ],
)
def test_a_download_that_was_interrupted_goes_on_where_it_was(
    before: dict[str, Any], pulls: dict[tuple[str, str], state.Pull], progress: str
) -> None:
    judged = judge("m:1", status=before, pods=pods(EMPTY), pulls=pulls)
    assert (judged.phase, judged.progress, judged.message) == ("Pulling", progress, "")


@pytest.mark.parametrize(
    ("store", "pulls"),
    [
        pytest.param(None, {}, id="its pod does not answer"),
        pytest.param(EMPTY, {("pod-0", "m:1"): state.Pull(state.PullPhase.WAITING)}, id="it waits its turn"),
    ],
)
def test_a_download_that_this_look_does_not_begin_again_is_pending(
    store: state.Store | None, pulls: dict[tuple[str, str], state.Pull]
) -> None:
    assert judge("m:1", status=pulling("42%"), pods=pods(store), pulls=pulls).phase == "Pending"


def test_an_edit_of_the_spec_gives_a_failed_model_another_chance() -> None:
    before = {
        "observedGeneration": 0,
        "models": [{"name": "m:1", "phase": "Failed", "message": "told before"}],
    }
    assert judge("m:1", status=before, pods=pods(EMPTY)).phase == "Pending"


def test_one_reason_names_all_its_pods() -> None:
    pulls = {("pod-0", "m:1"): REFUSED, ("pod-1", "m:1"): REFUSED}
    judged = judge("m:1", replicas=2, pods=pods(EMPTY, EMPTY), pulls=pulls)
    assert (
        judged.message == "assistants-ollama-0, assistants-ollama-1: pull model manifest: file does not exist"
    )


@pytest.mark.parametrize(
    ("declared", "capabilities", "kind", "note"),
    [
        ("Auto", ("completion", "tools"), "Chat", ""),
        ("Auto", ("embedding",), "Embedding", ""),
        ("Auto", ("completion", "embedding"), "Chat", ""),
        ("Chat", None, "Chat", ""),
        ("Chat", ("completion",), "Chat", ""),
        ("Chat", EMBEDS, "Chat", "type is Chat, but Ollama reports only: embedding"),
        ("Embedding", EMBEDS, "Embedding", ""),
        ("Embedding", ("completion",), "Embedding", "type is Embedding, but Ollama reports only: completion"),
    ],
)
def test_kinds(declared: str, capabilities: tuple[str, ...] | None, kind: str, note: str) -> None:
    store = builders.store_of({"m:1": capabilities})
    judged = judge({"name": "m:1", "type": declared}, pods=pods(store, ready=True))
    assert (judged.phase, judged.kind, judged.message) == ("Ready", kind, note)


@pytest.mark.parametrize(
    ("pull", "required"),
    [
        (None, True),
        (HALF, True),
        (state.Pull(FAILED, failures=1, message="500"), True),
        (state.Pull(FAILED, failures=3, message="500"), False),
        (state.Pull(FAILED, failures=1, message="not there", unknown_model=True), False),
        (state.Pull(RUNNING, failures=3, message="500"), False),
    ],
)
def test_pods_do_not_wait_for_a_model_that_cannot_be_had(pull: state.Pull | None, required: bool) -> None:
    pulls = {} if pull is None else {("pod-0", "b:1"): pull}
    pod = builders.pod(store=builders.store(a__1=CHAT))
    observed = builders.observed(builders.resource("a:1", "b:1"), pods=(pod,), pulls=pulls)
    assert required_names(observed) == (["a:1", "b:1"] if required else ["a:1"])


@pytest.mark.parametrize(
    ("phase", "generation", "held", "pull", "required"),
    [
        pytest.param("Failed", 1, (), None, False, id="nothing else is known"),
        pytest.param("Failed", 1, (), state.Pull(RUNNING), False, id="it has only been begun again"),
        pytest.param("Failed", 1, (), state.Pull(RUNNING, moving=True), True, id="it comes after all"),
        pytest.param("Failed", 1, (), state.Pull(FAILED, failures=1), True, id="it begins to fail anew"),
        pytest.param("Failed", 1, ("a:1",), None, True, id="a pod has got it"),
        pytest.param("Failed", 0, (), None, True, id="the spec has changed since"),
        pytest.param("Pulling", 1, (), None, True, id="it had not failed"),
    ],
)
def test_what_had_failed_before_a_restart_is_not_waited_for_anew(
    phase: str, generation: int, held: tuple[str, ...], pull: state.Pull | None, required: bool
) -> None:
    resource = builders.resource("a:1")
    resource["status"] = {"observedGeneration": generation, "models": [{"name": "a:1", "phase": phase}]}
    pod = builders.pod(store=builders.store_of(dict.fromkeys(held, CHAT)))
    pulls = {} if pull is None else {("pod-0", "a:1"): pull}
    observed = builders.observed(resource, pods=(pod,), pulls=pulls)
    assert bool(required_names(observed)) is required


def entries(observed: seen.Observed) -> list[dict[str, Any]]:
    return models.listed_entries(models.judge_all(observed), observed)


def test_only_models_that_can_answer_are_listed() -> None:
    pod = builders.pod(store=builders.store(a__1=CHAT), ready=True)
    found = entries(builders.observed(builders.resource("b:1", "a:1"), pods=(pod,)))
    assert [entry["model"] for entry in found] == ["a:1"]
    assert found[0]["capabilities"] == list(CHAT)


@pytest.mark.parametrize(
    ("store", "pull", "listed"),
    [
        pytest.param(None, None, True, id="its only pod restarts"),
        pytest.param(EMPTY, HALF, True, id="its disk was lost and it is pulled again"),
        pytest.param(EMPTY, REFUSED, False, id="and the registry has lost it too"),
    ],
)
def test_a_listed_model_stays_listed_until_it_fails(
    store: state.Store | None, pull: state.Pull | None, listed: bool
) -> None:
    resource = builders.resource("m:1") | {"status": builders.told_listed("m:1", kind="Embedding")}
    pulls = {} if pull is None else {("pod-0", "m:1"): pull}
    found = entries(builders.observed(resource, pods=(builders.pod(store=store),), pulls=pulls))
    as_before = {"model": "m:1", "type": "Embedding", "capabilities": ["completion"]}
    assert [as_before.items() <= entry.items() for entry in found] == ([True] if listed else [])


@pytest.mark.parametrize("told", [{}, {"modelNames": "other"}, {"models": [{"name": "m:1"}]}])
def test_a_model_that_was_not_listed_does_not_stay_so(told: dict[str, Any]) -> None:
    resource = builders.resource("m:1") | {"status": builders.told_listed("m:1") | told}
    assert bool(entries(builders.observed(resource))) is (not told)


def test_each_of_several_listed_models_stays_listed() -> None:
    resource = builders.resource("a:1", "m:1") | {"status": builders.told_listed("a:1", "m:1")}
    assert [entry["model"] for entry in entries(builders.observed(resource))] == ["a:1", "m:1"]


def test_a_listed_model_takes_its_new_names_at_once() -> None:
    resource = builders.resource({"name": "m:1", "servedNames": ["new"]})
    resource["status"] = builders.told_listed("m:1")
    assert entries(builders.observed(resource))[0]["servedNames"] == ["new"]


def test_a_model_that_is_not_wanted_is_not_listed() -> None:
    pod = builders.pod(store=builders.store(a__1=CHAT, b__1=CHAT), ready=True)
    resource = builders.resource("a:1") | {"status": builders.told_listed("a:1", "b:1")}
    observed = builders.observed(resource, pods=(pod,))
    assert [entry["model"] for entry in entries(observed)] == ["a:1"]
