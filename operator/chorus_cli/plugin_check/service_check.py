"""Play the contract with a service: it is told by POST, and answers to a receiver and an exchange on this machine."""

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
from chorus_cli.plugin_check.certificate import TrustedServer, trusted_server
from chorus_cli.plugin_check.errors import CannotCheck
from chorus_cli.plugin_check.exchange import Exchange
from chorus_cli.plugin_check.frames import Frame, Source, prepare, suited_source, unsuited_source
from chorus_cli.plugin_check.given import Identity
from chorus_cli.plugin_check.observed import Evidence, Letter, Observation, Scenario
from chorus_cli.plugin_check.parameters import Values, bad_value, resolved, unknown_name
from chorus_cli.plugin_check.patience import Patience
from chorus_cli.plugin_check.place import Place, has_sums, out_files, showing, try_to_publish
from chorus_cli.plugin_check.postbox import Fault, Postbox, Speaker
from chorus_cli.plugin_check.webhooks import Event, make_event, post
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
    patience: Patience = field(default_factory=Patience)
    keep: bool = False


@dataclass(frozen=True)
class _Act:
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
    """Another certificate than the one that the service is told to trust."""
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
        """Play what is wanted."""
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
        patience = self._plan.patience
        seen = await self._play(_Act(Scenario.DESCRIBE, patience.describe))
        for letter in seen.of(MessageType.ONLINE_REPORT)[:1]:
            assert isinstance(letter.payload, OnlineReport)
            self._report, self._raw = letter.payload, json.loads(letter.body)["data"]
        if self._report is None:
            for scenario in Scenario:
                self._missing.setdefault(scenario, "without ONLINE_REPORT it is not known what suits it")
            return
        away = seen.seconds + patience.impostor
        other = trusted_server(self._hosts, now=datetime.now(UTC))
        await self._play_if_wanted(_Act(Scenario.IMPOSTOR, away, served_with=other, waits_for_end=False))
        forger = Ed25519PrivateKey.generate()
        await self._play_if_wanted(_Act(Scenario.FORGED, away, key=forger, waits_for_end=False))
        await self._play_if_wanted(_Act(Scenario.MISADDRESSED, away, recipient=ELSEWHERE, waits_for_end=False))

    async def _train(self, frame: Frame) -> None:
        patience = self._plan.patience
        good = resolved(self._report, self._plan.parameters)
        await self._play_if_wanted(_Act(Scenario.TRAIN, patience.training, frame, good))
        trained = self._seen.get(Scenario.TRAIN)
        if trained is not None and not trained.done:
            for scenario in Scenario:
                self._missing.setdefault(scenario, "the training did not end well")
            return
        await self._refusals(frame, good)
        twice = _Act(Scenario.TWICE, patience.training, frame, good, times=2, settle=patience.impostor)
        await self._play_if_wanted(twice)
        outage = _Act(Scenario.OUTAGE, patience.training, frame, good, settle=patience.impostor, outage=True)
        await self._play_if_wanted(outage)

    async def _refusals(self, frame: Frame, good: Values) -> None:
        seconds = self._plan.patience.training
        unsuited = unsuited_source(self._report, frame.source)
        if unsuited is None:
            self._missing[Scenario.NOT_APPLICABLE] = "the plugin says of nothing that it needs it"
        elif Scenario.NOT_APPLICABLE in self._scenarios:
            lacking = prepare(unsuited, self._folder / "unsuited", "parquet")
            await self._play(_Act(Scenario.NOT_APPLICABLE, seconds, lacking, good))
        for scenario, bad, why in (
            (Scenario.BAD_VALUE, bad_value(self._report), "the plugin's report forbids no value"),
            (Scenario.UNKNOWN_NAME, unknown_name(self._report), "the plugin declares no parameters: any name will do"),
        ):
            if bad is None:
                self._missing[scenario] = why
                continue
            self._bad[scenario] = str(bad)
            await self._play_if_wanted(_Act(scenario, seconds, frame, {**good, bad.name: bad.value}))

    async def _play_if_wanted(self, act: _Act) -> None:
        if act.scenario in self._scenarios:
            await self._play(act)

    async def _play(self, act: _Act) -> Observation:
        self._say(f"{act.scenario} …")
        seen = self._seen[act.scenario] = await self._run(act)
        self._say(f"{act.scenario}: {seen.not_started or f'{len(seen.letters)} messages'}, {seen.seconds:.1f} s")
        return seen

    async def _run(self, act: _Act) -> Observation:
        """Each scenario is another run, or another Plugin, to the service."""
        plan = self._plan
        identity = Identity(
            1 + secrets.randbelow(2**31 - 1), 1 + secrets.randbelow(2**31 - 1), str(uuid.uuid4()), str(uuid.uuid4())
        )
        speaker = (
            Speaker(identity.plugin_uid, 0, None)
            if act.frame is None
            else Speaker(identity.run_uid, 1, (identity.project_id, identity.plugin_id))
        )
        place = Place.make(self._folder / act.scenario)
        postbox = Postbox(speaker, host=plan.host, listen=plan.listen)
        exchange = Exchange(place.data, place.out, postbox.check_token, plan.host, plan.listen)
        if act.frame is not None:
            act.frame.copy_to(place.data)
        try:
            await postbox.open(act.served_with or self._server)
            await exchange.open(self._server)
        except OSError as error:
            raise CannotCheck(f"the receiver cannot listen on {plan.listen}: {error}") from error
        try:
            return await self._converse(act, self._event(act, postbox, exchange), postbox, place)
        finally:
            await exchange.close()
            await postbox.close()

    def _event(self, act: _Act, postbox: Postbox, exchange: Exchange) -> Event:
        speaker = postbox.speaker
        number = f"{speaker.subject_uid}-{speaker.attempt}"
        data: dict[str, Any] = {
            "messages_url": postbox.url,
            "messages_ca": self._server.ca.decode(),
            "token": postbox.token,
        }
        kind, subject = MessageType.ONLINE_INQUIRY, f"{NAME}/1"
        if act.frame is not None:
            assert speaker.ids is not None
            kind, subject = MessageType.TRAINING_DATA, NAME
            payload = TrainingData(
                project_id=speaker.ids[0],
                plugin_id=speaker.ids[1],
                training_df_name=act.frame.manifest.name,
                parameters=dict(act.parameters),
                info=dict(act.frame.source.info),
                location=exchange.frame_url,
            )
            data |= payload.model_dump(mode="json")
            data |= {"exchange_url": exchange.artefact_url, "exchange_ca": self._server.ca.decode()}
        return make_event(
            kind,
            number=number,
            subject=subject,
            subject_uid=speaker.subject_uid,
            attempt=speaker.attempt,
            recipient=act.recipient or self._plan.url,
            data=data,
        )

    async def _converse(self, act: _Act, event: Event, postbox: Postbox, place: Place) -> Observation:
        """Send the message, and listen until the end or until the time is over."""
        began = time.monotonic()
        end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def on_letter(letter: Letter) -> None:
            if (code := _end_of(letter)) is not None and not end.done():
                end.set_result(code)

        postbox.on_letter = on_letter
        if act.outage:
            postbox.faults.append(Fault.UNAVAILABLE)
        refused = ""
        for _ in range(act.times):
            answer = await post(self._plan.url, event, act.key or self._plan.key, ca=self._plan.ca)
            if not isinstance(answer, int) or not 200 <= answer < 300:
                refused = f"the POST was answered with {answer}" if isinstance(answer, int) else answer
        code = None
        if not refused:
            away = asyncio.create_task(self._go_away(postbox)) if act.outage else None
            code = await self._listen(act, end)
            if away is not None:
                away.cancel()
                await asyncio.gather(away, return_exceptions=True)
        elif act.scenario in (Scenario.FORGED, Scenario.MISADDRESSED):
            await asyncio.sleep(min(act.seconds, self._plan.patience.impostor))
        leaks = [f"a message ({letter})" for letter in postbox.letters if postbox.token.encode() in letter.body]
        return Observation(
            exit_code=code,
            seconds=time.monotonic() - began,
            letters=tuple(postbox.letters),
            files=out_files(place.out),
            has_sums=has_sums(place.out),
            publication=try_to_publish(place.out, place.root / "published"),
            leaks=(*leaks, *showing(postbox.token, place.run)),
            not_started=refused,
            is_service=True,
        )

    async def _listen(self, act: _Act, end: asyncio.Future[int]) -> int | None:
        if not act.waits_for_end:
            await asyncio.sleep(act.seconds)
            return None
        try:
            async with asyncio.timeout(act.seconds):
                code = await end
        except TimeoutError:
            return None
        await asyncio.sleep(act.settle)
        return code

    async def _go_away(self, postbox: Postbox) -> None:
        """Answer the first message with 503, be away, come back, and lose the first answer."""
        await postbox.heard.wait()
        await postbox.close()
        await asyncio.sleep(self._plan.patience.away)
        postbox.faults.append(Fault.NO_ANSWER)
        await postbox.open(self._server)


def _end_of(letter: Letter) -> int | None:
    """Say how a message ends what it is about, as a container's exit code; None when it does not."""
    if letter.kind is MessageType.ONLINE_REPORT:
        return ExitCode.DONE
    if isinstance(letter.payload, DataReport) and not letter.payload.applicable:
        return ExitCode.NOT_APPLICABLE
    return _ENDS.get(letter.kind) if letter.kind is not None else None
