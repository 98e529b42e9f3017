"""A core with servers and a clock that tests turn."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from modelset_proxy.dispatch import core, facts
from modelset_proxy.engines import port

MODELS = ("a", "b", "c", "d")
ANSWERED = port.Outcome(answer_tokens=10)


class Bench:
    """``loaded`` says what each server has in memory at first; all hold all models on disk."""

    def __init__(self, loaded: Mapping[str, Sequence[str]], **limits: Any) -> None:
        self.core = core.Core(facts.Limits(**{"max_in_flight_per_server": 1, **limits}))
        self.now = 100.0
        self._ids = itertools.count(1)
        self.loaded = {url: list(models) for url, models in loaded.items()}
        self.look()

    def look(self, **unlike: facts.Report | None) -> None:
        """Have the core told what the servers have, which is what it was told before, but for ``unlike``."""
        reports: dict[str, facts.Report | None] = {
            url: facts.Report(self.now, frozenset(MODELS), dict.fromkeys(models, 0))
            for url, models in self.loaded.items()
        }
        self.core.report({**reports, **unlike})

    def arrive(self, model: str = "a", client: str = "", **more: Any) -> facts.Request:
        """Let a request wait; decide nothing."""
        request = facts.Request(next(self._ids), model, client, **more)
        self.core.arrive(self.now, request)
        return request

    def decide(self) -> list[facts.Decision]:
        """Return what the core decides now."""
        return self.core.decide(self.now)

    def starts(self) -> list[tuple[int, str]]:
        """Return what is started now: numbers of requests, and where."""
        return [(one.request.id, one.url) for one in self.decide() if isinstance(one, facts.Start)]

    def ask(self, model: str = "a", client: str = "", **more: Any) -> tuple[facts.Request, str]:
        """Let a request wait and return where it is started at once."""
        request = self.arrive(model, client, **more)
        [(_, url)] = self.starts()
        return request, url

    def end(self, request: facts.Request, outcome: port.Outcome = ANSWERED, unit: int = 0) -> None:
        """Have a request's unit answered, and the request forgotten when it was the last."""
        self.core.ended(self.now, request, unit, outcome)
        if unit == request.units - 1:
            self.core.leave(self.now, request)
