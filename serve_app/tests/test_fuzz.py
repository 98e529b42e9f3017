"""A short fuzz run; `make fuzz` is the long one."""

from serve_app.tests import fuzz


async def test_no_body_is_our_fault_and_most_kinds_of_answers_occur() -> None:
    run = await fuzz.fuzz(count=500, seed=7)
    assert run.faults == []
    assert run.statuses.keys() >= {200, 400, 404}
    assert sum(run.statuses.values()) == 500
