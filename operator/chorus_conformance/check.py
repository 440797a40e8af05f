"""Run every scenario that the wanted rules need, and hand the evidence to them."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from chorus_api import contract
from chorus_api.reasons import ExitCode
from chorus_conformance.certificate import trusted_server
from chorus_conformance.drivers import Stop, through_an_outage, to_the_end
from chorus_conformance.execution import Driver, Execution, Harness, execute
from chorus_conformance.frames import Frame, Source, prepare, suited_source, unsuited_source
from chorus_conformance.given import FrameFormat, Identity, Work
from chorus_conformance.launch import Launcher
from chorus_conformance.observed import Evidence, Observation, Scenario
from chorus_conformance.parameters import BadParameter, Values, bad_value, resolved, unknown_name
from chorus_conformance.rule import Result, Rule, judge
from chorus_conformance.rulebook import RULES
from chorus_conformance.service_check import ServiceCheck, ServicePlan
from chorus_conformance.service_rulebook import SERVICE_RULES
from chorus_conformance.timeouts import Timeouts
from chorus_protocol.messages import MessageType, OnlineReport

_NOT_TRAINED = "the training did not end well"


@dataclass(frozen=True)
class Plan:
    """What is checked, and how."""

    launcher: Launcher
    by_file: bool = False
    frame_format: FrameFormat = "parquet"
    has_artefact: bool = True
    describes: bool = True
    parameters: Values = field(default_factory=dict)
    info: Mapping[str, str] = field(default_factory=dict)
    own: Source | None = None
    """The author's own data."""
    rules: Collection[str] = ()
    """Rules to judge; all when empty."""
    scenarios: Collection[Scenario] = ()
    """Scenarios to run at most; all that the rules need when empty."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    keep: bool = False
    """Leave the directories of the executions."""


def rules_for(plan: Plan | ServicePlan) -> tuple[Rule, ...]:
    """The rules that concern what is checked."""
    return SERVICE_RULES if isinstance(plan, ServicePlan) else RULES


async def check(plan: Plan | ServicePlan, *, say: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Run and judge; CannotCheck when it cannot be done. `say` is told what is going on."""
    rules = rules_for(plan)
    wanted = [rule for rule in rules if not plan.rules or rule.id in plan.rules]
    scenarios = {scenario for rule in wanted for scenario in rule.scenarios}
    if plan.scenarios:
        scenarios &= set(plan.scenarios)
    folder = _make_folder()
    try:
        evidence = await _gather(plan, scenarios, folder, say)
    finally:
        if plan.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    asked = {rule.id for rule in wanted}
    return sorted((each for each in judge(rules, evidence) if each.rule.id in asked), key=lambda each: each.rule.id)


async def _gather(
    plan: Plan | ServicePlan, scenarios: Collection[Scenario], folder: Path, say: Callable[[str], None]
) -> Evidence:
    if isinstance(plan, ServicePlan):
        return await ServiceCheck(plan, scenarios, folder, say).gather()
    await plan.launcher.prepare()
    there = _contract_paths()
    evidence = await _Check(plan, scenarios, folder, say).gather()
    return replace(evidence, contract_paths_appeared=tuple(sorted(_contract_paths() - there)))


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="chorus-check-"))
    folder.chmod(0o755)  # a container's user must get through
    return folder


def _contract_paths() -> set[str]:
    """The paths of the contract that are there on this machine."""
    return {str(path) for path in (contract.ROOT, contract.IDENTITY_DIR) if Path(path).exists()}


class _Check:
    """One check: the scenarios in their order, each with what the earlier ones told."""

    def __init__(self, plan: Plan, scenarios: Collection[Scenario], folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._scenarios = scenarios
        self._folder = folder
        self._say = say
        self._hosts = (plan.launcher.host, "localhost")
        identity = Identity(
            1 + secrets.randbelow(2**31 - 1), 1 + secrets.randbelow(2**31 - 1), str(uuid.uuid4()), str(uuid.uuid4())
        )
        trusted = trusted_server(self._hosts, now=datetime.now(UTC))
        self._harness = Harness(plan.launcher, folder, identity, trusted, by_file=plan.by_file)
        self._seen: dict[Scenario, Observation] = {}
        self._missing: dict[Scenario, str] = {}
        self._bad: dict[Scenario, str] = {}
        self._report: OnlineReport | None = None
        self._raw: Mapping[str, object] = {}

    async def gather(self) -> Evidence:
        """Run what is wanted."""
        await self._describe()
        await self._impostor()
        source = suited_source(self._report, own=self._plan.own, info=self._plan.info)
        frame = prepare(source, self._folder / "frame", self._plan.frame_format)
        await self._train(frame)
        await self._refusals(frame)
        await self._stop(frame)
        await self._outage(frame)
        return Evidence(
            seen=self._seen,
            missing=self._missing,
            report=self._report,
            raw_report=self._raw,
            is_container=self._plan.launcher.is_container,
            by_file=self._plan.by_file,
            has_artefact=self._plan.has_artefact,
            describes=self._plan.describes,
            bad=self._bad,
            grace_seconds=self._plan.timeouts.grace,
        )

    async def _describe(self) -> None:
        """Always run: the report says which frame suits, and which parameters there are."""
        if not self._plan.describes:
            self._missing[Scenario.DESCRIBE] = "the manifest describes the plugin (--no-describe)"
            return
        seen = await self._execute(Execution(Scenario.DESCRIBE, to_the_end(self._plan.timeouts.describe)))
        for entry in seen.of(MessageType.ONLINE_REPORT)[:1]:
            assert isinstance(entry.payload, OnlineReport)
            self._report, self._raw = entry.payload, json.loads(entry.body)["data"]

    async def _impostor(self) -> None:
        described = self._seen.get(Scenario.DESCRIBE)
        if self._plan.by_file:
            return self._miss("the sidecar sends the messages (--messages file)", Scenario.IMPOSTOR)
        if described is None or self._report is None:
            return self._miss("without ONLINE_REPORT it is not known how it speaks", Scenario.IMPOSTOR)
        seconds = described.seconds + self._plan.timeouts.impostor
        other = trusted_server(self._hosts, now=datetime.now(UTC))
        await self._execute_if_wanted(Execution(Scenario.IMPOSTOR, to_the_end(seconds), served_with=other))

    async def _train(self, frame: Frame) -> None:
        await self._execute_if_wanted(self._execution(Scenario.TRAIN, frame, to_the_end(self._plan.timeouts.training)))
        trained = self._seen.get(Scenario.TRAIN)
        if trained is not None and not trained.done and self._plan.launcher.is_container:
            execution = self._execution(Scenario.UNCONFINED, frame, to_the_end(self._plan.timeouts.training))
            await self._execute_if_wanted(replace(execution, confined=False))

    async def _refusals(self, frame: Frame) -> None:
        """Run what the plugin must refuse: a frame that does not suit, and wrong parameters."""
        end = to_the_end(self._plan.timeouts.training)
        unsuited = unsuited_source(self._report, frame.source)
        if unsuited is None:
            self._miss(
                "the plugin says of no column, information or number of rows that it needs it", Scenario.NOT_APPLICABLE
            )
        elif self._goes_on(Scenario.NOT_APPLICABLE):
            lacking = prepare(unsuited, self._folder / "unsuited", self._plan.frame_format)
            await self._execute_if_wanted(self._execution(Scenario.NOT_APPLICABLE, lacking, end))
        for scenario, bad, why in (
            (Scenario.BAD_VALUE, bad_value(self._report), "the plugin's report forbids no value"),
            (Scenario.UNKNOWN_NAME, unknown_name(self._report), "the plugin declares no parameters: any name will do"),
        ):
            if bad is None:
                self._miss(why, scenario)
            elif self._goes_on(scenario):
                self._bad[scenario] = str(bad)
                await self._execute_if_wanted(self._execution(scenario, frame, end, bad=bad))

    async def _stop(self, frame: Frame) -> None:
        if Scenario.STOP not in self._scenarios or not self._goes_on(Scenario.STOP, Scenario.RESUME):
            return
        trained = self._seen.get(Scenario.TRAIN)
        silent = trained is not None and not trained.percents
        at = MessageType.TRAINING_START if silent or self._plan.by_file else MessageType.PROGRESS
        stop = Stop(at, self._plan.timeouts.training, self._plan.timeouts.grace)
        seen = await self._execute(self._execution(Scenario.STOP, frame, stop.direct))
        self._seen[Scenario.STOP] = seen = replace(seen, signalled=stop.signalled)
        if seen.exit_code != ExitCode.PREEMPTED:
            self._miss("there is nothing to go on with: it did not stop with 75", Scenario.RESUME)
            return
        execution = self._execution(Scenario.RESUME, frame, to_the_end(self._plan.timeouts.training))
        await self._execute_if_wanted(replace(execution, attempt=2, run=self._folder / Scenario.STOP / "run"))

    async def _outage(self, frame: Frame) -> None:
        if self._plan.by_file:
            return self._miss("the sidecar sends the messages (--messages file)", Scenario.OUTAGE)
        if self._goes_on(Scenario.OUTAGE):
            timeouts = self._plan.timeouts
            direct = through_an_outage(self._harness.trusted, seconds=timeouts.training, away_seconds=timeouts.away)
            await self._execute_if_wanted(self._execution(Scenario.OUTAGE, frame, direct))
        return None

    def _execution(
        self, scenario: Scenario, frame: Frame, direct: Driver, *, bad: BadParameter | None = None
    ) -> Execution:
        """A training on this frame."""
        parameters = resolved(self._report, self._plan.parameters) | ({bad.name: bad.value} if bad is not None else {})
        plan = self._plan
        work = Work(frame.manifest, plan.frame_format, plan.has_artefact, parameters, dict(frame.source.info))
        return Execution(scenario, direct, work, frame.copy_to)

    def _goes_on(self, *scenarios: Scenario) -> bool:
        """Whether it makes sense to go on; not when the training itself did not end well."""
        trained = self._seen.get(Scenario.TRAIN)
        if trained is None or trained.done:
            return True
        self._miss(_NOT_TRAINED, *scenarios)
        return False

    def _miss(self, why: str, *scenarios: Scenario) -> None:
        for scenario in scenarios:
            self._missing[scenario] = why

    async def _execute_if_wanted(self, execution: Execution) -> None:
        if execution.scenario in self._scenarios:
            await self._execute(execution)

    async def _execute(self, execution: Execution) -> Observation:
        self._say(f"{execution.scenario} …")
        seen = self._seen[execution.scenario] = await execute(self._harness, execution)
        self._say(
            f"{execution.scenario}: exit code {seen.exit_code}, {len(seen.received)} messages, {seen.seconds:.1f} s"
        )
        return seen


def select(ids: Sequence[str], rules: Sequence[Rule]) -> frozenset[str]:
    """Check the ids of rules; ValueError names those that there are when one is unknown."""
    known = [rule.id for rule in rules]
    unknown = sorted(set(ids) - set(known))
    if unknown:
        raise ValueError(f"there is no rule {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return frozenset(ids)
