"""docs/plugin-check.md says what the code does: every rule word by word, every option, every scenario."""

from __future__ import annotations

import argparse

from chorus_conformance.command import add_arguments
from chorus_conformance.observed import Scenario
from chorus_conformance.rule import Rule
from chorus_conformance.rulebook import RULES
from chorus_conformance.service_rulebook import SERVICE_RULES
from docs_text import REPOSITORY, anchors, codes, rows

PAGE = REPOSITORY / "docs" / "plugin-check.md"


def as_row(rule: Rule) -> tuple[str, ...]:
    return f"`{rule.id}`", rule.title, rule.expected, rule.mend


def test_every_rule_is_in_the_tables_word_by_word() -> None:
    told = [tuple(row) for row in rows(PAGE, heading="rule", columns=4)]
    own = [rule for rule in SERVICE_RULES if rule.id.startswith("S")]
    assert told == [as_row(rule) for rule in (*sorted(RULES, key=lambda rule: rule.id), *own)]


def test_what_services_are_told_in_other_words_is_in_a_table_of_its_own() -> None:
    told = [tuple(row) for row in rows(PAGE, heading="rule of services", columns=4)]
    plain = {as_row(rule) for rule in RULES}
    other = [rule for rule in SERVICE_RULES if not rule.id.startswith("S") and as_row(rule) not in plain]
    assert told == [as_row(rule) for rule in sorted(other, key=lambda rule: rule.id)]


def test_where_a_broken_rule_points_to_is_there() -> None:
    for rule in (*RULES, *SERVICE_RULES):
        page, _, anchor = rule.more.partition("#")
        assert REPOSITORY / page == PAGE
        assert anchor in anchors(PAGE), rule.more


def test_every_option_is_explained() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    known = [option for action in parser._actions for option in action.option_strings]
    told = [code for row in rows(PAGE, heading="option", columns=2) for code in codes(row[0])]
    assert sorted(told) == sorted(known)


def test_every_scenario_is_explained() -> None:
    told = [code for row in rows(PAGE, heading="scenario", columns=2) for code in codes(row[0])]
    assert told == [each.value for each in Scenario]


def test_a_rule_comes_behind_those_that_it_depends_on() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert all(name in ids[: ids.index(rule.id)] for name in rule.after), rule.id
