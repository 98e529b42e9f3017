"""Pods that hold different versions of one tag."""

import pytest

from modelset_operator.engines import state
from modelset_operator.plan import decide, models
from modelset_operator.plan import observed as seen

from . import builders

CHAT, EMBEDS = builders.CHAT, builders.EMBEDS


def look(*versions: int, ready: bool = True, **pulls: state.Pull) -> seen.Observed:
    pods = tuple(
        builders.pod(ordinal, store=builders.store_of({"m:1": CHAT}, version=version), ready=ready)
        for ordinal, version in enumerate(versions)
    )
    resource = builders.resource("m:1", ollama={"replicas": len(versions)})
    found = {(uid.replace("_", "-"), "m:1"): pull for uid, pull in pulls.items()}
    return builders.observed(resource, pods=pods, pulls=found)


@pytest.mark.parametrize(
    ("versions", "ready", "again"),
    [
        ((1, 1), 2, []),
        ((1, 2), 1, ["assistants-ollama-0"]),
        ((3, 2, 3), 2, ["assistants-ollama-1"]),
        ((3, 2, 1), 1, ["assistants-ollama-1", "assistants-ollama-2"]),
    ],
)
def test_only_the_newest_version_counts_and_the_others_are_pulled_again(
    versions: tuple[int, ...], ready: int, again: list[str]
) -> None:
    observed = look(*versions)
    assert [pull.pod for pull in decide.plan(observed).pulls] == again
    (judged,) = models.judge_all(observed)
    assert (judged.phase, judged.ready_pods, judged.outdated) == ("Ready", ready, tuple(again))
    status = decide.told(observed).status
    (entry,), (_, leaf, *_) = status["models"], status["conditions"]
    assert entry["digest"] == f"digest-of-m:1{max(versions)}"
    assert (leaf["status"], leaf["reason"]) == (
        ("False", "VersionsDiffer") if again else ("True", "AllModelsReady")
    )
    assert all(pod in leaf["message"] and pod in entry["message"] for pod in again)


def test_progress_tells_of_the_version_that_counts() -> None:
    half = state.Pull(state.PullPhase.RUNNING, 0.5, moving=True)
    (judged,) = models.judge_all(look(1, 2, pod_0=half))
    assert judged.progress == "75%"


def test_a_set_answers_with_an_older_version_while_the_newest_cannot() -> None:
    old, new = look(1, 2).pods
    pods = (old, builders.pod(1, store=new.store, ready=False))
    (judged,) = models.judge_all(builders.observed(builders.resource("m:1"), pods=pods))
    assert (judged.phase, judged.ready_pods) == ("Ready", 0)


def test_what_the_newest_can_do_is_taken_from_the_one_before_until_it_has_told() -> None:
    old = builders.pod(0, store=builders.store_of({"m:1": EMBEDS}, version=1), ready=True)
    new = builders.pod(1, store=builders.store_of({"m:1": None}, version=2), ready=True)
    (judged,) = models.judge_all(builders.observed(builders.resource("m:1"), pods=(old, new)))
    assert (judged.kind, judged.phase) == ("Embedding", "Ready")
    assert judged.held is not None
    assert (judged.held.digest, judged.held.capabilities) == ("digest-of-m:12", EMBEDS)


def test_pods_go_on_waiting_for_a_model_whose_newest_version_cannot_be_had() -> None:
    failed = state.Pull(state.PullPhase.FAILED, failures=9, message="no such host", unknown_model=True)
    observed = look(1, 2, pod_0=failed)
    for required in models.required(*observed.modelset.pools, observed).values():
        assert [model.name for model in required] == ["m:1"]
