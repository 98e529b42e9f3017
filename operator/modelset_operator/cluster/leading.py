"""Leading: takes the Lease, keeps it, and has work done for just as long as it is held."""

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from modelset_operator.cluster import http, kinds, lease

log = logging.getLogger(__name__)

# How long the Lease is tried to be given back at the end.
RELEASE_SECONDS = 3.0
_FAILURES = (http.RefusedError, http.UnreachableError, http.KindMissingError, TimeoutError)


class Leading:
    """One candidate for a Lease."""

    def __init__(
        self,
        api: http.Http,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._election = lease.Election(identity)
        self._version = ""
        self._problem = ""

    @property
    def leads(self) -> bool:
        """Whether this one may act now."""
        return self._election.leads(self._clock())

    async def run(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `act` run whenever this one leads, for ever; it is cancelled before another may lead.

        The Lease is given back when this is cancelled. What `act` raises comes out here.
        """
        while True:
            await self._until_leading()
            log.info("leading, by Lease %s/%s", self._namespace, self._name)
            acting = asyncio.create_task(act(), name="act")
            try:
                await self._while_leading(acting)
            finally:
                acting.cancel()
                await asyncio.wait([acting])
                await self._release()
            if not acting.cancelled() and (error := acting.exception()) is not None:
                raise error
            log.warning("not leading any more: %s", self._problem or "another took the Lease")

    async def _until_leading(self) -> None:
        while not self.leads:
            await self._attempt(lease.RENEW_DEADLINE_SECONDS)
            if not self.leads:
                await asyncio.sleep(self._election.pause(self._clock()))

    async def _while_leading(self, acting: asyncio.Task[None]) -> None:
        while self.leads and not acting.done():
            await asyncio.wait([acting], timeout=min(lease.RETRY_SECONDS, self._left()))
            if self.leads and not acting.done():
                await self._attempt(self._left())

    def _left(self) -> float:
        return max(0.0, self._election.leads_until - self._clock())

    async def _attempt(self, seconds: float) -> None:
        """Look at the Lease, and take or renew it where that is allowed. What fails is tried again later."""
        try:
            async with asyncio.timeout(seconds):
                if self._problem or not self.leads:
                    await self._look()
                if self._election.may_claim(self._clock()):
                    asked_at = self._clock()
                    spec = await self._write(self._election.claim(_wall()))
                    self._election.wrote(spec, asked_at)
        except _FAILURES as error:
            problem = str(error) or "the API server does not answer in time"
            # 409: another was faster.
            if problem != self._problem and getattr(error, "status", 0) != 409:
                log.warning("Lease %s/%s: %s", self._namespace, self._name, problem)
            self._problem = problem
        else:
            self._problem = ""

    async def _look(self) -> None:
        try:
            found = await self._api.ask("GET", kinds.LEASE.path(self._namespace, self._name))
        except http.RefusedError as error:
            if error.status != 404:
                raise
            self._version = ""
            self._election.saw(None, self._clock())
        else:
            self._version = found["metadata"]["resourceVersion"]
            self._election.saw(found.get("spec") or {}, self._clock())

    async def _write(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"name": self._name, "namespace": self._namespace}
        if self._version:
            # Only what was looked at is replaced: of two that try, one succeeds.
            metadata["resourceVersion"] = self._version
        body = {
            "apiVersion": kinds.LEASE.api_version,
            "kind": kinds.LEASE.kind,
            "metadata": metadata,
            "spec": spec,
        }
        method, name = ("PUT", self._name) if self._version else ("POST", "")
        written = await self._api.ask(method, kinds.LEASE.path(self._namespace, name), body=body)
        self._version = written["metadata"]["resourceVersion"]
        return dict(written["spec"])

    async def _release(self) -> None:
        if not self.leads:
            return
        spec = self._election.release(_wall())
        self._election.leads_until = float("-inf")
        with contextlib.suppress(*_FAILURES):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._write(spec)
                log.info("gave Lease %s/%s back", self._namespace, self._name)


class LeadersHttp(http.Http):
    """Asks the API server only while this one leads: nothing gets out late after a stall."""

    def __init__(self, api: http.Http, leading: Leading) -> None:
        self._asked = api
        self._leading = leading

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """See `http.Http.ask`."""
        if not self._leading.leads:
            raise http.UnreachableError("another replica may lead by now")
        return await self._asked.ask(method, path, query=query, body=body, content_type=content_type)


def _wall() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
