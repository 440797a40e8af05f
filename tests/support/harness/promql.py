"""Prometheus's own promtool as a judge: rules that are checked, and expressions evaluated over given samples."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from harness.binaries import promtool

TARGET = {"job": "chorus-operator", "namespace": "chorus-system", "instance": "10.0.0.1:8080", "pod": "operator-1"}
"""Labels that Prometheus gives to all that it reads of a target."""
SECONDS = 60

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Expectation:
    """That an expression over the samples gives exactly so many series, `minutes` after the first sample."""

    expr: str
    minutes: int
    series: int
    why: str

    def as_test(self) -> dict[str, object]:
        """Write it as promtool reads it."""
        expected = [{"labels": "{}", "value": self.series}] if self.series else []
        return {"expr": f"count({self.expr})", "eval_time": f"{self.minutes}m", "exp_samples": expected}


def read(page: str) -> dict[tuple[str, Labels], float]:
    """Read what /metrics answers: the value of each series."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def selector(name: str, labels: Mapping[str, str]) -> str:
    """Write the name of one series."""
    return name + "{" + ",".join(f"{key}={json.dumps(value)}" for key, value in labels.items()) + "}"


def as_series(pages: Sequence[str]) -> dict[str, str]:
    """Turn pages that were read one after another into series, one sample a minute."""
    read_pages = [read(page) for page in pages]
    names = {name: None for page in read_pages for name in page}
    return {
        selector(name, dict(labels) | TARGET): " ".join(
            "_" if (name, labels) not in page else f"{page[name, labels]:.9f}" for page in read_pages
        )
        for name, labels in names
    }


def check_rules(file: Path) -> None:
    """Have promtool check a file of rules; AssertionError with what it says."""
    done = subprocess.run(
        [promtool(), "check", "rules", "--lint=all", "--lint-fatal", file],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def evaluate(
    groups: Iterable[tuple[Mapping[str, str], Sequence[Expectation]]], *, directory: Path, rules: Sequence[Path] = ()
) -> None:
    """Have promtool evaluate each group of expectations over its series; AssertionError names those that fail."""
    tests, why = [], {}
    for series, expectations in groups:
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [expectation.as_test() for expectation in expectations],
            }
        )
        why |= {expectation.expr: expectation.why for expectation in expectations}
    file = directory / "tests.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(rule) for rule in rules], "tests": tests}, width=1000), encoding="utf-8"
    )
    done = subprocess.run(
        [promtool(), "test", "rules", file], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    said = done.stdout + done.stderr
    failed = [told for expr, told in why.items() if json.dumps(f"count({expr})") in said]
    assert done.returncode == 0, f"{failed or 'promtool says'}: {said}"[:6000]


def selectors(expr: str) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Find the metrics that an expression names, each with its matchers: label to (operator, value)."""
    found = []
    for name, matchers in re.findall(r"\b((?:chorus|process)_[a-z_]+)(?:\{([^}]*)\})?", expr):
        parsed = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)
        found.append((name, {label: (operator, value) for label, operator, value in parsed}))
    return found


def grouping(expr: str) -> set[str]:
    """Name the labels that an expression groups by."""
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expr) for label in labels.split(",")}
