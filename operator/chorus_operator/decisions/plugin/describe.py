"""The decision about a Plugin: its image is asked once what it is and needs, and then runs can use it."""

from __future__ import annotations

from typing import NamedTuple

from chorus_api.conditions import ConditionType
from chorus_api.ids import message_id
from chorus_api.phases import Phase
from chorus_api.plugin import Plugin, PluginStatus
from chorus_api.reasons import Reason
from chorus_operator.decisions.classify import cause_of
from chorus_operator.decisions.conditions import Conditions, find
from chorus_operator.decisions.decision import Action, Decision, StartDescribe
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.plugin import inquiry
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.startup import waited, waiting_for

DESCRIBE_SECONDS = 120
"""How long a described image may run, from its pod's start."""
START_SECONDS = 900.0
LOOK_AGAIN_SECONDS = 15.0


class Unknown(NamedTuple):
    """Why a plugin cannot be used now: the row that a Project shows."""

    phase: str
    reason: str
    message: str


def wants_report(plugin: Plugin) -> bool:
    """Tell whether the plugin is to be asked, and has not answered for its present generation."""
    container, report = plugin.spec.container, plugin.status.report
    if container is None or not container.describe:
        return False
    return report is None or report.generation != plugin.metadata.generation


def is_known(plugin: Plugin) -> bool:
    """Tell whether it is known what the plugin needs, or that its service does not say so.

    Runs of a service that is offline shall begin, and fail at a deadline, and not wait for ever.
    """
    if plugin.spec.service is not None:
        online = find(plugin.status.conditions, ConditionType.ONLINE)
        return plugin.status.report is not None or (online is not None and online.status == "False")
    return not wants_report(plugin)


def problem(plugin: Plugin) -> Unknown | None:
    """Say why the plugin cannot be used yet, or not at all; None when it can."""
    if is_known(plugin):
        return None
    ready = find(plugin.status.conditions, ConditionType.READY)
    answered = plugin.status.observed_generation == plugin.metadata.generation
    if ready is not None and ready.reason == Reason.DESCRIBE_FAILED and answered:
        return Unknown(Phase.FAILED, ready.reason, f"Plugin {plugin.metadata.name!r}: {ready.message}"[:4096])
    name = plugin.metadata.name
    return Unknown(Phase.QUEUED, Reason.AWAITING_PLUGIN.value, f"Plugin {name!r} has not said yet what it needs.")


def decide_plugin(view: PluginView) -> Decision[PluginStatus]:
    """Decide about a Plugin."""
    plugin = view.plugin
    if plugin.spec.service is not None:
        return inquiry.decide_service(view, plugin.spec.service)
    generation = plugin.metadata.generation
    conditions = Conditions(plugin.status.conditions, generation=generation, now=view.now)
    actions: list[Action] = []
    again = None
    if wants_report(plugin):
        again = _ask(view, conditions, actions)
    else:
        conditions.set(ConditionType.READY, True, Reason.READY, "Projects may use it.")
        if plugin.status.report is not None:
            conditions.set(ConditionType.ONLINE, True, Reason.DESCRIBED, "The image has said what it is and needs.")
    return Decision(_status(plugin, conditions), tuple(actions), requeue_after=again)


def refuse_plugin(view: PluginView, message: str) -> Decision[PluginStatus]:
    """Say that the Plugin's image cannot be asked: a manifest of it is refused."""
    plugin = view.plugin
    conditions = Conditions(plugin.status.conditions, generation=plugin.metadata.generation, now=view.now)
    _fail(conditions, message)
    return Decision(_status(plugin, conditions))


def await_name(view: PluginView, message: str) -> Decision[PluginStatus]:
    """Say that the Plugin's image cannot be asked until another object gives the name of a child free."""
    plugin = view.plugin
    conditions = Conditions(plugin.status.conditions, generation=plugin.metadata.generation, now=view.now)
    conditions.set(ConditionType.READY, False, Reason.NAME_TAKEN, message)
    return Decision(_status(plugin, conditions), requeue_after=LOOK_AGAIN_SECONDS)


def _status(plugin: Plugin, conditions: Conditions) -> PluginStatus:
    changes: dict[str, object] = {
        "id": message_id(plugin.metadata.uid),
        "observed_generation": plugin.metadata.generation,
        "conditions": conditions.all(),
    }
    if plugin.status.report is not None:
        changes["last_seen_time"] = plugin.status.report.time
    return plugin.status.model_copy(update=changes)


def _ask(view: PluginView, conditions: Conditions, actions: list[Action]) -> float | None:
    pod = newest(view.pods)
    waiting = "The image is being asked what it is and needs."
    if view.job is None:
        actions.append(StartDescribe())
        conditions.set(ConditionType.READY, False, Reason.AWAITING_PLUGIN, waiting)
        return LOOK_AGAIN_SECONDS
    if view.job.failed:
        cause = cause_of(view.job, pod)
        tail = f" Log: {view.log_tail[-600:]}" if view.log_tail else ""
        _fail(conditions, f"{cause.message}{tail}")
        return None
    if view.job.complete:
        if pod is not None and pod.forwarding:
            return 1.0
        _fail(conditions, "It ended with exit code 0, and never sent ONLINE_REPORT.")
        return None
    if pod is not None and pod.started is not None:
        if (view.now - pod.started).total_seconds() > DESCRIBE_SECONDS:
            _fail(conditions, f"Pod {pod.name} runs for more than {DESCRIBE_SECONDS} s and has sent no ONLINE_REPORT.")
            return None
        conditions.set(ConditionType.READY, False, Reason.AWAITING_PLUGIN, waiting)
        return LOOK_AGAIN_SECONDS
    wait = waiting_for(view.job, pod)
    limit = START_SECONDS if wait.limit_seconds is None else wait.limit_seconds
    if waited(now=view.now, job=view.job, pod=pod) > limit:
        _fail(conditions, f"{wait.reason}: {wait.message}")
    else:
        conditions.set(ConditionType.READY, False, Reason.AWAITING_PLUGIN, f"{wait.reason}: {wait.message}")
    return LOOK_AGAIN_SECONDS


def _fail(conditions: Conditions, message: str) -> None:
    told = (
        f"The image was run with CHORUS_ROLE=describe and did not say what it needs: {message} "
        "Mend it, or set spec.container.describe: false and state spec.requires and spec.parameters yourself."
    )
    conditions.set(ConditionType.READY, False, Reason.DESCRIBE_FAILED, told[:4096])
    conditions.set(ConditionType.ONLINE, False, Reason.DESCRIBE_FAILED, told[:4096])
