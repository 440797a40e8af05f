"""The report of a test run: each tier's time beside its share."""

from __future__ import annotations

import pytest

from runner.tiers import TIERS, Counts, Result, Tier, in_order, line_of, table_of


def result(*, seconds: float, name: str = "api", waited: float = 0.0) -> Result:
    return Result(Tier(name, share=100, deadline=1000), Counts(passed=7), seconds=seconds, waited=waited)


@pytest.mark.parametrize(("seconds", "marked"), [(80, False), (120, False), (121, True), (250, True)])
def test_a_tier_is_marked_when_it_took_over_a_fifth_longer_than_its_share(seconds: float, marked: bool) -> None:
    assert ("over its share" in line_of(result(seconds=seconds))) == marked


def test_what_a_tier_waited_for_does_not_count_towards_its_share() -> None:
    assert "over its share" not in line_of(result(seconds=90, waited=900))


def test_the_table_has_a_line_for_each_tier_and_one_for_all() -> None:
    assert table_of([result(seconds=250), result(seconds=50, name="unit", waited=3)]) == [
        "tier        passed  failed  seconds  share  waited",
        "api              7       0      250    100       0  <- 150% over its share",
        "unit             7       0       50    100       3",
        "all             14       0      300    200       3",
    ]


def test_tiers_run_in_the_order_of_their_list_and_unknown_ones_are_refused() -> None:
    assert [tier.name for tier in in_order(["chart", "lint"])] == ["lint", "chart"]
    with pytest.raises(SystemExit, match=r"no tier moon: one or more of lint, unit"):
        in_order(["moon"])


def test_the_shares_together_are_what_a_run_with_everything_built_may_take() -> None:
    assert sum(tier.share for tier in TIERS.values()) <= 30 * 60
