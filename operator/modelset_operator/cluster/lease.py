"""Who of several replicas leads, by a Lease. Pure: what was seen and when goes in, who may act comes out.

Clocks of machines are never compared. A Lease is over when it has not changed for as long as it lasts,
counted from when that was seen here; a leader counts from before it asked, and stops a good deal earlier.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

# As client-go has them: a leader that dies is followed after LEASE_SECONDS and one retry at the latest.
LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0

Spec = Mapping[str, Any]


@dataclasses.dataclass
class Election:
    """What one candidate knows. Times are monotonic seconds of its own."""

    identity: str
    seen: Spec | None = None
    seen_at: float = 0.0
    leads_until: float = float("-inf")

    def saw(self, spec: Spec | None, now: float) -> None:
        """Take note of what the Lease says, None when there is none."""
        if spec != self.seen:
            self.seen, self.seen_at = spec, now
        if _holder(spec) != self.identity:
            self.leads_until = float("-inf")

    def wrote(self, spec: Spec, asked_at: float) -> None:
        """Take note that the API server took our own claim, for which it was asked at that time."""
        self.seen, self.seen_at = spec, asked_at
        self.leads_until = asked_at + RENEW_DEADLINE_SECONDS

    def leads(self, now: float) -> bool:
        """Whether this one may act."""
        return now < self.leads_until

    def may_claim(self, now: float) -> bool:
        """Whether nobody else holds the Lease, or its holder has not renewed it in time."""
        return _holder(self.seen) in ("", self.identity) or now >= self._over()

    def pause(self, now: float) -> float:
        """Return the seconds until the Lease is to be looked at again, at the latest when it is over."""
        if _holder(self.seen) in ("", self.identity) or now >= self._over():
            return RETRY_SECONDS
        return min(RETRY_SECONDS, self._over() - now)

    def claim(self, wall: str) -> dict[str, Any]:
        """Return what the Lease is to say when this one takes or renews it, at a wall clock's time."""
        before = self.seen or {}
        renews = _holder(before) == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": before["acquireTime"] if renews else wall,
            "renewTime": wall,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (not renews and bool(before)),
        }

    def release(self, wall: str) -> dict[str, Any]:
        """Return what the Lease is to say when this one ends: the next may begin at once."""
        before = self.claim(wall)
        return {**before, "holderIdentity": "", "leaseDurationSeconds": 1}

    def _over(self) -> float:
        return self.seen_at + float((self.seen or {}).get("leaseDurationSeconds") or LEASE_SECONDS)


def _holder(spec: Spec | None) -> str:
    return str((spec or {}).get("holderIdentity") or "")
