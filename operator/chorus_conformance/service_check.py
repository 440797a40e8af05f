"""Run a service by its contract: it is told by POST, and answers to a receiver and an exchange on this machine."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chorus_api.reasons import ExitCode
from chorus_conformance.certificate import TrustedServer, trusted_server
from chorus_conformance.errors import CannotCheck
from chorus_conformance.exchange import Exchange
from chorus_conformance.frames import Frame, Source, prepare, suited_source, unsuited_source
from chorus_conformance.given import Identity
from chorus_conformance.observed import Evidence, Observation, ReceivedMessage, Scenario
from chorus_conformance.parameters import Values, bad_value, resolved, unknown_name
from chorus_conformance.pod_files import PodFiles, has_sums, out_files, showing, try_to_publish
from chorus_conformance.receiver import ExpectedSender, Fault, MessageReceiver
from chorus_conformance.timeouts import Timeouts
from chorus_conformance.webhooks import Event, make_event, post
from chorus_protocol.messages import DataReport, MessageType, OnlineReport, TrainingData

SETTLE_SECONDS = 0.5
NAME = "chorus-check"
"""Of the run and the Plugin that a service is told of."""
ELSEWHERE = "https://another.example.org/"
"""Of a service that a message is meant for, which is not the one that is checked."""
_ENDS = {MessageType.MODEL_NAME: ExitCode.DONE, MessageType.ERROR_REPORT: ExitCode.BAD_CONFIGURATION}


@dataclass(frozen=True)
class ServicePlan:
    """Which service is checked, and how."""

    url: str
    key: Ed25519PrivateKey
    host: str = "127.0.0.1"
    """Name or address by which the service reaches this machine."""
    listen: str = "127.0.0.1"
    ca: str | None = None
    """Certificates (PEM) that the service is known by; the system's when None."""
    has_artefact: bool = True
    parameters: Values = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)
    own: Source | None = None
    rules: Collection[str] = ()
    scenarios: Collection[Scenario] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    keep: bool = False


@dataclass(frozen=True)
class _Execution:
    """One message to the service, and what is done with its answers. `frame` None: an inquiry."""

    scenario: Scenario
    seconds: float
    frame: Frame | None = None
    parameters: Values = field(default_factory=dict)
    key: Ed25519PrivateKey | None = None
    """Another key than Chorus's."""
    recipient: str | None = None
    """The URL of another service than the one that is told."""
    served_with: TrustedServer | None = None
    """Another certificate than the one that the service must trust."""
    times: int = 1
    settle: float = SETTLE_SECONDS
    """How long to listen on after the end."""
    waits_for_end: bool = True
    outage: bool = False


class ServiceCheck:
    """One check of a service: the scenarios in their order."""

    def __init__(
        self, plan: ServicePlan, scenarios: Collection[Scenario], folder: Path, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._scenarios = scenarios
        self._folder = folder
        self._say = say
        self._hosts = (plan.host, "localhost")
        self._server = trusted_server(self._hosts, now=datetime.now(UTC))
        self._seen: dict[Scenario, Observation] = {}
        self._missing: dict[Scenario, str] = {}
        self._bad: dict[Scenario, str] = {}
        self._report: OnlineReport | None = None
        self._raw: Mapping[str, object] = {}

    async def gather(self) -> Evidence:
        """Run what is wanted."""
        await self._describe()
        if self._report is not None:
            frame = prepare(
                suited_source(self._report, own=self._plan.own, info=self._plan.info), self._folder / "frame", "parquet"
            )
            await self._train(frame)
        return Evidence(
            self._seen,
            self._missing,
            self._report,
            self._raw,
            has_artefact=self._plan.has_artefact,
            bad=self._bad,
        )

    async def _describe(self) -> None:
        timeouts = self._plan.timeouts
        seen = await self._execute(_Execution(Scenario.DESCRIBE, timeouts.describe))
        for entry in seen.of(MessageType.ONLINE_REPORT)[:1]:
            assert isinstance(entry.payload, OnlineReport)
            self._report, self._raw = entry.payload, json.loads(entry.body)["data"]
        if self._report is None:
            for scenario in Scenario:
                self._missing.setdefault(scenario, "without ONLINE_REPORT it is not known what suits it")
            return
        away = seen.seconds + timeouts.impostor
        other = trusted_server(self._hosts, now=datetime.now(UTC))
        await self._execute_if_wanted(_Execution(Scenario.IMPOSTOR, away, served_with=other, waits_for_end=False))
        forger = Ed25519PrivateKey.generate()
        await self._execute_if_wanted(_Execution(Scenario.FORGED, away, key=forger, waits_for_end=False))
        await self._execute_if_wanted(_Execution(Scenario.MISADDRESSED, away, recipient=ELSEWHERE, waits_for_end=False))

    async def _train(self, frame: Frame) -> None:
        timeouts = self._plan.timeouts
        good = resolved(self._report, self._plan.parameters)
        await self._execute_if_wanted(_Execution(Scenario.TRAIN, timeouts.training, frame, good))
        trained = self._seen.get(Scenario.TRAIN)
        if trained is not None and not trained.done:
            for scenario in Scenario:
                self._missing.setdefault(scenario, "the training did not end well")
            return
        await self._refusals(frame, good)
        twice = _Execution(Scenario.TWICE, timeouts.training, frame, good, times=2, settle=timeouts.impostor)
        await self._execute_if_wanted(twice)
        outage = _Execution(Scenario.OUTAGE, timeouts.training, frame, good, settle=timeouts.impostor, outage=True)
        await self._execute_if_wanted(outage)

    async def _refusals(self, frame: Frame, good: Values) -> None:
        seconds = self._plan.timeouts.training
        unsuited = unsuited_source(self._report, frame.source)
        if unsuited is None:
            self._missing[Scenario.NOT_APPLICABLE] = "the plugin says of nothing that it needs it"
        elif Scenario.NOT_APPLICABLE in self._scenarios:
            lacking = prepare(unsuited, self._folder / "unsuited", "parquet")
            await self._execute(_Execution(Scenario.NOT_APPLICABLE, seconds, lacking, good))
        for scenario, bad, why in (
            (Scenario.BAD_VALUE, bad_value(self._report), "the plugin's report forbids no value"),
            (Scenario.UNKNOWN_NAME, unknown_name(self._report), "the plugin declares no parameters: any name will do"),
        ):
            if bad is None:
                self._missing[scenario] = why
                continue
            self._bad[scenario] = str(bad)
            await self._execute_if_wanted(_Execution(scenario, seconds, frame, {**good, bad.name: bad.value}))

    async def _execute_if_wanted(self, execution: _Execution) -> None:
        if execution.scenario in self._scenarios:
            await self._execute(execution)

    async def _execute(self, execution: _Execution) -> Observation:
        self._say(f"{execution.scenario} …")
        seen = self._seen[execution.scenario] = await self._run(execution)
        self._say(f"{execution.scenario}: {seen.not_started or f'{len(seen.received)} messages'}, {seen.seconds:.1f} s")
        return seen

    async def _run(self, execution: _Execution) -> Observation:
        """Each scenario is another run, or another Plugin, to the service."""
        plan = self._plan
        identity = Identity(
            1 + secrets.randbelow(2**31 - 1), 1 + secrets.randbelow(2**31 - 1), str(uuid.uuid4()), str(uuid.uuid4())
        )
        expected_sender = (
            ExpectedSender(identity.plugin_uid, 0, None)
            if execution.frame is None
            else ExpectedSender(identity.run_uid, 1, (identity.project_id, identity.plugin_id))
        )
        pod_files = PodFiles.make(self._folder / execution.scenario)
        receiver = MessageReceiver(expected_sender, host=plan.host, listen=plan.listen)
        exchange = Exchange(pod_files.data, pod_files.out, receiver.check_token, plan.host, plan.listen)
        if execution.frame is not None:
            execution.frame.copy_to(pod_files.data)
        try:
            await receiver.open(execution.served_with or self._server)
            await exchange.open(self._server)
        except OSError as error:
            raise CannotCheck(f"the receiver cannot listen on {plan.listen}: {error}") from error
        try:
            return await self._converse(execution, self._event(execution, receiver, exchange), receiver, pod_files)
        finally:
            await exchange.close()
            await receiver.close()

    def _event(self, execution: _Execution, receiver: MessageReceiver, exchange: Exchange) -> Event:
        expected_sender = receiver.expected_sender
        number = f"{expected_sender.subject_uid}-{expected_sender.attempt}"
        data: dict[str, Any] = {
            "messages_url": receiver.url,
            "messages_ca": self._server.ca.decode(),
            "token": receiver.token,
        }
        kind, subject = MessageType.ONLINE_INQUIRY, f"{NAME}/1"
        if execution.frame is not None:
            assert expected_sender.ids is not None
            kind, subject = MessageType.TRAINING_DATA, NAME
            payload = TrainingData(
                project_id=expected_sender.ids[0],
                plugin_id=expected_sender.ids[1],
                training_df_name=execution.frame.manifest.name,
                parameters=dict(execution.parameters),
                info=dict(execution.frame.source.info),
                location=exchange.frame_url,
            )
            data |= payload.model_dump(mode="json")
            data |= {"exchange_url": exchange.artefact_url, "exchange_ca": self._server.ca.decode()}
        return make_event(
            kind,
            number=number,
            subject=subject,
            subject_uid=expected_sender.subject_uid,
            attempt=expected_sender.attempt,
            recipient=execution.recipient or self._plan.url,
            data=data,
        )

    async def _converse(
        self, execution: _Execution, event: Event, receiver: MessageReceiver, pod_files: PodFiles
    ) -> Observation:
        """Send the message, and listen until the end or until the time is over."""
        began = time.monotonic()
        end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def on_message(entry: ReceivedMessage) -> None:
            if (code := _end_of(entry)) is not None and not end.done():
                end.set_result(code)

        receiver.on_message = on_message
        if execution.outage:
            receiver.faults.append(Fault.UNAVAILABLE)
        refused = ""
        for _ in range(execution.times):
            answer = await post(self._plan.url, event, execution.key or self._plan.key, ca=self._plan.ca)
            if not isinstance(answer, int) or not 200 <= answer < 300:
                refused = f"the POST was answered with {answer}" if isinstance(answer, int) else answer
        code = None
        if not refused:
            away = asyncio.create_task(self._go_away(receiver)) if execution.outage else None
            code = await self._listen(execution, end)
            if away is not None:
                away.cancel()
                await asyncio.gather(away, return_exceptions=True)
        elif execution.scenario in (Scenario.FORGED, Scenario.MISADDRESSED):
            await asyncio.sleep(min(execution.seconds, self._plan.timeouts.impostor))
        leaks = [f"a message ({entry})" for entry in receiver.received if receiver.token.encode() in entry.body]
        return Observation(
            exit_code=code,
            seconds=time.monotonic() - began,
            received=tuple(receiver.received),
            files=out_files(pod_files.out),
            has_sums=has_sums(pod_files.out),
            publication=try_to_publish(pod_files.out, pod_files.root / "published"),
            leaks=(*leaks, *showing(receiver.token, pod_files.run)),
            not_started=refused,
            is_service=True,
        )

    async def _listen(self, execution: _Execution, end: asyncio.Future[int]) -> int | None:
        if not execution.waits_for_end:
            await asyncio.sleep(execution.seconds)
            return None
        try:
            async with asyncio.timeout(execution.seconds):
                code = await end
        except TimeoutError:
            return None
        await asyncio.sleep(execution.settle)
        return code

    async def _go_away(self, receiver: MessageReceiver) -> None:
        """Answer the first message with 503, be away, come back, and lose the first answer."""
        await receiver.heard.wait()
        await receiver.close()
        await asyncio.sleep(self._plan.timeouts.away)
        receiver.faults.append(Fault.NO_ANSWER)
        await receiver.open(self._server)


def _end_of(entry: ReceivedMessage) -> int | None:
    """Say how a message ends what it is about, as a container's exit code; None when it does not."""
    if entry.kind is MessageType.ONLINE_REPORT:
        return ExitCode.DONE
    if isinstance(entry.payload, DataReport) and not entry.payload.applicable:
        return ExitCode.NOT_APPLICABLE
    return _ENDS.get(entry.kind) if entry.kind is not None else None
