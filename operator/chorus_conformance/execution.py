"""Run a plugin once, with a receiver that listens, and note everything that it does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from chorus_api.contract import MESSAGES_FILE
from chorus_client.forward import Tail, message_of
from chorus_client.masking import MASK, mask
from chorus_conformance.certificate import TrustedServer
from chorus_conformance.errors import CannotCheck
from chorus_conformance.given import (
    SOURCE,
    Channel,
    Identity,
    Work,
    describe_env,
    training_env,
    write_configuration,
)
from chorus_conformance.launch import Launcher, Running
from chorus_conformance.observed import Observation, ReceivedMessage, Scenario
from chorus_conformance.pod_files import (
    PodFiles,
    changed,
    has_sums,
    out_files,
    showing,
    snapshot,
    tail,
    try_to_publish,
)
from chorus_conformance.receiver import ExpectedSender, MessageReceiver
from chorus_protocol.messages import TYPE_PREFIX
from chorus_protocol.refusals import Refused

LOOK_SECONDS = 0.02

Driver = Callable[[Running, MessageReceiver, PodFiles], Awaitable[int | None]]
"""Lets a running plugin go on to its end; gives its exit code, None when it has to be killed."""


@dataclass(frozen=True)
class Harness:
    """What all executions of a check have in common."""

    launcher: Launcher
    folder: Path
    identity: Identity
    trusted: TrustedServer
    by_file: bool = False


@dataclass(frozen=True)
class Execution:
    """One execution: its role, what it is to do, and how it is led. `work` None: it is asked what it is."""

    scenario: Scenario
    direct: Driver
    work: Work | None = None
    write_frame: Callable[[Path], None] = lambda _: None
    attempt: int = 1
    run: Path | None = None
    """Run directory of an earlier attempt."""
    served_with: TrustedServer | None = None
    """Another certificate than the one that the plugin must trust."""
    confined: bool = True


async def execute(harness: Harness, execution: Execution) -> Observation:
    """Run the plugin; CannotCheck when this machine does not let us."""
    pod_files = PodFiles.make(harness.folder / execution.scenario, run=execution.run)
    identity = harness.identity
    expected_sender = (
        ExpectedSender(identity.plugin_uid, 0, None)
        if execution.work is None
        else ExpectedSender(identity.run_uid, execution.attempt, (identity.project_id, identity.plugin_id))
    )
    receiver = MessageReceiver(expected_sender, host=harness.launcher.host, listen=harness.launcher.listen)
    try:
        await receiver.open(execution.served_with or harness.trusted)
    except OSError as error:
        raise CannotCheck(f"the receiver cannot listen on {receiver.listen}: {error}") from error
    try:
        env = _give(harness, execution, pod_files, receiver)
        return await _run(harness, execution, pod_files, receiver, env)
    finally:
        await receiver.close()


def _give(harness: Harness, execution: Execution, pod_files: PodFiles, receiver: MessageReceiver) -> dict[str, str]:
    """Write what the plugin reads; the environment that says where it is."""
    pod_files.write_token(receiver.token)
    ca = pod_files.identity / "ca.crt"
    ca.write_bytes(harness.trusted.ca)
    ca.chmod(0o444)
    paths = harness.launcher.paths(pod_files)
    channel = Channel(receiver.url, receiver.progress_url, receiver.expected_sender.subject_uid, harness.by_file)
    if execution.work is None:
        return describe_env(channel, paths)
    execution.write_frame(pod_files.data)
    write_configuration(pod_files, execution.work, channel, paths, identity=harness.identity)
    return training_env(channel, paths, identity=harness.identity, attempt=execution.attempt)


async def _run(
    harness: Harness, execution: Execution, pod_files: PodFiles, receiver: MessageReceiver, env: Mapping[str, str]
) -> Observation:
    own = (pod_files.run, pod_files.tmp, pod_files.messages, pod_files.log, pod_files.termination, pod_files.token)
    watched = (pod_files.root, *harness.launcher.watched)
    before = {} if harness.launcher.is_container else snapshot(*watched, but=own)
    tokens = [receiver.token]
    code, not_started = None, ""
    began = time.monotonic()
    try:
        async with (
            harness.launcher.start(pod_files, env, confined=execution.confined) as running,
            _forwarding(harness, pod_files, receiver),
        ):
            code = await execution.direct(running, receiver, pod_files)
    except OSError as error:
        not_started = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    harness.launcher.check_end(code, tail(pod_files.log))
    after = {} if harness.launcher.is_container else snapshot(*watched, but=own)
    seen = Observation(
        exit_code=code,
        seconds=time.monotonic() - began,
        received=tuple(receiver.received),
        strayed=changed(before, after),
        not_started=not_started,
    )
    return _collect(seen, pod_files, receiver, {*tokens, receiver.token})


def _collect(seen: Observation, pod_files: PodFiles, receiver: MessageReceiver, tokens: set[str]) -> Observation:
    """Add what is found when the plugin has ended."""
    output = tail(pod_files.log)
    for token in tokens:
        output = output.replace(token, MASK)
    return replace(
        seen,
        output=mask(output),
        files=out_files(pod_files.out),
        has_sums=has_sums(pod_files.out),
        publication=try_to_publish(pod_files.out, pod_files.root / "published"),
        leaks=tuple(leak for token in sorted(tokens) for leak in _leaks(token, pod_files, receiver.received)),
        termination=pod_files.termination.read_bytes(),
    )


def _leaks(token: str, pod_files: PodFiles, received: list[ReceivedMessage]) -> list[str]:
    said = [f"a message ({entry})" for entry in received if token.encode() in entry.body]
    printed = ["what it printed"] if showing(token, pod_files.log) else []
    return [*printed, *said, *showing(token, pod_files.run, pod_files.messages, pod_files.termination)]


@asynccontextmanager
async def _forwarding(harness: Harness, pod_files: PodFiles, receiver: MessageReceiver) -> AsyncIterator[None]:
    """Forward the lines of the messages file, as the sidecar does, to the end of the plugin and a last time then."""
    if not harness.by_file:
        yield
        return
    forwarder = _Forwarder(Tail(pod_files.messages / MESSAGES_FILE.name), harness.identity, receiver)
    task = asyncio.create_task(forwarder.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await forwarder.forward()


class _Forwarder:
    def __init__(self, lines: Tail, identity: Identity, receiver: MessageReceiver) -> None:
        self._lines = lines
        self._identity = identity
        self._receiver = receiver
        self._sequence = 0
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        while True:
            await asyncio.shield(self.forward())
            await asyncio.sleep(LOOK_SECONDS)

    async def forward(self) -> None:
        async with self._busy:
            for line in self._lines.lines():
                with contextlib.suppress(Refused):  # it is noted
                    await self._receiver.take(self._event(line))

    def _event(self, line: bytes) -> bytes:
        identity, expected_sender = self._identity, self._receiver.expected_sender
        kind, data = message_of(line, project_id=identity.project_id, plugin_id=identity.plugin_id)
        self._sequence += 1
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": SOURCE,
            "type": f"{TYPE_PREFIX}{kind}",
            "subjectuid": expected_sender.subject_uid,
            "attempt": str(expected_sender.attempt),
            "sequence": str(self._sequence),
            "datacontenttype": "application/json",
            "data": data,
        }
        return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")
