"""References that lead nowhere, with real deletions: what was deleted and when, or which name was meant, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from builders import make_plugin, make_project, make_run
from harness.apiserver import ControlPlane
from harness.client import Api, Manifest, eventually
from harness.operator_harness import OperatorHarness, operator_harness
from harness.pods import Attempt, by_run
from operator_story import rights_asked

SOON = 15.0
"""Seconds: nothing here waits for the resync, which comes after 300."""
LISTS = {(group, kind, "list") for group, kind in (("chorus.dev", "projects"), ("chorus.dev", "plugins"))}


def make_soft(name: str, namespace: str) -> Manifest:
    return make_plugin(name, namespace=namespace, spec={"lora": {"baseModel": {"uri": "file:///models/tiny"}}})


async def is_told(on: OperatorHarness, kind: str, name: str, fits: Callable[[str], bool], *, what: str) -> str:
    """Wait until an object's message fits, and give it."""

    def message() -> str:
        return str(on.witness.present.get((kind, name), {}).get("status", {}).get("message") or "")

    async def check() -> bool:
        return fits(message())

    await eventually(check, what=f"{name} {what}", seconds=SOON)
    return message()


async def test_a_deleted_plugin_or_project_is_told_to_who_waits_for_it_within_seconds(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    plan = by_run({"first": [Attempt(lingers=True)]})
    async with operator_harness(installed, api, namespace=namespace, plan=plan) as on:
        project = make_project("home", namespace=namespace, plugins=["alpha", "beta"], spec={"trainOn": "Manual"})
        await on.create(make_soft("alpha", namespace), make_soft("beta", namespace), project)
        await on.reaches("Project", "home", "queued")
        await on.create(make_run("first", namespace=namespace, project="home", plugin="beta"))
        await on.reaches("TrainingRun", "first", "TRAINING")
        await on.create(make_run("mine", namespace=namespace, project="home", plugin="beta"))
        await is_told(on, "TrainingRun", "mine", lambda text: "Waiting for its turn" in text, what="is queued")

        before = datetime.now(UTC).replace(microsecond=0)
        await api.delete("Plugin", "beta", namespace=namespace)
        deleted = "Plugin 'beta', which spec.plugins[1] of Project 'home' names, was deleted at "
        message = await is_told(
            on, "TrainingRun", "mine", lambda text: text.startswith(deleted), what="tells of the Plugin"
        )
        when = message.removeprefix(deleted)[:20]
        assert before <= datetime.fromisoformat(when) <= before + timedelta(seconds=SOON)
        assert message.endswith("while this run was queued; create it within 60 s, or make a new run later.")

        async def agree() -> bool:
            rows = on.witness.present["Project", "home"]["status"]["plugins"]
            return bool(rows[1].get("message") == f"{deleted}{when}; create it.")

        await eventually(agree, what="the Project says the same", seconds=SOON)

        async def announced() -> bool:
            events = await api.list("Event", namespace=namespace)
            told = {(each["involvedObject"]["name"], each["reason"], each["message"]) for each in events}
            return ("mine", "PluginNotFound", message) in told

        await eventually(announced, what="an Event says the same", seconds=SOON)
        await on.create(make_soft("beta", namespace))
        await is_told(on, "TrainingRun", "mine", lambda text: "Waiting for its turn" in text, what="is queued again")
        assert "Blocked" not in {each["type"] for each in on.runs["mine"]["status"]["conditions"]}

        await api.delete("Project", "home", namespace=namespace)
        gone = "Project 'home', which spec.projectRef.name names, was deleted at "
        for run in ("mine", "first"):
            await is_told(on, "TrainingRun", run, lambda text: text.startswith(gone), what="tells of the Project")
        assert on.runs["first"]["status"]["phase"] == "failed"
        listed = {right for right in rights_asked(on) if right[2] == "list"}
        assert ("chorus.dev", "projects", "list") not in listed, "what was there before was meant as it is"


async def test_a_typo_in_a_reference_is_told_with_the_name_that_was_meant(
    installed: ControlPlane, api: Api, namespace: str
) -> None:
    async with operator_harness(installed, api, namespace=namespace) as on:
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        manual = {"trainOn": "Manual"}
        source = {"inline": None, "volume": {"claimName": "modells", "path": "a.csv"}}
        misspelt = [{"name": "soft", "pluginRef": {"name": "alhpa"}}]
        await on.create(
            claim,
            make_soft("alpha", namespace),
            make_project("home", namespace=namespace, plugins=["alpha"], spec=manual),
            make_project("typo", namespace=namespace, plugins=misspelt, spec=manual),
            make_project(
                "volume", namespace=namespace, plugins=["alpha"], spec={**manual, "dataset": {"source": source}}
            ),
            make_run("one", namespace=namespace, project="hom", plugin="alpha"),
            make_run("two", namespace=namespace, project="home", plugin="alpa"),
        )
        for kind, name, meant in (
            ("Project", "typo", "alpha"),
            ("Project", "volume", "models"),
            ("TrainingRun", "one", "home"),
            ("TrainingRun", "two", "alpha"),
        ):
            words = f"did you mean '{meant}'?"
            await is_told(on, kind, name, lambda text, words=words: text.endswith(words), what="suggests a name")  # type: ignore[misc]
        asked = rights_asked(on)
        assert LISTS <= asked
        assert {right for right in asked if right[1] in {"configmaps", "secrets"} and right[2] == "list"} == set()
        assert on.answered(403) == []
