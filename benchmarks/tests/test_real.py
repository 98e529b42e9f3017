"""What surrounds the measurements on real Ollamas: the models, their log, speeds, predictions."""

from benchmarks import models, ollama
from benchmarks.dispatch import calibration, real, servers
from benchmarks.dispatch.result import Result

SPEED = servers.Speed(request=0.05, load=0.5, prompt=150, answer=60)


def test_copies_differ_in_the_case_of_their_names_letters_only() -> None:
    weights = b"GGUF general.name" + bytes(12) + b"Smol weights general.name" + bytes(12) + b"more"
    copies = [models.renamed(weights, number) for number in range(4)]
    assert copies[0] == weights
    assert [copy[29:33] for copy in copies] == [b"Smol", b"smol", b"SMol", b"sMol"]
    assert {copy[:29] + copy[33:] for copy in copies} == {weights[:29] + weights[33:]}


def test_loads_are_read_from_a_log_that_tells_of_each_twice() -> None:
    line = 'level=INFO source=server.go:1388 msg="llama runner started in {} seconds"\n'
    log = "".join(line.format(seconds) + "another line\n" for seconds in (0.54, 0.54, 1.2, 1.21))
    assert ollama.loads(log) == [0.54, 1.2]


def test_speeds_are_what_answers_took_on_average() -> None:
    answers = [
        calibration.Timed(loaded, first, 0.5, prompt=0.2, prompt_tokens=40, answer_tokens=30)
        for loaded, first in ((True, 0.8), (False, 0.25), (True, 1.0), (False, 0.35))
    ]
    speed = calibration.speed(answers)
    assert [round(value, 6) for value in (speed.request, speed.load, speed.prompt, speed.answer)] == [
        0.1,
        0.6,
        200,
        60,
    ]
    assert [round(value, 6) for value in speed.loads_vary] == [round(0.5 / 0.6, 6), round(0.7 / 0.6, 6)]
    assert [round(value, 6) for value in speed.requests_vary] == [round(2.5 / 3, 6), round(3.5 / 3, 6)]


def test_a_prediction_names_ours_and_all_others_and_ours_loads_least() -> None:
    predicted = real.predict(SPEED, [real.workloads(100, seed=1)], seed=1)
    assert min(predicted, key=lambda name: predicted[name].loads) == "ours"
    assert len({len(result.waits) for result in predicted.values()}) == 1
    assert len(predicted) == 4


def test_rounds_are_counted_together() -> None:
    both = real.together([Result([1.0, 2.0], 3.0, 4.0, 5), Result([6.0], 7.0, 8.0, 9)])
    assert both == Result([1.0, 2.0, 6.0], 10.0, 12.0, 14)


def test_there_are_fewer_requests_where_they_would_take_too_long() -> None:
    slow = servers.Speed(request=0.05 * 10, load=0.5 * 10, prompt=150 / 10, answer=60 / 10)
    seconds, slower = (
        sum(result.ended for result in real.predict(speed, real.affordable(speed), seed=0).values())
        for speed in (SPEED, slow)
    )
    assert seconds < slower < 720
    assert [len(requests) for requests in real.affordable(SPEED)] == [220, 220]


def test_a_prediction_that_is_off_by_more_than_a_quarter_misses() -> None:
    def results(ours: int) -> real.Results:
        others = {name: Result([1.0], ended=1.0, loads=100) for name in real.OTHERS}
        return {"ours": Result([1.0], ended=1.0, loads=ours), **others}

    found = list(real.foreseen(results(50), [results(60), results(70)]))
    assert [one.reached for one in found if one.name.startswith("loads")] == [False] * 3
    assert all(one.reached for one in found if not one.name.startswith("loads"))
    assert all(one.reached for one in real.foreseen(results(50), [results(60), results(64)]))
