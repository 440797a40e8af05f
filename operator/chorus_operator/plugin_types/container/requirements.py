"""What a container needs: its image is asked once what it is and needs, and then runs can use it."""

from __future__ import annotations

from chorus_api.conditions import ConditionType
from chorus_api.plugin import Plugin, PluginStatus
from chorus_api.reasons import Reason
from chorus_operator.decisions.conditions import Conditions
from chorus_operator.decisions.decision import Action, Decision, StartDescribe
from chorus_operator.decisions.observed import newest
from chorus_operator.decisions.outcome.table import outcome_of
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.plugin.status import REQUEUE_SECONDS, conditions_of, status_of
from chorus_operator.decisions.startup import waited, waiting_for
from chorus_operator.plugin_types.container.resolve import container_of

DESCRIBE_SECONDS = 120
"""How long a described image may run, from its pod's start."""
START_SECONDS = 900.0


def image_to_describe(plugin: Plugin) -> str | None:
    """Name the image that is to be asked; None when it need not be, or has answered for the Plugin's generation."""
    container, report = container_of(plugin), plugin.status.report
    if not container.describe or (report is not None and report.generation == plugin.metadata.generation):
        return None
    return container.image


def decide_plugin(view: PluginView) -> Decision[PluginStatus]:
    """Decide about a Plugin."""
    plugin, conditions = view.plugin, conditions_of(view)
    actions: list[Action] = []
    again = None
    if image_to_describe(plugin) is not None:
        again = _ask(view, conditions, actions)
    else:
        conditions.drop(ConditionType.POD_STARTED)
        conditions.set(ConditionType.READY, True, Reason.READY, "Projects may use it.")
        if plugin.status.report is not None:
            conditions.set(ConditionType.ONLINE, True, Reason.DESCRIBED, "The image has said what it is and needs.")
    return Decision(status_of(plugin, conditions), tuple(actions), requeue_after=again)


def refuse_plugin(view: PluginView, message: str) -> Decision[PluginStatus]:
    """Say that the Plugin's image cannot be asked: a manifest of it is refused."""
    conditions = conditions_of(view)
    _fail(conditions, message)
    return Decision(status_of(view.plugin, conditions))


def _ask(view: PluginView, conditions: Conditions, actions: list[Action]) -> float | None:
    pod = newest(view.pods)
    waiting = "The image is being asked what it is and needs."
    if pod is None or pod.started is None:
        conditions.drop(ConditionType.POD_STARTED)
    if view.job is None:
        actions.append(StartDescribe())
        conditions.set(ConditionType.READY, False, Reason.AWAITING_PLUGIN, waiting)
        return REQUEUE_SECONDS
    if view.job.failed:
        cause = outcome_of(view.job, pod, view.log_tail)
        tail = f" Log: {view.log_tail[-600:]}" if view.log_tail else ""
        _fail(conditions, f"{cause.message}{tail}")
        return None
    if view.job.complete:
        if pod is not None and pod.forwarding:
            return 1.0
        _fail(conditions, "It ended with exit code 0, and never sent ONLINE_REPORT.")
        return None
    if pod is not None and pod.started is not None:
        conditions.set(ConditionType.POD_STARTED, True, Reason.STARTED, f"Pod {pod.name} has started on {pod.node}.")
        # By the operator's clock: that of a node may be minutes off.
        seen = conditions.get(ConditionType.POD_STARTED)
        if seen is not None and (view.now - seen.last_transition_time).total_seconds() > DESCRIBE_SECONDS:
            _fail(conditions, f"Pod {pod.name} runs for more than {DESCRIBE_SECONDS} s and has sent no ONLINE_REPORT.")
            return None
        conditions.set(ConditionType.READY, False, Reason.AWAITING_PLUGIN, waiting)
        return REQUEUE_SECONDS
    wait = waiting_for(view.job, pod, view.events)
    limit = START_SECONDS if wait.limit_seconds is None else wait.limit_seconds
    if waited(now=view.now, job=view.job, pod=pod) > limit:
        _fail(conditions, f"{wait.reason}: {wait.message}")
    else:
        conditions.set(ConditionType.READY, False, Reason.AWAITING_PLUGIN, f"{wait.reason}: {wait.message}")
    return REQUEUE_SECONDS


def _fail(conditions: Conditions, message: str) -> None:
    text = (
        f"The image was run with CHORUS_ROLE=describe and did not say what it needs: {message} "
        "Mend it, or set spec.container.describe: false and state spec.requires and spec.parameters yourself."
    )
    conditions.set(ConditionType.READY, False, Reason.DESCRIBE_FAILED, text[:4096])
    conditions.set(ConditionType.ONLINE, False, Reason.DESCRIBE_FAILED, text[:4096])
