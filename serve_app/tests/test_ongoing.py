"""What a replica tells Serve's autoscaler of itself."""

from types import SimpleNamespace

import pytest

from modelset_proxy import app
from modelset_proxy.serving import scaling


@pytest.mark.parametrize(
    ("counts", "told"),
    [({}, 0), ({"a": (2, 3), "b": (0, 4)}, 9)],
    ids=["nothing is asked", "what runs and what waits, of all models"],
)
async def test_a_replica_tells_what_is_open_at_it(counts: dict[str, tuple[int, int]], told: int) -> None:
    replica = SimpleNamespace(app=SimpleNamespace(dispatch=SimpleNamespace(counts=lambda: counts)))
    tell = app.Proxy.func_or_class.record_autoscaling_stats  # type: ignore[attr-defined]
    assert await tell(replica) == {scaling.ONGOING: told}
