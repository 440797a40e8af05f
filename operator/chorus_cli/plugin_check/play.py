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
from chorus_cli.plugin_check.certificate import TrustedServer
from chorus_cli.plugin_check.errors import CannotCheck
from chorus_cli.plugin_check.given import (
    SOURCE,
    Channel,
    Identity,
    Work,
    describe_env,
    training_env,
    write_configuration,
)
from chorus_cli.plugin_check.launch import Launcher, Running
from chorus_cli.plugin_check.observed import Letter, Observation, Scenario
from chorus_cli.plugin_check.place import (
    Place,
    changed,
    has_sums,
    out_files,
    showing,
    snapshot,
    tail,
    try_to_publish,
)
from chorus_cli.plugin_check.postbox import Postbox, Speaker
from chorus_client.forward import Tail, message_of
from chorus_client.masking import MASK, mask
from chorus_protocol.messages import TYPE_PREFIX
from chorus_protocol.refusals import Refused

LOOK_SECONDS = 0.02

Director = Callable[[Running, Postbox, Place], Awaitable[int | None]]
"""Lets a running plugin go on to its end; gives its exit code, None when it has to be killed."""


@dataclass(frozen=True)
class Stage:
    """What all executions of a check have in common."""

    launcher: Launcher
    folder: Path
    identity: Identity
    trusted: TrustedServer
    by_file: bool = False


@dataclass(frozen=True)
class Act:
    """One execution: its role, what it is to do, and how it is led. `work` None: it is asked what it is."""

    scenario: Scenario
    direct: Director
    work: Work | None = None
    write_frame: Callable[[Path], None] = lambda _: None
    attempt: int = 1
    run: Path | None = None
    """Run directory of an earlier attempt."""
    served_with: TrustedServer | None = None
    """Another certificate than the one that the plugin is told to trust."""
    confined: bool = True


async def play(stage: Stage, act: Act) -> Observation:
    """Run the plugin; CannotCheck when this machine does not let us."""
    place = Place.make(stage.folder / act.scenario, run=act.run)
    identity = stage.identity
    speaker = (
        Speaker(identity.plugin_uid, 0, None)
        if act.work is None
        else Speaker(identity.run_uid, act.attempt, (identity.project_id, identity.plugin_id))
    )
    postbox = Postbox(speaker, host=stage.launcher.host, listen=stage.launcher.listen)
    try:
        await postbox.open(act.served_with or stage.trusted)
    except OSError as error:
        raise CannotCheck(f"the receiver cannot listen on {postbox.listen}: {error}") from error
    try:
        env = _give(stage, act, place, postbox)
        return await _run(stage, act, place, postbox, env)
    finally:
        await postbox.close()


def _give(stage: Stage, act: Act, place: Place, postbox: Postbox) -> dict[str, str]:
    """Write what the plugin reads; the environment that says where it is."""
    place.write_token(postbox.token)
    ca = place.identity / "ca.crt"
    ca.write_bytes(stage.trusted.ca)
    ca.chmod(0o444)
    paths = stage.launcher.paths(place)
    channel = Channel(postbox.url, postbox.progress_url, postbox.speaker.subject_uid, stage.by_file)
    if act.work is None:
        return describe_env(channel, paths)
    act.write_frame(place.data)
    write_configuration(place, act.work, channel, paths, identity=stage.identity)
    return training_env(channel, paths, identity=stage.identity, attempt=act.attempt)


async def _run(stage: Stage, act: Act, place: Place, postbox: Postbox, env: Mapping[str, str]) -> Observation:
    own = (place.run, place.tmp, place.messages, place.log, place.termination, place.token)
    watched = (place.root, *stage.launcher.watched)
    before = {} if stage.launcher.is_container else snapshot(*watched, but=own)
    tokens = [postbox.token]
    code, not_started = None, ""
    began = time.monotonic()
    try:
        async with (
            stage.launcher.start(place, env, confined=act.confined) as running,
            _forwarding(stage, place, postbox),
        ):
            code = await act.direct(running, postbox, place)
    except OSError as error:
        not_started = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    stage.launcher.check_end(code, tail(place.log))
    after = {} if stage.launcher.is_container else snapshot(*watched, but=own)
    seen = Observation(
        exit_code=code,
        seconds=time.monotonic() - began,
        letters=tuple(postbox.letters),
        strayed=changed(before, after),
        not_started=not_started,
    )
    return _collect(seen, place, postbox, {*tokens, postbox.token})


def _collect(seen: Observation, place: Place, postbox: Postbox, tokens: set[str]) -> Observation:
    """Add what is found when the plugin has ended."""
    output = tail(place.log)
    for token in tokens:
        output = output.replace(token, MASK)
    return replace(
        seen,
        output=mask(output),
        files=out_files(place.out),
        has_sums=has_sums(place.out),
        publication=try_to_publish(place.out, place.root / "published"),
        leaks=tuple(leak for token in sorted(tokens) for leak in _leaks(token, place, postbox.letters)),
        termination=place.termination.read_bytes(),
    )


def _leaks(token: str, place: Place, letters: list[Letter]) -> list[str]:
    said = [f"a message ({letter})" for letter in letters if token.encode() in letter.body]
    printed = ["what it printed"] if showing(token, place.log) else []
    return [*printed, *said, *showing(token, place.run, place.messages, place.termination)]


@asynccontextmanager
async def _forwarding(stage: Stage, place: Place, postbox: Postbox) -> AsyncIterator[None]:
    """Forward the lines of the messages file, as the sidecar does, to the end of the plugin and a last time then."""
    if not stage.by_file:
        yield
        return
    forwarder = _Forwarder(Tail(place.messages / MESSAGES_FILE.name), stage.identity, postbox)
    task = asyncio.create_task(forwarder.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await forwarder.forward()


class _Forwarder:
    def __init__(self, lines: Tail, identity: Identity, postbox: Postbox) -> None:
        self._lines = lines
        self._identity = identity
        self._postbox = postbox
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
                    await self._postbox.take(self._event(line))

    def _event(self, line: bytes) -> bytes:
        identity, speaker = self._identity, self._postbox.speaker
        kind, data = message_of(line, project_id=identity.project_id, plugin_id=identity.plugin_id)
        self._sequence += 1
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": SOURCE,
            "type": f"{TYPE_PREFIX}{kind}",
            "subjectuid": speaker.subject_uid,
            "attempt": str(speaker.attempt),
            "sequence": str(self._sequence),
            "datacontenttype": "application/json",
            "data": data,
        }
        return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")
