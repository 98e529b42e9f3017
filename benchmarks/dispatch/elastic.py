"""The simulator with servers that come and go: somebody decides each second how many there are to be."""

from collections.abc import Sequence

from benchmarks.dispatch import pods, scaling, simulator, ways, workload
from benchmarks.dispatch.result import Result

# The operator is told of what changes; within this long at the most it has decided.
_DECIDE_SECONDS = 1.0
_TICK = "tick"


class Elastic(simulator.Simulation):
    """Servers are those of ``fleet`` that are ready, as far as the way has looked."""

    def __init__(self, fleet: pods.Pods, way: ways.Scalable, scaler: scaling.Scaler) -> None:
        super().__init__((), way)
        self._pods = fleet
        self._scalable = way
        self._scaler = scaler
        self._until = 0.0

    def run_until(self, seconds: float, arrivals: Sequence[workload.Arrival]) -> Result:
        """Run so long, and to the end of what was asked by then; pods count for so long."""
        self._until = seconds
        self._push(0.0, _TICK)
        result = self.run(arrivals)
        self._pods.end(result.ended if result.ended > seconds else seconds)
        return result

    def _look(self, now: float) -> None:
        self._next_look = now + simulator.LOOK_SECONDS
        ready = self._pods.ready(now)
        self._way.look(now, {server.name: server.loaded for server in ready})
        for server in ready:
            self._fleet[server.name] = server
        self._pods.seen(now)

    def _handle(self, now: float, event: object) -> None:
        if event != _TICK:
            super()._handle(now, event)
            return
        self._pods.want(now, self._scaler.decide(now, self._scalable.demand(now)))
        if now >= self._next_look or self._scalable.hurries():
            self._look(now)
            self._do(now, self._way.again(now))
        if now < self._until or self._answers:
            self._push(now + _DECIDE_SECONDS, _TICK)
