"""What is being waited for: at servers, and by clients that take what came."""

import asyncio

import pytest

from modelset_proxy.dispatch import facts, leases
from modelset_proxy.engines import port

pytestmark = pytest.mark.simulated


class Leased:
    """A lease that began at 100, and whether its client was dropped."""

    def __init__(self, url: str = "s1", model: str = "a", *, streams: bool = True) -> None:
        self.dropped = 0
        call = port.Call("req_1", drop=self._drop)
        self.lease = leases.Lease(facts.Start(facts.Request(1, model), 0, url), call, 100.0, streams=streams)

    def _drop(self) -> None:
        self.dropped += 1


async def test_it_moves_with_each_item() -> None:
    lease = Leased().lease
    assert not lease.moved(100.0)
    lease.items += 1
    assert lease.moved(101.0)
    assert not lease.moved(102.0)


@pytest.mark.parametrize(
    ("handing", "moved", "now", "dropped"),
    [
        (True, False, 160.0, 0),
        (True, False, 160.1, 1),
        (False, False, 999.0, 0),
        (True, True, 189.0, 0),
        (True, True, 190.1, 1),
    ],
)
async def test_a_client_that_takes_nothing_for_a_minute_is_dropped(
    handing: bool, moved: bool, now: float, dropped: int
) -> None:
    leased = Leased()
    leased.lease.handing = handing
    if moved:
        leased.lease.items += 1
        leased.lease.moved(130.0)
    leased.lease.drop_if_stalled(now)
    assert leased.dropped == dropped


class TestGivingUp:
    """A wait for a server may be ended, once, and nothing but the wait."""

    @staticmethod
    async def _waiting(*, handing: bool) -> tuple[asyncio.Task[bool], leases.Lease]:
        """Return a task that waits for a server, and tells whether the wait was given up."""
        made: asyncio.Future[leases.Lease] = asyncio.get_running_loop().create_future()

        async def wait() -> bool:
            lease = Leased().lease
            lease.handing = handing
            made.set_result(lease)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not lease.was_given_up():
                    raise
                await asyncio.sleep(1)
                return True
            return False

        task = asyncio.create_task(wait())
        return task, await made

    async def test_the_task_goes_on(self) -> None:
        task, lease = await self._waiting(handing=False)
        assert not lease.was_given_up()
        lease.give_up()
        lease.give_up()
        assert await task

    async def test_whoever_is_being_served_notices_nothing(self) -> None:
        task, lease = await self._waiting(handing=True)
        lease.give_up()
        assert not await task

    async def test_a_client_that_leaves_is_no_server_that_hangs(self) -> None:
        task, lease = await self._waiting(handing=False)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not lease.was_given_up()

    async def test_a_client_that_leaves_meanwhile_is_gone(self) -> None:
        task, lease = await self._waiting(handing=False)
        lease.give_up()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_where_something_is_waited_for_and_whether_it_streams() -> None:
    taken = Leased("s3").lease
    taken.handing = True
    found = leases.waited_for(
        [
            Leased("s1", streams=False).lease,
            Leased("s1", streams=True).lease,
            Leased("s1", streams=False).lease,
            Leased("s2", "b", streams=False).lease,
            taken,
        ]
    )
    assert found == {("s1", "a"): True, ("s2", "b"): False}
