"""What the pods of Chorus do, without data or training: they read their configuration, send their messages, and end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chorus_api import contract
from chorus_api.reasons import ExitCode
from chorus_api.run_config import (
    ExchangeConfig,
    ForwardConfig,
    FrozenRun,
    Messaging,
    PrepareConfig,
    PublishConfig,
    TerminationRecord,
)
from chorus_client.sender import Pace, Sender, Undelivered
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.jobs.exchange import run_exchange
from chorus_protocol.messages import (
    ColumnProfile,
    DataReport,
    FrameManifest,
    FrameReady,
    ModelName,
    OnlineReport,
    Payload,
    ProgressReport,
    TrainingStart,
)
from harness.kubelet import Container, Exit, Program

DIGEST = "sha256:" + "cd" * 32
FRAME = FrameManifest(
    name="df-0123456789ab",
    digest="sha256:" + "ab" * 32,
    rows=100,
    eval_rows=5,
    read_rows=105,
    columns=[ColumnProfile(name=name, type="string") for name in ("prompt", "response")],
)
EXCHANGED = {"train.parquet": b"PAR1" + bytes(1000), "eval.parquet": b"PAR1", "frame.json": b"{}"}
"""The frame that exchanges serve."""
PACE = Pace(first_backoff=0.1, longest_backoff=1.0, longest_backoff_closing=0.3, progress_every=0.1)
DELIVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Attempt:
    """What one training pod does. `lingers`: it trains until it is told to stop, then exits 75.

    `reports`: how many times it tells its progress, with `pause_seconds` after each. `last_word`: its record names the
    model, as that of a plugin must that sends no message.
    """

    exit_code: int = 0
    speaks: bool = True
    applicable: bool = True
    lingers: bool = False
    log: str = ""
    reports: int = 1
    pause_seconds: float = 0.0
    last_word: bool = False


Plan = Callable[[str, int], Attempt]
"""What the n-th training pod of the run of that name does, counted from 1."""


def by_run(attempts: dict[str, list[Attempt]]) -> Plan:
    """Plan by the names of runs; further pods, and the pods of other runs, simply succeed."""

    def plan(run: str, number: int) -> Attempt:
        planned = attempts.get(run, [])
        return planned[number - 1] if number <= len(planned) else Attempt()

    return plan


@dataclass
class Mailbag:
    """What became of the messages of all pods."""

    delivered: list[tuple[str, int, str]] = field(default_factory=list)
    """(run, attempt, message) that the receiver has acknowledged."""
    lost: list[Undelivered] = field(default_factory=list)
    pods: Counter[str] = field(default_factory=Counter)
    """Training pods that have started, by run."""
    exchanges: dict[str, int] = field(default_factory=dict)
    """Ports of the exchanges that have started, by their hosts: the names of their Services resolve nowhere here."""
    artefacts: dict[tuple[str, int], dict[str, bytes]] = field(default_factory=dict)
    """What services have left, by run and attempt."""


def chorus(plan: Plan, mailbag: Mailbag | None = None, *, url: str | None = None) -> Program:
    """Build the program of all pods; `url`: where to send messages, instead of what the configuration says."""
    bag = mailbag if mailbag is not None else Mailbag()

    async def program(container: Container) -> Exit:
        match container.labels[contract.ROLE_LABEL]:
            case "prepare":
                return await _prepare(container, bag, url)
            case "train":
                config = FrozenRun.model_validate_json(container.files["run.json"])
                bag.pods[config.run_name] += 1
                return await _train(container, config, plan(config.run_name, bag.pods[config.run_name]), bag, url)
            case "describe":
                return await _describe(container, bag)
            case "exchange":
                return await _exchange(container, bag)
            case "publish":
                told = container.env.get(contract.JOB_CONFIG_VARIABLE) or container.files["job.json"]
                return _publish(PublishConfig.model_validate_json(told))
            case _:
                return Exit()

    return program


def open_sender(container: Container, messaging: Messaging, *, attempt: int, url: str | None = None) -> Sender:
    """Open the sender of a pod with the identity that is mounted into it."""
    mounted = {
        "token_file": str(container.directory / "token"),
        "ca_file": str(container.directory / contract.CA_KEY),
        "url": url or messaging.url,
    }
    return Sender(messaging.model_copy(update=mounted), attempt=attempt, pace=PACE)


async def close(container: Container, sender: Sender) -> list[Undelivered]:
    """Deliver what waits; return what could not be delivered."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(container.threads, sender.close, DELIVERY_SECONDS)


async def _prepare(container: Container, bag: Mailbag, url: str | None) -> Exit:
    config = PrepareConfig.model_validate_json(container.files["job.json"])
    sender = open_sender(container, config.messaging, attempt=0, url=url)
    sender.send(FrameReady(project_id=config.project_id, prepare_key=config.prepare_key, frame=FRAME))
    lost = await close(container, sender)
    bag.lost += lost
    return Exit(ExitCode.INTERNAL if lost else ExitCode.DONE)


async def _describe(container: Container, bag: Mailbag) -> Exit:
    messaging = ForwardConfig.model_validate_json(container.files["forward.json"]).messaging
    sender = open_sender(container, messaging, attempt=0)
    sender.send(OnlineReport(id="classifier", parameters={"epochs": 5}, needed_columns=["prompt"], min_rows=10))
    lost = await close(container, sender)
    bag.lost += lost
    return Exit(ExitCode.INTERNAL if lost else ExitCode.DONE)


async def _train(container: Container, config: FrozenRun, attempt: Attempt, bag: Mailbag, url: str | None) -> Exit:
    number = int(container.env[contract.ATTEMPT_ENV])
    ids = {"project_id": config.project_id, "plugin_id": config.plugin_id}
    metrics = {"eval_loss": 0.5}
    first: list[Payload] = [DataReport(applicable=attempt.applicable, **ids)]
    if attempt.applicable:
        first.append(TrainingStart(**ids))
    last: list[Payload] = []
    if attempt.applicable and attempt.exit_code == 0 and not attempt.lingers:
        last.append(ModelName(model_name=config.model_name, digest=DIGEST, metrics=metrics, **ids))
    sender = open_sender(container, config.messaging, attempt=number, url=url) if attempt.speaks else None
    if sender is not None:
        for message in first:
            sender.send(message)
        for step in range(1, attempt.reports + 1 if attempt.applicable else 1):
            of_all = attempt.reports + 1
            percent = 100 * step // of_all
            sender.progress(ProgressReport(percent=percent, step=step, total_steps=of_all, checkpoint_step=1, **ids))
            await asyncio.sleep(attempt.pause_seconds)
    if attempt.lingers:
        await container.stopping.wait()
    if sender is not None:
        for message in last:
            sender.send(message)
        lost = await close(container, sender)
        bag.lost += lost
        unsent = {str(message.type) for message in lost}
        sent = {_type_of(message) for message in (*first, *last)}
        bag.delivered += [(config.run_name, number, kind) for kind in sorted(sent - unsent)]
    return _end(attempt, config)


async def _exchange(container: Container, bag: Mailbag) -> Exit:
    """The real exchange, on a port of this machine, with a frame of its own."""
    told = ExchangeConfig.model_validate_json(container.files["job.json"])
    number = int(container.env[contract.ATTEMPT_ENV])
    data, run = container.directory / "data", container.directory / "run"
    for folder in (data, run):
        folder.mkdir()
    for name, content in EXCHANGED.items():
        (data / name).write_bytes(content)
    stop = StopFlag()

    def serving(port: int) -> None:
        bag.exchanges[told.hosts[0]] = port

    def work() -> None:
        run_exchange(
            told.model_copy(update={"port": 0}),
            attempt=number,
            data_dir=data,
            run_dir=run,
            stop=stop,
            address="127.0.0.1",
            serving=serving,
            sender=open_sender(container, told.messaging, attempt=number),
        )

    ended = asyncio.get_running_loop().run_in_executor(container.threads, work)
    stopping = asyncio.create_task(container.stopping.wait())
    await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    stop.request()
    with contextlib.suppress(Stopped):
        await ended
    out = run / "out"
    bag.artefacts[told.run_name, number] = {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    return Exit(ExitCode.PREEMPTED)


def _type_of(payload: Payload) -> str:
    names = {DataReport: "DATA_REPORT", TrainingStart: "TRAINING_START", ModelName: "MODEL_NAME"}
    return names[type(payload)]


def _end(attempt: Attempt, config: FrozenRun) -> Exit:
    if attempt.lingers:
        record = TerminationRecord(outcome="preempted", retryable=True, message="Stopped by SIGTERM.", step=1)
        return Exit(ExitCode.PREEMPTED, record, attempt.log)
    if attempt.exit_code == 0:
        name = config.model_name if attempt.last_word else None
        record = TerminationRecord(
            outcome="succeeded", digest=DIGEST, model_name=name, final_loss=0.4, eval_loss=0.5, samples=100
        )
        return Exit(0, record, attempt.log)
    return Exit(attempt.exit_code, None, attempt.log)


def _publish(config: PublishConfig) -> Exit:
    record = TerminationRecord(
        outcome="succeeded",
        digest=config.expected_digest or DIGEST,
        model_name=config.model_name,
        final_loss=0.4,
        eval_loss=0.5,
        samples=100,
        bytes=1000,
        promoted=config.promote,
    )
    return Exit(0, record)
