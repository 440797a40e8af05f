"""The parts that need no plugin: frames, parameters, verdicts about containers, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from chorus_conformance.errors import CannotCheck
from chorus_conformance.frames import (
    ROWS,
    Source,
    read_source,
    suited_source,
    tabular,
    texts,
    unsuited_source,
    write_frame_files,
)
from chorus_conformance.judge_report import report_problems
from chorus_conformance.observed import Evidence, Observation, Scenario
from chorus_conformance.parameters import UNKNOWN, bad_value, resolved, unknown_name
from chorus_conformance.report import as_json, as_text
from chorus_conformance.rule import Failed, Passed, Skipped, judge
from chorus_conformance.rulebook import RULES
from chorus_protocol.messages import OnlineReport


def report(**fields: Any) -> OnlineReport:
    return OnlineReport.model_validate(fields)


def with_schema(required: tuple[str, ...] = (), **properties: Any) -> OnlineReport:
    return report(parameters_schema={"properties": properties, "required": list(required)})


def verdict(rule: str, evidence: Evidence) -> Any:
    return next(each.verdict for each in judge(RULES, evidence) if each.rule.id == rule)


def ended(code: int | None = 0, **fields: Any) -> Observation:
    return Observation(exit_code=code, seconds=1.0, **fields)


def container(**scenarios: Observation) -> Evidence:
    return Evidence({Scenario(name): seen for name, seen in scenarios.items()}, is_container=True)


def test_a_plugin_that_needs_prompts_gets_texts_and_one_that_needs_nothing_a_table() -> None:
    assert suited_source(report(needed_columns=["prompt"]), own=None, info={}).name == "texts"
    assert suited_source(None, own=None, info={}).name == "tabular"


def test_what_only_the_author_has_is_asked_for_with_the_option_that_gives_it() -> None:
    with pytest.raises(CannotCheck, match="lacks column age, info unit") as refused:
        suited_source(report(needed_columns=["age"], needed_info=["unit"]), own=None, info={})
    assert "--frame" in refused.value.hint
    own = Source("mine.csv", ["age"], [[number] for number in range(30)])
    needs = report(needed_columns=["age"], needed_info=["unit"])
    assert suited_source(needs, own=own, info={"unit": "year"}).info == {"unit": "year"}


def test_a_frame_has_twice_the_rows_that_are_needed() -> None:
    assert len(suited_source(report(min_rows=500), own=None, info={}).rows) == 1000
    with pytest.raises(CannotCheck, match="too many to make up"):
        suited_source(report(min_rows=1_000_000), own=None, info={})


@pytest.mark.parametrize(
    ("needs", "lacking"),
    [
        ({"needed_columns": ["island"]}, lambda source: "island" not in source.columns),
        ({"needed_info": ["outcome"]}, lambda source: "outcome" not in source.info),
        ({"min_rows": 50}, lambda source: len(source.rows) < 50),
    ],
)
def test_a_frame_that_does_not_suit_lacks_one_thing(needs: dict[str, Any], lacking: Any) -> None:
    made = unsuited_source(report(**needs), tabular())
    assert made is not None
    assert lacking(made)


def test_nothing_can_be_lacking_where_nothing_is_needed() -> None:
    assert unsuited_source(report(), tabular()) is None
    assert unsuited_source(None, tabular()) is None


@pytest.mark.parametrize("source", [tabular(), texts()], ids=["tabular", "texts"])
def test_made_data_becomes_a_frame_with_rows_for_training_and_evaluation(source: Source, tmp_path: Path) -> None:
    target = tmp_path / "frame"
    target.mkdir()
    manifest = write_frame_files(source, scratch=tmp_path / "scratch", target=target, frame_format="parquet")
    assert manifest.rows + manifest.eval_rows == ROWS
    assert manifest.eval_rows > 5
    assert pq.read_table(target / "train.parquet").num_rows == manifest.rows
    assert {column.name for column in manifest.columns} == set(source.columns)


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read"), (b"a,b\n", "no rows"), (b"\xff\xfe\n1", "read")]
)
def test_a_frame_of_the_author_that_is_none_is_refused_by_name(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CannotCheck, match=told) as refused:
        read_source(file, {})
    assert "--frame" in str(refused.value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 1}, 0),
        ({"type": "integer", "maximum": 9}, 10),
        ({"type": "integer"}, "chorus-check"),
        ({"type": "string", "enum": ["a", "b"]}, "chorus-check"),
        ({"type": "string", "maxLength": 3}, "xxxx"),
    ],
)
def test_a_bad_value_is_one_that_the_schema_forbids(schema: dict[str, Any], value: int | str) -> None:
    bad = bad_value(with_schema(steps=schema))
    assert bad is not None
    assert (bad.name, bad.value) == ("steps", value)


def test_without_a_schema_a_text_stands_where_the_default_is_an_integer() -> None:
    bad = bad_value(report(parameters={"solver": "saga", "steps": 5}))
    assert bad is not None
    assert (bad.name, bad.value) == ("steps", "chorus-check")
    assert bad_value(report(parameters={"solver": "saga"})) is None


def test_a_name_is_unknown_only_where_names_are_declared() -> None:
    found = unknown_name(report(parameters={"steps": 1}))
    assert found is not None
    assert found.name == UNKNOWN
    assert unknown_name(report()) is None


def test_given_parameters_win_over_defaults() -> None:
    declared = OnlineReport.model_validate(
        {"parameters": {"b": 2}, "parameters_schema": {"properties": {"a": {"type": "integer", "default": 1}}}}
    )
    assert resolved(declared, {"b": 3}) == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (report(needed_columns=["a", "a"]), "needed_columns names 'a' twice"),
        (report(needed_info=[" "]), "needed_info holds an empty name"),
        (with_schema(("seed",)), "requires 'seed'"),
        (with_schema(n={"type": "integer", "minimum": 2, "maximum": 1}), "minimum 2 is above maximum 1"),
        (with_schema(n={"type": "string", "enum": ["a"], "default": "b"}), "one of 'a'"),
        (with_schema(n={"type": "integer", "default": "b"}), "type integer"),
    ],
)
def test_a_report_that_disagrees_with_itself_is_told_where(said: OnlineReport, problem: str) -> None:
    assert any(problem in each for each in report_problems(said)), report_problems(said)


def test_a_process_that_makes_the_paths_of_a_pod_on_this_machine_breaks_the_rule_about_paths() -> None:
    evidence = Evidence({Scenario.TRAIN: ended()}, contract_paths_appeared=("/chorus",))
    assert verdict("C102", evidence) == Failed("it made /chorus on this machine")


def test_a_container_that_ends_well_only_without_limits_breaks_the_rule_about_them() -> None:
    evidence = container(train=ended(1, output="Read-only file system: '/app/cache'"), unconfined=ended(0))
    broken = verdict("C103", evidence)
    assert isinstance(broken, Failed)
    assert "Read-only file system" in broken.seen
    assert verdict("C401", evidence) == Skipped("mend C103 first", blocked=True)


def test_a_container_that_never_ends_well_is_told_so_by_the_rule_about_trainings() -> None:
    evidence = container(train=ended(1), unconfined=ended(1))
    assert isinstance(verdict("C103", evidence), Skipped)
    assert isinstance(verdict("C401", evidence), Failed)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (b'{"outcome": "great"}', "outcome"),
        (b"done", "JSON"),
        (b'{"outcome": "failed"}', "its outcome is failed"),
        (b'{"outcome": "succeeded", "message": "' + b"x" * 2048 + b'"}', "bytes"),
    ],
)
def test_a_last_word_that_cannot_be_read_breaks_its_rule(record: bytes, told: str) -> None:
    broken = verdict("C407", container(train=ended(termination=record)))
    assert isinstance(broken, Failed)
    assert told in broken.seen


def test_a_good_last_word_keeps_its_rule() -> None:
    assert verdict("C407", container(train=ended(termination=b'{"outcome": "succeeded"}'))) == Passed()


def test_the_text_says_what_was_seen_what_was_expected_and_how_to_mend_it() -> None:
    results = judge(RULES, Evidence({Scenario.TRAIN: ended(3, output="Traceback\nKeyError: 'x'")}))
    text = as_text(results, target="here")
    assert "C401  FAIL  a training ends well\n" in text
    for part in ("exit code 3", "KeyError: 'x'", "expected: exit code 0", "mend:", "docs/plugin-check.md#c4"):
        assert part in text
    assert text.endswith(" failed, " + f"{sum(isinstance(each.verdict, Skipped) for each in results)} skipped\n")
    assert max(map(len, text.splitlines())) <= 320


def test_the_json_holds_every_rule_with_its_result() -> None:
    results = judge(RULES, Evidence({Scenario.TRAIN: ended(3)}))
    document = json.loads(as_json(results, target="here"))
    assert [each["id"] for each in document["rules"]] == [rule.id for rule in RULES]
    assert document["failed"] == sum(each["result"] == "fail" for each in document["rules"]) == 1
    [broken] = [each for each in document["rules"] if each["result"] == "fail"]
    assert broken.keys() == {"id", "title", "result", "seen", "expected", "mend", "more"}
