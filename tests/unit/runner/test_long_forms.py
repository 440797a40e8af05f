"""Long forms: the tests marked `chaos` of every tier that has some, each with a time limit of its own."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from docs_text import REPOSITORY
from runner.tiers import CHAOS, TIERS, Tier, asked_for

SUPPORT = REPOSITORY / "tests" / "support"
LONG = [name for name, tier in TIERS.items() if tier.long is not None]


@functools.cache
def marks(path: Path) -> bool:
    """Whether a module marks tests as long, by itself or by what it imports of tests/support."""
    text = path.read_text(encoding="utf-8")
    if CHAOS in text and any(_is_mark(node) for node in ast.walk(ast.parse(text))):
        return True
    imported = re.findall(r"^from ([\w.]+) import", text, flags=re.MULTILINE)
    modules = [SUPPORT / f"{name.replace('.', '/')}.py" for name in imported]
    return any(marks(module) for module in modules if module.exists())


def _is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == CHAOS and isinstance(node.value, ast.Attribute)


def has_long_tests(directory: Path) -> bool:
    return any(marks(path) for path in directory.rglob("*.py"))


@pytest.mark.parametrize("tier", [tier for tier in TIERS.values() if tier.name != "lint"], ids=lambda tier: tier.name)
def test_a_tier_has_a_long_form_exactly_if_some_of_its_tests_are_marked(tier: Tier) -> None:
    assert (tier.long is not None) == has_long_tests(REPOSITORY / tier.path), f"tests/runner/tiers.py: {tier.name}"


def test_every_marked_test_is_in_a_tier() -> None:
    marked = [path for path in (REPOSITORY / "tests").rglob("test_*.py") if marks(path)]
    within = [path for path in marked if any(REPOSITORY / TIERS[name].path in path.parents for name in LONG)]
    assert marked
    assert within == marked


def test_a_mark_that_is_only_spoken_of_is_none(tmp_path: Path) -> None:
    module = tmp_path / "test_words.py"
    module.write_text('"""Marked pytest.mark.chaos."""\n\nWORDS = "pytest.mark.chaos"\n')
    assert not marks(module)


def test_a_mark_from_a_module_of_the_support_counts(tmp_path: Path) -> None:
    module = tmp_path / "test_broken.py"
    module.write_text("from broken_story import Story, thinned\n")
    assert marks(module)


def test_chaos_alone_asks_for_the_long_form_of_every_tier_that_has_one() -> None:
    tiers = asked_for(["chaos"])
    assert [tier.name for tier in tiers] == LONG
    assert all(tier.options[-2:] == ("-m", "chaos") for tier in tiers)


def test_a_long_form_has_the_time_limit_of_its_own_and_the_needs_of_its_tier() -> None:
    [tier] = asked_for(["chaos", "api"])
    ordinary = TIERS["api"]
    assert ordinary.long is not None
    assert (tier.deadline, tier.share) == (ordinary.long.deadline, ordinary.long.share)
    assert tier.deadline > ordinary.deadline
    assert (tier.needs, tier.path) == (ordinary.needs, ordinary.path)


def test_a_tier_without_a_long_form_is_refused() -> None:
    with pytest.raises(SystemExit, match="no test of the tier trainer is marked chaos"):
        asked_for(["chaos", "trainer"])


def test_without_chaos_tiers_are_as_they_are() -> None:
    assert asked_for(["api", "unit"]) == [TIERS["unit"], TIERS["api"]]
