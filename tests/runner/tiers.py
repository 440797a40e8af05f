"""The tiers of tests: what each needs, how long it may take, and what it should take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

OVER = 1.2
"""A tier that takes this many times its share is marked in the report. Machines differ, so it does not fail."""


CHAOS = "chaos"
"""What marks the tests of a long form, and names the long forms of the tiers on the command line."""


@dataclass(frozen=True)
class LongForm:
    """The tests of a tier that are marked `chaos`: how long they may take, and what they should take."""

    share: int
    deadline: int


@dataclass(frozen=True)
class Tier:
    """One part of the test run."""

    name: str
    share: int
    """Seconds that it should take on two quiet cores with everything built."""
    deadline: int
    """Seconds after which it is ended, and failed."""
    needs: tuple[str, ...] = ()
    """What must be there first: see `runner.setup`."""
    options: tuple[str, ...] = ()
    """Options of pytest."""
    directory: str | None = None
    """Where its tests are, under tests/; by default a directory of its name."""
    long: LongForm | None = None
    """Its long form; None where no test is marked so."""

    @property
    def path(self) -> str:
        """The directory of its tests."""
        return f"tests/{self.directory or self.name}"

    def at_length(self) -> Tier:
        """Return its long form as a tier. Raises SystemExit when it has none."""
        if self.long is None:
            raise SystemExit(f"no test of the tier {self.name} is marked {CHAOS}")
        options = (*self.options, "-m", CHAOS)
        return replace(self, share=self.long.share, deadline=self.long.deadline, options=options)


# In the order in which they run: what needs no cluster comes first, while the cluster's parts are built.
TIERS = {
    tier.name: tier
    for tier in (
        Tier("lint", share=30, deadline=900),
        Tier(
            "unit",
            share=60,
            deadline=600,
            options=("-n", "auto", "--dist", "worksteal"),
            long=LongForm(share=300, deadline=1800),
        ),
        Tier("component", share=50, deadline=600, options=("-n", "auto", "--dist", "worksteal")),
        Tier("trainer", share=100, deadline=1200, options=("-n", "auto", "--dist", "worksteal")),
        Tier(
            "api",
            share=250,
            deadline=1800,
            needs=("promtool", "postgres"),
            options=("-n", "auto", "--dist", "loadfile"),
            long=LongForm(share=600, deadline=3600),
        ),
        Tier(
            "render",
            share=60,
            deadline=600,
            needs=("helm",),
            options=("-n", "auto", "--dist", "loadgroup"),
            directory="chart/render",
        ),
        Tier("cluster", share=650, deadline=2400, needs=("cluster",), long=LongForm(share=1800, deadline=7200)),
        Tier("chart", share=400, deadline=1800, needs=("cluster", "helm"), directory="chart/install"),
    )
}


@dataclass(frozen=True)
class Counts:
    """How the tests of a tier ended; `failed` also counts a tier that did not run to its end."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Sum two tiers."""
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


@dataclass(frozen=True)
class Result:
    """How a tier went."""

    tier: Tier
    counts: Counts
    seconds: float
    """How long its tests took, without what it waited for."""
    waited: float = 0.0
    """Seconds that it waited for what it needs."""

    @property
    def over(self) -> float:
        """By which part of its share it took longer, 0.5 for half as long again; 0 within `OVER`."""
        ratio = self.seconds / self.tier.share
        return ratio - 1 if ratio > OVER else 0.0


def asked_for(words: Sequence[str]) -> list[Tier]:
    """Return the tiers that a command line names; after `chaos` their long forms, all that there are without a name.

    Raises SystemExit for an unknown one, and for one without a long form.
    """
    if words[:1] != [CHAOS]:
        return in_order(words)
    names = words[1:] or [tier.name for tier in TIERS.values() if tier.long is not None]
    return [tier.at_length() for tier in in_order(names)]


def in_order(names: Sequence[str]) -> list[Tier]:
    """Return the tiers, those that wait for nothing first. Raises SystemExit for an unknown one."""
    unknown = [name for name in names if name not in TIERS]
    if unknown or not names:
        raise SystemExit(f"no tier {', '.join(unknown) or 'given'}: one or more of {', '.join(TIERS)}")
    return [tier for tier in TIERS.values() if tier.name in names]


def line_of(result: Result) -> str:
    """Say how one tier went."""
    counts = result.counts
    return (
        f"tier {result.tier.name}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped"
        f" in {result.seconds:.0f} s of {result.tier.share}{_remark(result)}"
    )


def table_of(results: Sequence[Result]) -> list[str]:
    """Show each tier's seconds beside its share; what took over a fifth longer is marked."""
    lines = [f"{'tier':10}{'passed':>8}{'failed':>8}{'seconds':>9}{'share':>7}{'waited':>8}"]
    for result in results:
        counts = result.counts
        lines.append(
            f"{result.tier.name:10}{counts.passed:8}{counts.failed:8}{result.seconds:9.0f}{result.tier.share:7}"
            f"{result.waited:8.0f}{_remark(result)}"
        )
    share = sum(result.tier.share for result in results)
    seconds, waited = (sum(part) for part in zip(*((each.seconds, each.waited) for each in results), strict=True))
    total = sum((result.counts for result in results), Counts())
    lines.append(f"{'all':10}{total.passed:8}{total.failed:8}{seconds:9.0f}{share:7}{waited:8.0f}")
    return lines


def _remark(result: Result) -> str:
    return f"  <- {result.over:.0%} over its share" if result.over else ""
