"""How long to wait before something that failed is tried again."""


def delay(failures: int, first: float, longest: float) -> float:
    """Return the seconds after so many failures in a row: `first`, twice as many each time, to `longest`."""
    return float(min(first * 2 ** (min(failures, 16) - 1), longest))
