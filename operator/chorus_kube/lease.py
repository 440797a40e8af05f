"""Leader election by a Lease: of several operators, the one that holds it reconciles.

Time is judged by the own clock alone: another holder's Lease has run out when it was not seen to change for its
duration. The holder gives up before that, so that no two ever hold it at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import AlreadyExists, Conflict, KubeError
from chorus_kube.resources import LEASES

log = structlog.get_logger()

NAME = "chorus-operator"
DURATION_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0
CALL_SECONDS = 5.0


class Lease:
    """One candidate's view of the Lease."""

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        identity: str,
        clock: Callable[[], datetime],
        jitter: random.Random | None = None,
    ):
        """`identity`: who holds it, different for each candidate; `clock`: the time that is written."""
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._jitter = jitter or random.Random()
        self._seen: tuple[str, float] = ("", 0.0)  # resource version, and since when
        self._renewed = 0.0
        self._taken = False  # by somebody else, as of the last try

    async def acquire(self) -> None:
        """Wait until this candidate holds the Lease, however long that takes."""
        while True:
            if await self._try():
                break
            await asyncio.sleep(RETRY_SECONDS * self._jitter.uniform(1.0, 1.5))
        log.info("lease acquired", identity=self._identity)

    async def hold(self) -> None:
        """Renew the Lease until it is lost; then return, well before anybody else can take it."""
        loop = asyncio.get_running_loop()
        while loop.time() - self._renewed < RENEW_DEADLINE_SECONDS:
            await asyncio.sleep(RETRY_SECONDS)
            left = RENEW_DEADLINE_SECONDS - (loop.time() - self._renewed)
            if left <= 0:
                break
            if not await self._try(seconds=min(CALL_SECONDS, left)) and self._taken:
                break
        log.error("lease lost", identity=self._identity)

    async def release(self) -> None:
        """Give the Lease back, so that another candidate need not wait for it to run out."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                lease = await self._get()
                if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._kube.replace(lease, resource_version=lease["metadata"]["resourceVersion"])
        except (KubeError, TimeoutError) as error:
            log.info("lease not released; it runs out by itself", error=str(error))

    async def _try(self, *, seconds: float = CALL_SECONDS) -> bool:
        """Take or renew the Lease; False when another holds it or the API server cannot be asked."""
        self._taken = False
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                held = await self._take_or_renew(start)
        except (KubeError, TimeoutError) as error:
            log.warning("lease not renewed", error=str(error) or f"no answer within {seconds:g} s")
            return False
        if held:
            # The Lease counts from before the request was sent: the answer may have been slow.
            self._renewed = start
        return held

    async def _take_or_renew(self, now: float) -> bool:
        lease = await self._get()
        if lease is None:
            try:
                await self._kube.create(self._manifest(transitions=0))
            except AlreadyExists:
                return False
            return True
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity):
            version = lease["metadata"]["resourceVersion"]
            if version != self._seen[0]:
                self._seen = (version, now)
            if now - self._seen[1] < spec.get("leaseDurationSeconds", DURATION_SECONDS):
                self._taken = True
                return False
        transitions = int(spec.get("leaseTransitions") or 0)
        renewed = self._manifest(transitions=transitions + (holder != self._identity))
        if holder == self._identity and spec.get("acquireTime"):
            renewed["spec"]["acquireTime"] = spec["acquireTime"]
        try:
            await self._kube.replace(renewed, resource_version=lease["metadata"]["resourceVersion"])
        except Conflict:
            return False
        return True

    async def _get(self) -> Manifest | None:
        return await self._kube.get(LEASES, namespace=self._namespace, name=NAME)

    def _manifest(self, *, transitions: int) -> Manifest:
        now = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
