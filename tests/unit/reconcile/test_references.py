"""References that lead nowhere: the name that was meant, and what was deleted and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chorus_kube.errors import Forbidden
from fakes import Call
from unit_manifests import plugin, project, run
from world import START, World, frame, iso

GONE = START + timedelta(hours=1)
ENTRIES = [
    {"name": "a", "pluginRef": {"name": "m1"}},
    {"name": "b", "pluginRef": {"name": "m2"}},
]
DELETED = "Plugin 'm2', which spec.plugins[1] of Project 'home' names, was deleted at 2026-01-01T13:00:00Z"


def status(world: World, name: str = "mine") -> dict[str, Any]:
    return dict(world.run(name)["status"])


def condition(world: World, kind: str, name: str = "mine") -> dict[str, Any] | None:
    return next((each for each in status(world, name)["conditions"] if each["type"] == kind), None)


def row(world: World, name: str) -> dict[str, Any]:
    return next(dict(each) for each in world.project()["status"]["plugins"] if each["name"] == name)


def delete(world: World, *keys: tuple[str, str]) -> None:
    for kind, name in keys:
        world.kube.objects.pop((kind, "default", name))
    world.settle()


def told(world: World, name: str = "mine") -> list[str]:
    return [f"{reason}: {message}" for about, reason, message in world.kube.events if about == name]


@pytest.fixture
def queued() -> World:
    """A run of a Project's second entry that has waited for an hour, behind one that trains."""
    world = World()
    world.put(plugin("m1"), plugin("m2"), project(plugins=ENTRIES, trainOn="Manual"))
    world.frame_ready()
    world.put(run("first", plugin="b"))
    world.put(run("mine", plugin="b"))
    assert (world.phase("mine"), status(world)["reason"]) == ("queued", "Queued")
    world.pod_trains("first")
    world.now = world.operator_since = GONE
    world.settle()
    assert (world.phase("mine"), status(world)["reason"]) == ("queued", "Queued")
    return world


# Did you mean


@pytest.mark.parametrize(
    ("manifests", "spec", "words"),
    [
        ([project()], {"projectRef": {"name": "hom"}}, "a run that names another; did you mean 'home'?"),
        ([project()], {"plugin": "sofd"}, "it has soft; did you mean 'soft'?"),
        ([project(plugins=[{"name": "soft", "pluginRef": {"name": "sofft"}}])], {}, "did you mean 'soft'?"),
        ([project()], {"projectRef": {"name": "quite-different"}}, "a run that names another."),
    ],
)
def test_a_run_with_a_typo_says_what_was_meant(
    manifests: list[dict[str, Any]], spec: dict[str, Any], words: str
) -> None:
    world = World()
    world.put(plugin("soft"), *manifests, run("mine", **spec))
    assert status(world)["message"].endswith(words)
    world.later(61)
    assert world.phase("mine") == "failed"
    assert status(world)["message"].endswith(words)


def test_a_run_that_is_to_be_resumed_is_suggested_if_it_can_be() -> None:
    world = World()
    world.put(plugin(), project(trainOn="Manual"))
    world.frame_ready(result=frame())
    world.put(run("winter"))
    world.train_to_the_end("winter")
    world.put(run("winters", cancel=True))
    world.put(run("mine", resumeFrom={"run": "wintert"}))
    assert status(world)["reason"] == "ResumeRunNotFound"
    assert status(world)["message"].endswith("a TRAINED run of Project 'home'; did you mean 'winter'?")


def test_a_project_with_a_typo_says_which_plugin_was_meant() -> None:
    world = World()
    world.put(plugin("flan-t5-small"), project(plugins=[{"name": "soft", "pluginRef": {"name": "flan-t5-smal"}}]))
    assert row(world, "soft")["message"].endswith("in this namespace; create it; did you mean 'flan-t5-small'?")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"storage": {"claimName": "model"}}, "spec.storage.claimName: there is no PersistentVolumeClaim 'model'"),
        (
            {"dataset": {"source": {"volume": {"claimName": "modells", "path": "a.csv"}}}},
            "spec.dataset.source.volume.claimName: there is no PersistentVolumeClaim 'modells'",
        ),
    ],
)
def test_a_claim_with_a_typo_says_which_was_meant(spec: dict[str, Any], words: str) -> None:
    world = World(claims=("models",))
    world.put(plugin(), project(**spec))
    message = world.project()["status"]["message"]
    assert message.startswith(words)
    assert message.endswith("create it; did you mean 'models'?")


def test_a_key_of_a_config_map_with_a_typo_says_which_was_meant_and_the_name_of_a_config_map_does_not() -> None:
    world = World()
    world.kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"rooms.csv": "a"}})
    world.put(plugin(), project(dataset={"source": {"configMap": {"name": "rows", "key": "room.csv"}}}))
    assert world.project()["status"]["message"].endswith("it has rooms.csv; did you mean 'rooms.csv'?")
    world.put(project(dataset={"source": {"configMap": {"name": "row", "key": "rooms.csv"}}}))
    assert world.project()["status"]["message"].endswith("there is no ConfigMap 'row' in this namespace; create it.")
    assert Call("list", "ConfigMap") not in world.kube.calls


def test_the_claim_of_a_base_model_with_a_typo_says_which_was_meant() -> None:
    world = World(claims=("model",))
    world.put(plugin(), project())
    world.frame_ready()
    assert status(world, "home-soft-1")["message"].endswith("create it; did you mean 'model'?")


def test_names_are_listed_only_while_one_is_missing() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    listed = {call.kind for call in world.kube.calls if call.verb == "list"}
    assert listed.isdisjoint({"Project", "Plugin"})


def test_without_the_right_to_list_the_message_has_no_suggestion() -> None:
    world = World()

    def refuse(call: Call) -> None:
        if call == Call("list", "Project"):
            raise Forbidden("projects is forbidden", status=403, reason="Forbidden")

    world.kube.before = refuse
    world.put(plugin(), project(), run("mine", projectRef={"name": "hom"}))
    assert Call("list", "Project") in world.kube.calls
    assert status(world)["message"].endswith("create it, or a run that names another.")
    assert world.phase("mine") == "queued"


# Deleted


def test_a_run_whose_plugin_is_deleted_while_it_is_queued_says_so_and_when(queued: World) -> None:
    delete(queued, ("Plugin", "m2"))
    message = f"{DELETED} while this run was queued; create it within 60 s, or make a new run later."
    assert (queued.phase("mine"), status(queued)["reason"], status(queued)["message"]) == (
        "queued",
        "PluginNotFound",
        message,
    )
    blocked = condition(queued, "Blocked")
    assert blocked is not None
    assert (blocked["status"], blocked["reason"], blocked["lastTransitionTime"]) == (
        "True",
        "PluginNotFound",
        iso(GONE),
    )
    assert told(queued) == [f"PluginNotFound: {message}"]
    assert row(queued, "b")["message"] == f"{DELETED}; create it."


def test_it_fails_a_minute_later_and_its_message_still_says_what_was_deleted_and_when(queued: World) -> None:
    delete(queued, ("Plugin", "m2"))
    queued.later(59)
    assert queued.phase("mine") == "queued"
    assert status(queued)["message"].startswith(DELETED)
    queued.later(1)
    assert (queued.phase("mine"), status(queued)["reason"]) == ("failed", "PluginNotFound")
    wanted = f"{DELETED} while this run was queued, and was not there again within 60 s; create it and make a new run."
    assert status(queued)["message"] == wanted
    assert told(queued)[-1] == f"PluginNotFound: {wanted}"
    assert row(queued, "b")["message"] == f"{DELETED}; create it."


def test_it_goes_on_when_the_plugin_is_back_in_time(queued: World) -> None:
    delete(queued, ("Plugin", "m2"))
    queued.later(50)
    queued.put(plugin("m2"))
    assert condition(queued, "Blocked") is None
    assert (queued.phase("mine"), status(queued)["reason"]) == ("queued", "Queued")
    assert row(queued, "b")["reason"] != "PluginNotFound"
    queued.later(600)
    queued.train_to_the_end("first")
    queued.train_to_the_end("mine")
    assert queued.phase("mine") == "TRAINED"


def test_another_deletion_has_its_own_minute(queued: World) -> None:
    delete(queued, ("Plugin", "m2"))
    queued.later(50)
    queued.put(plugin("m2"))
    queued.later(50)
    delete(queued, ("Plugin", "m2"))
    assert "was deleted at 2026-01-01T13:01:40Z" in status(queued)["message"]
    assert "was deleted at 2026-01-01T13:01:40Z" in row(queued, "b")["message"]
    queued.later(59)
    assert queued.phase("mine") == "queued"
    queued.later(1)
    assert queued.phase("mine") == "failed"


def test_an_entry_that_is_removed_is_told_as_removed(queued: World) -> None:
    queued.put(project(plugins=ENTRIES[:1], trainOn="Manual"))
    assert status(queued)["message"] == (
        "Entry 'b' of spec.plugins of Project 'home', which spec.plugin names, was removed at 2026-01-01T13:00:00Z "
        "while this run was queued; add it again within 60 s, or make a new run later."
    )
    queued.put(project(plugins=ENTRIES, trainOn="Manual"))
    assert status(queued)["reason"] == "Queued"
    assert condition(queued, "Blocked") is None


def test_a_project_that_is_deleted_is_told_to_queued_runs_and_to_those_that_train(queued: World) -> None:
    delete(queued, ("Project", "home"))
    what = "Project 'home', which spec.projectRef.name names, was deleted at 2026-01-01T13:00:00Z"
    assert status(queued)["message"] == (
        f"{what} while this run was queued; create it within 60 s, or make a new run later."
    )
    assert (queued.phase("first"), status(queued, "first")["reason"]) == ("failed", "ProjectNotFound")
    assert status(queued, "first")["message"] == f"{what}, after this run was accepted; create it and make a new run."
    queued.later(61)
    assert queued.phase("mine") == "failed"
    assert status(queued)["message"].startswith(what)


def test_what_is_lost_next_has_a_minute_of_its_own(queued: World) -> None:
    delete(queued, ("Plugin", "m2"))
    queued.later(40)
    delete(queued, ("Project", "home"))
    queued.later(40)
    assert queued.phase("mine") == "queued"
    assert (
        "Project 'home', which spec.projectRef.name names, was deleted at 2026-01-01T13:00:40Z"
        in (status(queued)["message"])
    )


def test_a_plugin_that_an_edit_of_the_project_misspells_was_not_deleted(queued: World) -> None:
    entries = [ENTRIES[0], {"name": "b", "pluginRef": {"name": "mm2"}}]
    queued.put(project(plugins=entries, trainOn="Manual"))
    for message in (status(queued)["message"], row(queued, "b")["message"]):
        assert message.endswith("there is no Plugin 'mm2' in this namespace; create it; did you mean 'm2'?")
    assert queued.phase("mine") == "queued", "it has a minute from the edit"
    queued.later(61)
    assert queued.phase("mine") == "failed"


def test_a_run_that_an_older_version_queued_has_its_minute_from_when_it_is_noticed(queued: World) -> None:
    stored = queued.run("mine")
    del stored["status"]["plugin"]
    queued.kube.put(stored)
    queued.kube.objects.pop(("Plugin", "default", "m2"))
    queued.settle()
    assert "there is no Plugin 'm2' in this namespace" in status(queued)["message"]
    queued.later(59)
    assert queued.phase("mine") == "queued"
    queued.later(1)
    assert queued.phase("mine") == "failed"


def test_a_plugin_that_is_deleted_while_nothing_is_queued_is_told_by_the_project_alone() -> None:
    world = World()
    world.put(plugin(), project())
    world.frame_ready()
    world.train_to_the_end("home-soft-1")
    world.later(60)
    delete(world, ("Plugin", "soft"))
    what = "Plugin 'soft', which spec.plugins[0] of Project 'home' names, was deleted at 2026-01-01T12:01:00Z"
    assert row(world, "soft")["message"] == f"{what}; create it."
    world.later(600)
    assert row(world, "soft")["message"] == f"{what}; create it."
    assert world.phase("home-soft-1") == "TRAINED"


def test_a_plugin_that_this_version_cannot_read_is_not_called_missing() -> None:
    world = World()
    world.put(plugin(), project())
    world.put(plugin(type="newer"))
    assert (row(world, "soft")["reason"], "cannot be read" in row(world, "soft")["message"]) == ("InvalidSpec", True)
