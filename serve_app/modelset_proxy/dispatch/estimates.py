"""What things take, learnt from how they went. Seconds and tokens; recent measures count more."""

import math

# Before the first measure: a small model from a local disk, read by a CPU.
_LOAD_SECONDS = 5.0
_TOKENS_PER_SECOND = 300.0
_SLOT_SECONDS = 4.0
_WEIGHT = 0.2
# How long an arrival counts towards a model's rate.
_RATE_SECONDS = 600.0


class Mean:
    """An exponentially weighted mean; the first measure replaces the prior."""

    __slots__ = ("_known", "value")

    def __init__(self, prior: float) -> None:
        self.value = prior
        self._known = False

    def learn(self, measure: float) -> None:
        """Take in a measure."""
        self.value += (measure - self.value) * (_WEIGHT if self._known else 1.0)
        self._known = True


class Rate:
    """Arrivals a second, of the last minutes."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._at = 0.0
        self._level = 0.0

    def arrive(self, now: float) -> None:
        """Count one."""
        self._level = self._level * math.exp((self._at - now) / _RATE_SECONDS) + 1.0
        self._at = now

    def a_second(self, now: float) -> float:
        """Return the rate now."""
        return self._level * math.exp((self._at - now) / _RATE_SECONDS) / _RATE_SECONDS


class Model:
    """What one model and its variants take.

    ``size`` is the memory they were seen to take, ``weights`` what they take on disk, in bytes; 0 is unknown.
    """

    __slots__ = ("_load", "_load_at", "_speed", "rate", "size", "slot_seconds", "weights")

    def __init__(self) -> None:
        self._load = Mean(_LOAD_SECONDS)
        self._load_at: dict[str, Mean] = {}
        self._speed = Mean(_TOKENS_PER_SECOND)
        self.slot_seconds = Mean(_SLOT_SECONDS)
        self.rate = Rate()
        self.size = 0
        self.weights = 0

    @property
    def bytes(self) -> int:
        """How much memory it takes as far as that is known, which before its first load is too little."""
        return self.size or self.weights

    @property
    def has_loaded(self) -> bool:
        """Tell whether a load was seen."""
        return bool(self._load_at)

    def load_seconds(self, url: str) -> float:
        """Return how long a server takes to load the model."""
        here = self._load_at.get(url)
        return self._load.value if here is None else here.value

    def learn_load(self, url: str, seconds: float) -> None:
        """Take in how long a load took."""
        self._load.learn(seconds)
        self._load_at.setdefault(url, Mean(seconds)).learn(seconds)

    def forget(self, url: str) -> None:
        """Drop what is known of a server that is gone."""
        self._load_at.pop(url, None)

    def prompt_seconds(self, tokens: float) -> float:
        """Return how long it takes to read a prompt."""
        return tokens / self._speed.value

    def learn_prompt(self, tokens: int, seconds: float) -> None:
        """Take in how long a prompt took; short ones tell of fixed costs only."""
        if tokens >= 16 and seconds > 0:
            self._speed.learn(tokens / seconds)
