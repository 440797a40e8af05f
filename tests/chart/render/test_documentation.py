"""Every command and every file of values that the documentation shows for Helm works."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from docs_text import Fence, fences
from harness.helm import Helm, environment, of_kind

VALUES = [fence for fence in fences("yaml") if fence.text.startswith("# values")]
VERBS = {"install", "upgrade", "rollback", "uninstall", "test", "package"}


def commands() -> list[tuple[str, list[str]]]:
    lines = [(str(fence), line) for fence in fences("sh") for line in fence.text.splitlines()]
    return [(where, shlex.split(line, comments=True)) for where, line in lines if line.startswith("helm ")]


@pytest.mark.parametrize("fence", VALUES, ids=str)
def test_values_that_are_shown_are_taken(helm: Helm, fence: Fence) -> None:
    values: dict[str, Any] = yaml.safe_load(fence.text)
    for switch in values.get("monitoring", {}):
        values["monitoring"][switch] |= {"enabled": switch == "serviceMonitor"}
    assert helm.template(values, namespace="team-a")


def test_the_values_of_a_team_leave_nothing_outside_of_namespaces(helm4: Helm) -> None:
    [fence] = [fence for fence in VALUES if fence.text.startswith("# values-team.yaml")]
    made = helm4.template(yaml.safe_load(fence.text), namespace="team-a", hooks=True)
    assert all("namespace" in one["metadata"] for one in made)
    assert environment(made)["CHORUS_WATCH_NAMESPACES"] == "team-a,team-a-experiments"
    assert not of_kind(made, "CustomResourceDefinition")


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_that_are_shown_have_verbs_and_flags_that_there_are(helm: Helm, where: str, words: list[str]) -> None:
    verb = words[1]
    assert verb in VERBS, where
    told = helm.help(verb)
    known = set(re.findall(r"--[a-z-]+", told))
    for word in words[2:]:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"{where}: helm {verb} has no {word}"
    if "--set" in words:
        name, _, value = words[words.index("--set") + 1].partition("=")
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        assert helm.template(nested), where


def test_the_documentation_shows_each_verb_but_package() -> None:
    assert {words[1] for _, words in commands()} == VERBS - {"package"}
