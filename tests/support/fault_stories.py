"""Faults that are induced side by side, each a story of its own, and what is then said of the run that met one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fault_builders import TOLD
from harness.client import Manifest, eventually
from harness.cluster import Env

PROJECT = "faults"
START_SECONDS = 240.0
SECONDS = 300.0
SHOWN_SECONDS = 60.0


def run_of(plugin: str, project: str = PROJECT) -> str:
    """Name of the first run of a Project's plugin."""
    return f"{project}-{plugin}-1"


@asynccontextmanager
async def side_by_side(stories: Mapping[str, Coroutine[Any, Any, Any]]) -> AsyncIterator[dict[str, asyncio.Task[Any]]]:
    """Live all stories at once; those that nobody waits for any more are ended."""
    tasks = {name: asyncio.create_task(story) for name, story in stories.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def training_pod(place: Env, run: str) -> Manifest:
    """Wait until a run trains, by its program's own word; its pod."""
    await place.wait("TrainingRun", run, phase="TRAINING", seconds=START_SECONDS)
    return await place.pod_of(run)


async def let_go(place: Env, pod: Manifest) -> None:
    """Let a program of `fault_builders.until_told` end.

    After the exec is over: it would be killed with the container, and kubectl say 137.
    """
    later = f"(sleep 1; touch {TOLD}) >/dev/null 2>&1 &"
    await place.kubectl("exec", pod["metadata"]["name"], "-c", "plugin", "--", "sh", "-c", later)


async def job_of(place: Env, run: str) -> Manifest:
    """Wait for the Job of a run's first attempt."""

    def check() -> Manifest | None:
        found = place.record.all("Job", labels={"chorus.dev/run": run, "chorus.dev/attempt": "1"})
        return found[0] if found else None

    return await place.record.wait(check, seconds=START_SECONDS)


async def wide_row(place: Env, run: str) -> dict[str, str]:
    """What `kubectl get crun NAME -o wide` prints, by column heading."""
    head, row = (await place.kubectl("get", "crun", run, "-o", "wide")).splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    return {head[start:end].strip(): row[start:end].strip() for start, end in zip(starts, ends, strict=True)}


async def assert_failed(
    place: Env, name: str, *, reason: str, words: tuple[str, ...], failure_class: str | None = "user"
) -> Manifest:
    """Wait for a run's end; its status, `kubectl get -o wide`, `kubectl describe` and its Event say the same of it.

    The first of `words` is what MESSAGE must show, which is cut to 120 characters. A run that fails before its first
    attempt has no failure of an attempt, and so no class of one.
    """
    run = await place.wait("TrainingRun", name, phase="failed", seconds=SECONDS)
    status = run["status"]
    assert status["reason"] == reason
    assert_words(words, status["message"])
    if failure_class is not None:
        failure = status["failure"]
        assert (failure["class"], failure["reason"]) == (failure_class, reason)
        assert_words(words, failure["message"])
    await assert_shown(place, name, phase="failed", reason=reason, words=words)
    await assert_warned(place, name, reason=reason, words=words)
    return run


async def assert_waiting(place: Env, name: str, *, reason: str, words: tuple[str, ...]) -> Manifest:
    """Wait until a queued run says why; so do `kubectl get -o wide` and `kubectl describe`.

    What a kubelet says of an image changes at each of its tries, so they are asked until they say so.
    """

    def says(run: Manifest) -> bool:
        status = run["status"]
        return status.get("reason") == reason and all(word in flat(status.get("message", "")) for word in words)

    async def is_shown() -> bool:
        try:
            await assert_shown(place, name, phase="queued", reason=reason, words=words)
        except AssertionError:
            return False
        return True

    run = await place.wait("TrainingRun", name, phase="queued", where=says, seconds=SECONDS)
    await eventually(is_shown, what=f"kubectl shows of {name}: {words}", seconds=SHOWN_SECONDS)
    return run


async def assert_shown(place: Env, name: str, *, phase: str, reason: str, words: tuple[str, ...]) -> None:
    """`kubectl get -o wide` shows phase, reason and the first of the words; `kubectl describe` all of them."""
    row = await wide_row(place, name)
    assert (row["PHASE"], row["REASON"]) == (phase, reason)
    assert_words(words[:1], row["MESSAGE"])
    assert_words(words, await place.describe("TrainingRun", name))


async def assert_tried_again(
    place: Env, name: str, *, reason: str, words: tuple[str, ...], failure_class: str = "disruption"
) -> Manifest:
    """Wait until a run whose first attempt met a fault is TRAINED by its second; the failure that was told between.

    It goes out of the status when the run is TRAINED, and stays in an Event.
    """
    run = await place.wait("TrainingRun", name, phase="TRAINED", seconds=SECONDS)
    said = (f"{reason}: ", *words, "Attempt 1 ended so; attempt 2 starts in")
    assert_words(said, await place.describe("TrainingRun", name))
    await assert_warned(place, name, reason="Retrying", words=said)
    counted = {"user": 0, "infrastructure": 0, "disruption": 0, failure_class: 1}
    assert run["status"]["attempts"] == {"current": 2, **counted}
    seen = [version.get("status", {}) for version in place.record.versions("TrainingRun", name=name)]
    told = next(status for status in seen if status.get("reason") == "Retrying")
    failure: Manifest = told["failure"]
    assert (failure["class"], failure["reason"]) == (failure_class, reason)
    assert_words(words, failure["message"])
    assert told["phase"] in ("queued", "PREPROCESSING", "TRAINING")
    assert told["shown"]["message"].startswith(f"{reason}: ")
    return failure


async def assert_warned(place: Env, name: str, *, reason: str, words: tuple[str, ...]) -> None:
    """One Event of type Warning has this reason and these words."""
    warned = [event for event in await place.told(name, reason) if event["reason"] == reason]
    assert [event["type"] for event in warned] == ["Warning"]
    assert_words(words, warned[0]["message"])


def assert_words(words: tuple[str, ...], text: str) -> None:
    """All words are in the text, whatever its white space."""
    assert [word for word in words if word not in flat(text)] == [], text


def flat(text: str) -> str:
    """A text with white space made one blank each."""
    return " ".join(text.split())
