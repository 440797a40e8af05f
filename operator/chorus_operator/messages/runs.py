"""Writing what a training pod reports into the status of its run."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import ValidationError

from chorus_api import contract
from chorus_api.conditions import ConditionType
from chorus_api.training_run import Report
from chorus_kube.cache import Cache
from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import Conflict, Invalid, NotFound
from chorus_kube.resources import PODS, TRAINING_RUNS
from chorus_operator.messages.known import KnownObjects
from chorus_operator.messages.pod_senders import ServiceSender, TrainingPod
from chorus_operator.messages.report import says_more, updated_report, with_exchange
from chorus_operator.messages.run_locks import RunLocks
from chorus_protocol.messages import Addressed, Envelope, ExchangeReady
from chorus_protocol.refusals import Cause, Refused

REPORT_MANAGER = "chorus-report"
MAX_CONFLICTS = 10
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.3
STANDING_SECONDS = 5.0
CACHE_SIZE = 4096


class Outcome(Enum):
    """What became of a message that was not refused."""

    TAKEN = "taken"
    KNOWN = "known"
    """It says nothing new, or its run has ended: acknowledged and ignored."""


class RunReports:
    """Applies `status.report` of runs, one message at a time, over the resource version that was known or read.

    So two receivers can work at once: the one that writes second gets a conflict, reads again and adds its message. In
    the same way what is known of a run is enough to write to it, and not to refuse or to ignore a message.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        clock: Callable[[], datetime],
        seconds: Callable[[], float],
        known: KnownObjects,
        locks: RunLocks,
    ):
        """`clock`: the time that is written; `seconds`: seconds that only rise."""
        self._kube = kube
        self._clock = clock
        self._known = known
        self._locks = locks
        self._jitter = random.Random()
        self._standing: Cache[tuple[str, int, str], bool] = Cache(size=CACHE_SIZE, clock=seconds)

    async def take(self, pod: TrainingPod, *, envelope: Envelope, payload: Addressed) -> Outcome:
        """Write one message down; returns when it is stored. Refused when the pod is not the run's present one."""
        async with self._locks.of(pod.run_uid):
            return await self._take(pod, envelope, payload)

    async def _take(self, pod: TrainingPod, envelope: Envelope, payload: Addressed) -> Outcome:
        known = self._known.get(TRAINING_RUNS, pod.namespace, pod.run)
        if known is not None:
            with contextlib.suppress(Refused, Conflict, NotFound, Invalid):
                written = await self._add(known, pod, envelope, payload)
                if written is not None:
                    return written
        for conflicts in range(MAX_CONFLICTS):
            run = await self._read(pod)
            try:
                written = await self._add(run, pod, envelope, payload)
            except Conflict:
                pause = min(FIRST_PAUSE * 2**conflicts, LONGEST_PAUSE)
                await asyncio.sleep(pause * self._jitter.uniform(0.5, 1.0))
                continue
            return Outcome.KNOWN if written is None else written
        raise Refused(Cause.UNAVAILABLE, f"run {pod.run} is being written all the time; send the message again")

    async def _add(
        self, run: Manifest | None, pod: TrainingPod, envelope: Envelope, payload: Addressed
    ) -> Outcome | None:
        """Write a message over a state of the run; None when there is nothing to write. Conflict when it has changed,
        and Refused as `take`."""
        run = await self._check(pod, run)
        if is_final(run):
            return None
        old = report_of(run)
        now = self._clock().replace(microsecond=0)
        if isinstance(payload, ExchangeReady):
            new = with_exchange(old, attempt=envelope.attempt, payload=payload, pod_uid=pod.uid, now=now)
        else:
            instance = envelope.instance or pod.instance
            new = updated_report(
                old, envelope=envelope, payload=payload, pod_uid=pod.speaker, instance=instance, now=now
            )
        if new == old:
            return None
        await self._kube.apply_status(
            TRAINING_RUNS,
            namespace=pod.namespace,
            name=pod.run,
            status_part={"report": new.model_dump(mode="json", exclude_none=True)},
            manager=REPORT_MANAGER,
            resource_version=run["metadata"]["resourceVersion"],
        )
        return Outcome.TAKEN if says_more(old, new) else Outcome.KNOWN

    async def is_open(self, pod: TrainingPod) -> bool:
        """Tell whether the pod's run goes on, as known for a few seconds; Refused as `take`."""
        place = (pod.run_uid, pod.attempt, pod.uid)
        standing = self._standing.get(place)
        if standing is None:
            standing = await self._goes_on(pod)
            self._standing.put(place, standing, seconds=STANDING_SECONDS)
        return standing

    async def _goes_on(self, pod: TrainingPod) -> bool:
        known = self._known.get(TRAINING_RUNS, pod.namespace, pod.run)
        if known is not None:
            with contextlib.suppress(Refused):
                if not is_final(await self._check(pod, known)):
                    return True
        return not is_final(await self._check(pod, await self._read(pod)))

    async def _read(self, pod: TrainingPod) -> Manifest | None:
        return await self._kube.get(TRAINING_RUNS, namespace=pod.namespace, name=pod.run)

    async def _check(self, pod: TrainingPod, run: Manifest | None) -> Manifest:
        """Give the run back when its pod may speak, or it has ended; else Refused."""
        if run is None or run["metadata"]["uid"] != pod.run_uid:
            raise Refused(Cause.WRONG_RUN, f"run {pod.run} with uid {pod.run_uid} is gone")
        if is_final(run):
            if isinstance(pod, ServiceSender):
                # Unlike a pod, it is not stopped with its run, and goes on until somebody tells it.
                raise Refused(Cause.WRONG_RUN, f"run {pod.run} has ended")
            return run
        current = current_attempt(run)
        if pod.attempt < current:
            raise Refused(Cause.WRONG_ATTEMPT, f"attempt {pod.attempt} is over: run {pod.run} is at {current}")
        if pod.attempt > current:
            # The Job is made before the status says so; the reconcile that does both may have been cut off between.
            raise Refused(Cause.NOT_YET, f"run {pod.run} has not recorded attempt {pod.attempt} yet; send it again")
        await self._check_pod(pod, report_of(run))
        return run

    async def _check_pod(self, pod: TrainingPod, report: Report | None) -> None:
        """An attempt has one pod; another one of the same Job may speak only when the first is gone or has ended."""
        if report is None or report.attempt != pod.attempt or report.pod_uid == pod.speaker:
            return
        pods = await self._kube.list(
            PODS,
            namespace=pod.namespace,
            labels={contract.RUN_LABEL: pod.run, contract.ATTEMPT_LABEL: str(pod.attempt)},
        )
        for other in pods:
            ended = other.get("status", {}).get("phase") in {"Succeeded", "Failed"}
            if other["metadata"]["uid"] == report.pod_uid and not ended:
                raise Refused(
                    Cause.WRONG_POD,
                    f"attempt {pod.attempt} of run {pod.run} is reported by pod {other['metadata']['name']}, "
                    f"not by {pod.name}",
                )


def is_final(run: Manifest) -> bool:
    """Tell whether a run has ended: its Succeeded condition is True or False."""
    conditions: list[dict[str, Any]] = run.get("status", {}).get("conditions", [])
    return any(
        condition.get("type") == ConditionType.SUCCEEDED and condition.get("status") in {"True", "False"}
        for condition in conditions
    )


def current_attempt(run: Manifest) -> int:
    """Read the number of the run's present attempt; 0 before the first."""
    return int(run.get("status", {}).get("attempts", {}).get("current", 0))


def report_of(run: Manifest) -> Report | None:
    """Read what a run's status holds of its pod's words; None when there is nothing that can be read."""
    stored = run.get("status", {}).get("report")
    if stored is None:
        return None
    try:
        return Report.model_validate(stored)
    except ValidationError:
        return None
