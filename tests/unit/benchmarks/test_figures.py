"""What the measurement of a run's cost makes of what it has counted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

import run_cost
from cost import tables
from cost.figures import Cost, Figures, percentile, ratio

KEYS = ["bare_ms", "silent_ratio", "silent_requests", "artefact_ratio", "artefact_requests", "p99_ms", "mib_5000"]


def cost(*, count: int = 10, cpu: Mapping[str, float] | None = None, asked: int = 0, seconds: float = 5.0) -> Cost:
    """What ten runs cost: 0.5 s of CPU in all, unless told otherwise."""
    spent = {"etcd": 0.1, "operator": 0.4} if cpu is None else cpu
    return Cost(count, seconds, [0.01] * count, spent, asked={"get jobs": asked}, ends={"TRAINED": count})


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 50), (99, 99), (100, 100), (99.5, 100), (1, 1), (0, 1)], ids=lambda number: f"{number}"
)
def test_a_percentile_is_the_least_value_that_so_many_of_a_hundred_do_not_exceed(percent: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_the_99th_percentile_of_a_few_values_is_the_greatest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 99)


def test_a_ratio_to_nothing_is_infinite() -> None:
    assert (ratio(3, 2), ratio(3, 0)) == (1.5, math.inf)


def test_cpu_is_that_of_all_processes_for_each_run() -> None:
    assert cost().ms == pytest.approx(50)
    assert cost().each(cost().cpu) == pytest.approx({"etcd": 0.01, "operator": 0.04})


def test_the_time_to_a_job_is_told_in_milliseconds() -> None:
    assert replace(cost(), to_job=[0.001, 0.002, 0.25]).to_job_ms(99) == 250


def test_the_line_of_json_has_exactly_its_keys_and_null_where_nothing_was_measured() -> None:
    figures = Figures()
    figures.note_lines(cost(), cost(cpu={"all": 1.0}, asked=47), cost(cpu={"all": 1.6666}, asked=62))
    line = figures.line()
    assert "\n" not in line
    assert list(json.loads(line)) == KEYS
    assert list(json.loads(line).values()) == [50.0, 2.0, 4.7, 3.33, 6.2, None, None]


def test_a_call_that_measures_no_lines_says_null_for_them() -> None:
    assert set(json.loads(Figures(p99_ms=31.234).line()).values()) == {None, 31.23}


def test_the_line_of_json_is_the_last_that_a_call_prints(capsys: pytest.CaptureFixture[str]) -> None:
    run_cost.main(["--only", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == dict.fromkeys(KEYS)


def test_the_table_compares_each_line_with_the_first() -> None:
    lines = {"bare Job": cost(), "run": cost(cpu={"etcd": 0.3, "operator": 0.9}, asked=40)}
    assert tables.of_lines(lines).splitlines() == [
        "| CPU, ms each | etcd | operator | all | ratio | requests | of the operator | ended |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        "| bare Job | 10.0 | 40.0 | 50.0 | 1.00 | 0.0 | 0.0 | 10 TRAINED |",
        "| run | 30.0 | 90.0 | 120.0 | 2.40 | 0.0 | 4.0 | 10 TRAINED |",
    ]


def test_a_table_of_requests_has_a_row_for_each_kind_and_their_sum() -> None:
    counts = {"bare Job": {"create pods": 1.0}, "run": {"create pods": 1.0, "get jobs": 2.5}}
    assert tables.of_requests("requests", counts).splitlines()[2:] == [
        "| create pods | 1.0 | 1.0 |",
        "| get jobs | 0.0 | 2.5 |",
        "| all | 1.0 | 3.5 |",
    ]
