"""What came of a workload, simulated or measured."""

import dataclasses


@dataclasses.dataclass
class Result:
    """Times in seconds; ``waits`` are those to the first token, ``ended`` is when the last answer did.

    ``served`` are the weighted tokens of each client's answers, each with the time of its end.
    """

    waits: list[float] = dataclasses.field(default_factory=list)
    load_seconds: float = 0.0
    ended: float = 0.0
    loads: int = 0
    prompt_tokens: int = 0
    read_tokens: int = 0
    served: dict[str, list[tuple[float, int]]] = dataclasses.field(default_factory=dict)

    def within(self, seconds: float) -> float:
        """Return the share of the requests whose first token came within so many seconds."""
        return sum(wait <= seconds for wait in self.waits) / len(self.waits)

    def percentile(self, share: float) -> float:
        """Return the time to the first token that this share of the requests do not exceed."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
