"""How long a request still waits: for a server that holds its model, then for its turn there. Pure."""


class Patience:
    """Two spans of time, each of which runs only while it is what is waited for.

    ``stranded`` tells whether that is a server: none that answers holds the model. However often servers come
    and go, neither span is longer in all than it may be.
    """

    __slots__ = ("_since", "_spent", "stranded")

    def __init__(self, now: float, *, stranded: bool) -> None:
        self.stranded = stranded
        self._since = now
        self._spent = {True: 0.0, False: 0.0}

    def note(self, now: float, *, stranded: bool) -> None:
        """Take in what is waited for from now on."""
        self._spent[self.stranded] += now - self._since
        self._since = now
        self.stranded = stranded

    def due(self, *, wake_seconds: float, queue_seconds: float | None) -> float | None:
        """Return when patience ends if nothing changes; None for never. The spans may be other ones now."""
        seconds = wake_seconds if self.stranded else queue_seconds
        return None if seconds is None else self._since + seconds - self._spent[self.stranded]
