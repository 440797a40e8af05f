"""When Jobs were first seen, and which runs and bare Jobs have ended, told by watches that are open all the while."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from child_names import plain
from harness.client import Api

FINAL = ("TRAINED", "failed", "cancelled", "notApplicable")


@dataclass
class Follower:
    """What the watches have told so far, by names of runs and plain names of Jobs."""

    jobs: dict[str, float] = field(default_factory=dict)
    """When each Job was first told."""
    ended: dict[str, str] = field(default_factory=dict)
    """How runs and Jobs have ended. A run's name is never a Job's, for a Job's has the attempt."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow_jobs(self, api: Api, *, namespace: str) -> None:
        """Note each Job, and its end, until cancelled."""
        async for _, job in api.follow("Job", namespace=namespace):
            name = plain(job["metadata"]["name"])
            self.jobs.setdefault(name, time.monotonic())
            conditions = {c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}
            for how in conditions & {"Complete", "Failed"}:
                await self._end(name, how)

    async def follow_runs(self, api: Api, *, namespace: str) -> None:
        """Note each run's end, until cancelled."""
        async for _, run in api.follow("TrainingRun", namespace=namespace):
            phase = run.get("status", {}).get("phase")
            if phase in FINAL:
                await self._end(run["metadata"]["name"], phase)

    async def _end(self, name: str, how: str) -> None:
        if name not in self.ended:
            async with self.changed:
                self.ended[name] = how
                self.changed.notify_all()

    async def until(self, names: Collection[str], *, seconds: float) -> Counter[str]:
        """Wait until all of these have ended; how many ended how. Raises TimeoutError."""
        left = set(names)

        def all_ended() -> bool:
            left.difference_update([name for name in left if name in self.ended])
            return not left

        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(all_ended)
        return Counter(self.ended[name] for name in names)
