"""A story for an operator: every phase, every kind of attempt, and every right of its own but a few.

Two plugins run by themselves, one of which needs three attempts. Then runs by hand: one is cancelled, one is suspended
for a while, and one more makes the history too long.
"""

from __future__ import annotations

from builders import make_plugin, make_project, make_run
from harness.client import Manifest
from harness.operator_harness import OperatorHarness
from harness.pods import Attempt

Right = tuple[str, str, str]  # API group, resource or resource/subresource, verb
ENTRIES = [{"name": name, "pluginRef": {"name": "soft"}} for name in ("a", "b")]
PLAN = {
    "home-a-1": [Attempt(exit_code=75), Attempt(exit_code=137, log="step 1\nout of luck\n")],
    "stopped": [Attempt(lingers=True)],
    "paused": [Attempt(lingers=True)],
}

UNASKED: dict[Right, str] = {
    ("", "pods", "delete"): "a pod is removed 60 s after its node was lost: test_operator_lost_node",
    ("", "events", "list"): "only while a pod does not start: test_operator_blocked",
    ("chorus.dev", "projects", "list"): "only when a run names none that is there: test_operator_deleted_references",
    ("chorus.dev", "plugins", "list"): "only when a Project names none that is there: test_operator_deleted_references",
    ("", "services", "get"): "only when the name of an exchange is taken: test_operator_service",
    ("", "services", "create"): "the name of an exchange: test_operator_service",
    ("", "configmaps", "patch"): "only when somebody has changed the CA bundle: test_messages_stored",
    ("", "configmaps", "delete"): "those of earlier preparations, a minute old at least: test_operator_refresh",
    ("chorus.dev", "projects/finalizers", "update"): "asked by admission for blockOwnerDeletion: test_install_rights",
    ("chorus.dev", "plugins/finalizers", "update"): "asked by admission for blockOwnerDeletion",
    ("chorus.dev", "trainingruns/finalizers", "update"): "asked by admission for blockOwnerDeletion",
}
"""Rights that the operator needs without this story's asking for them."""

SOMETIMES: dict[Right, str] = {
    ("", "pods", "get"): "of a pod that speaks before the watch has told of it, or that would be refused",
    ("chorus.dev", "plugins", "get"): "of one that the watch has not told of, or that changed under a write",
}
"""Rights that this story may ask for or not: it depends on how far a watch lags."""


async def automatic_runs(on: OperatorHarness) -> list[str]:
    """Two plugins, one of which needs three attempts."""
    plugin = make_plugin("soft", namespace=on.namespace, spec={"lora": {"baseModel": {"uri": "file:///models/tiny"}}})
    spec = {"history": {"succeeded": 1, "failed": 1}}
    await on.create(plugin, make_project("home", namespace=on.namespace, plugins=ENTRIES, spec=spec))
    await on.reaches("Project", "home", "TRAINED")
    return list(on.witness.of("Project", "home"))


async def runs_by_hand(on: OperatorHarness) -> dict[str, Manifest]:
    """One is cancelled, one is suspended for a while, and one more makes the history too long."""
    await on.create(make_run("stopped", namespace=on.namespace, project="home", plugin="a"))
    await on.reaches("TrainingRun", "stopped", "TRAINING")
    await on.create(make_run("paused", namespace=on.namespace, project="home", plugin="a"))
    await on.set_run("stopped", cancel=True)
    await on.reaches("TrainingRun", "stopped", "cancelled")
    await on.reaches("TrainingRun", "paused", "TRAINING")
    await on.set_run("paused", suspend=True)
    await on.reaches("TrainingRun", "paused", "suspended")
    await on.set_run("paused", suspend=False)
    await on.reaches("TrainingRun", "paused", "TRAINED")
    runs = on.runs
    await on.create(make_run("last", namespace=on.namespace, project="home", plugin="a"))
    await on.reaches("TrainingRun", "last", "TRAINED")
    await on.reaches("Project", "home", "TRAINED")
    await on.api.wait_until_gone("TrainingRun", "paused", namespace=on.namespace)
    await on.rests()
    return {**runs, **on.runs}


def rights_asked(on: OperatorHarness) -> set[Right]:
    """What the operator has asked for in the stage's namespace."""
    return {
        (request.group, "/".join(part for part in (request.resource, request.subresource) if part), request.verb)
        for request in on.proxy.requests
        if request.namespace == on.namespace
    }


def rights_in(rules: list[Manifest]) -> set[Right]:
    """What the rules of a role give."""
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
