"""A rule of the contract, and what comes of it: passed, failed with what was seen, or skipped with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chorus_conformance.observed import Evidence, Observation, Scenario

PAGE = "docs/plugin-check.md"
SEEN_CHARACTERS = 2000


@dataclass(frozen=True)
class Passed:
    """The rule is kept."""


@dataclass(frozen=True)
class Failed:
    """The rule is broken."""

    seen: str


@dataclass(frozen=True)
class Skipped:
    """It cannot be told. `blocked`: another rule must be mended first; else there is nothing to check."""

    why: str
    blocked: bool = False


Verdict = Passed | Failed | Skipped
PASSED = Passed()


@dataclass(frozen=True)
class Rule:
    """One rule. `check` judges the evidence; it is not asked while a rule of `after` is broken."""

    id: str
    title: str
    expected: str
    mend: str
    check: Callable[[Evidence], Verdict]
    scenarios: tuple[Scenario, ...] = ()
    """What must be run to judge; the rules of messages judge whatever is run."""
    after: tuple[str, ...] = ()

    @property
    def more(self) -> str:
        """Where the documentation says more."""
        return f"{PAGE}#{self.id[:2].lower()}"


@dataclass(frozen=True)
class Result:
    """A rule and its verdict."""

    rule: Rule
    verdict: Verdict


def judge(rules: Sequence[Rule], evidence: Evidence) -> list[Result]:
    """Judge the rules in their order; a rule behind a broken one is skipped with its name."""
    verdicts: dict[str, Verdict] = {}
    for rule in rules:
        broken = next((verdicts[name] for name in rule.after if _blocks(verdicts.get(name))), None)
        if broken is not None:
            name = next(name for name in rule.after if verdicts.get(name) is broken)
            verdicts[rule.id] = broken if isinstance(broken, Skipped) else Skipped(f"mend {name} first", blocked=True)
            continue
        verdict = rule.check(evidence)
        verdicts[rule.id] = Failed(verdict.seen[:SEEN_CHARACTERS]) if isinstance(verdict, Failed) else verdict
    return [Result(rule, verdicts[rule.id]) for rule in rules]


def _blocks(verdict: Verdict | None) -> bool:
    return isinstance(verdict, Failed) or (isinstance(verdict, Skipped) and verdict.blocked)


def told_by(
    *scenarios: Scenario,
) -> Callable[[Callable[[Evidence, Observation], Verdict]], Callable[[Evidence], Verdict]]:
    """Make a rule of a function that judges the first of these scenarios that was run; skipped when none was."""

    def wrap(check: Callable[[Evidence, Observation], Verdict]) -> Callable[[Evidence], Verdict]:
        def wrapped(evidence: Evidence) -> Verdict:
            ran = next((evidence.seen[each] for each in scenarios if each in evidence.seen), None)
            if ran is None:
                return Skipped(missing(evidence.missing, scenarios[0]))
            return check(evidence, ran)

        return wrapped

    return wrap


def missing(reasons: Mapping[Scenario, str], scenario: Scenario) -> str:
    """Say why a scenario was not run."""
    return reasons.get(scenario, f"`{scenario}` was not run")


def unless_refused(observation: Observation, seen: str) -> Verdict:
    """Fail with what was seen, but where messages were refused: then their own rule says what is wrong."""
    if observation.refusals:
        return Skipped("messages were refused: mend what C3 says first", blocked=True)
    return Failed(seen)
