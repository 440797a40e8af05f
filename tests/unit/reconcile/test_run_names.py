"""Names of automatic runs: a name that another run has is passed over, and every Project gets its runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chorus_kube.resources import TRAINING_RUNS
from chorus_operator.decisions.project.decide import NAMES_TRIED
from fakes import Call
from unit_manifests import plugin, project, run
from world import Killed, World

SOFT = {"name": "soft"}


def entry(name: str) -> dict[str, Any]:
    return {"name": name, "pluginRef": SOFT}


def another(name: str) -> dict[str, Any]:
    """A run that some other Project's user made."""
    return run(name) | {"spec": {"projectRef": {"name": "another"}, "plugin": "soft"}}


def row(world: World, name: str = "home") -> dict[str, Any]:
    """The first row of a Project."""
    first: dict[str, Any] = world.project(name)["status"]["plugins"][0]
    return first


def made_for(world: World, name: str) -> list[str]:
    """Name the automatic runs of a Project."""
    runs = [each for each in world.kube.all(TRAINING_RUNS) if each["spec"]["projectRef"]["name"] == name]
    return sorted(each["metadata"]["name"] for each in runs if each["spec"].get("triggeredBy") == "chorus")


def test_two_projects_whose_runs_would_have_one_name_each_make_theirs() -> None:
    world = World()
    world.put(plugin(), project("a-b", plugins=[entry("c")]))
    world.frame_ready("a-b")
    world.put(project("a", plugins=[entry("b-c")]))
    world.frame_ready("a")
    assert (made_for(world, "a-b"), made_for(world, "a")) == (["a-b-c-1"], ["a-b-c-2"])
    assert (row(world, "a")["run"], row(world, "a")["sequence"]) == ("a-b-c-2", 2)
    world.train_to_the_end("a-b-c-2")
    assert world.project("a")["status"]["phase"] == "TRAINED"


def test_a_name_that_another_entry_of_the_project_has_is_passed_over() -> None:
    world = World()
    world.put(plugin(), project(plugins=[entry("other"), entry("soft")], trainOn="Manual"))
    world.frame_ready()
    world.put(run("home-soft-1", plugin="other"))
    world.put(project(plugins=[entry("other"), entry("soft")]))
    assert "home-soft-2" in made_for(world, "home")


@pytest.mark.parametrize("tail", ["99999999999999999999", "12345678", "1" * 30])
def test_a_run_that_a_user_numbers_out_of_all_measure_does_not_break_the_count(tail: str) -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    world.put(run(f"home-soft-{tail}"))
    assert row(world)["sequence"] == 0
    world.put(project())
    assert made_for(world, "home") == ["home-soft-1"]


def test_a_count_that_an_older_version_took_from_such_a_run_is_forgotten() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    stored = world.project()
    stored["status"]["plugins"][0]["sequence"] = 10**18
    world.kube.put(stored)
    world.put(project())
    assert made_for(world, "home") == ["home-soft-1"]


@pytest.mark.parametrize("count", [NAMES_TRIED - 1, NAMES_TRIED, 2 * NAMES_TRIED + 3])
def test_names_are_tried_a_few_at_a_time_until_one_is_free(count: int) -> None:
    world = World()
    for number in range(1, count + 1):
        world.kube.put(another(f"home-soft-{number}"))
    world.put(plugin(), project())
    world.frame_ready()
    for _ in range(2 + count // NAMES_TRIED):
        world.later(2)
    assert made_for(world, "home") == [f"home-soft-{count + 1}"]


def test_while_all_names_that_were_tried_are_taken_the_row_says_so_and_the_trigger_stands() -> None:
    world = World()
    for number in range(1, 10 * NAMES_TRIED):
        world.kube.put(another(f"home-soft-{number}"))
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    seen: list[dict[str, Any]] = []

    def after(call: Call) -> None:
        if (call.verb, call.kind) == ("patch_status", "Project"):
            seen.append(row(world))

    world.kube.after = after
    world.put(project())
    waiting = [each for each in seen if each.get("reason") == "NameTaken"]
    assert len(waiting) >= 9
    assert not any("triggerKey" in each for each in waiting)
    assert "home-soft-1 to home-soft-20" in waiting[0]["message"]
    assert made_for(world, "home") == [f"home-soft-{10 * NAMES_TRIED}"]


def test_a_run_that_takes_the_name_at_the_last_moment_only_costs_a_number() -> None:
    world = World()
    left = iter([True])

    def before(call: Call) -> None:
        if (call.verb, call.kind) == ("create", "TrainingRun") and next(left, False):
            world.kube.put(another(call.name))

    world.kube.before = before
    world.put(plugin(), project())
    world.frame_ready()
    assert made_for(world, "home") == ["home-soft-2"]


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("verb", ["create", "patch_status"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_operator_that_ends_between_making_a_run_and_writing_so_makes_one(verb: str, when: str, taken: int) -> None:
    world = World()
    for number in range(1, taken + 1):
        world.kube.put(another(f"home-soft-{number}"))
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready()
    left = iter(range(taken + 2))

    def hook(call: Call) -> None:
        if (call.verb, call.kind) in (("create", "TrainingRun"), ("patch_status", "Project")) and call.verb == verb:
            if next(left, None) is not None:
                raise Killed

    setattr(world.kube, when, hook)
    world.put(project())
    assert made_for(world, "home") == [f"home-soft-{taken + 1}"]
    assert row(world)["run"] == f"home-soft-{taken + 1}"


LABELS = st.lists(st.sampled_from("ab1"), min_size=1, max_size=3).map("-".join)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    projects=st.dictionaries(LABELS, st.lists(LABELS, min_size=1, max_size=3, unique=True), min_size=2, max_size=2),
    by_hand=st.lists(st.tuples(LABELS, st.integers(1, 3)), max_size=2),
)
def test_any_two_projects_and_plugins_of_a_namespace_each_make_their_runs(
    projects: dict[str, list[str]], by_hand: list[tuple[str, int]]
) -> None:
    world = World()
    for name, number in by_hand:
        world.kube.put(another(f"{name}-{number}"))
    world.put(plugin())
    for name, entries in projects.items():
        world.put(project(name, plugins=[entry(each) for each in entries]))
        world.frame_ready(name)
    for name, entries in projects.items():
        rows = {each["name"]: each for each in world.project(name)["status"]["plugins"]}
        assert rows.keys() == set(entries)
        runs = [world.run(each["run"]) for each in rows.values()]
        assert [each["spec"]["projectRef"]["name"] for each in runs] == [name] * len(entries)
        assert sorted(each["spec"]["plugin"] for each in runs) == sorted(entries)
        assert len(made_for(world, name)) == len(entries)
