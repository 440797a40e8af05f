"""What a service needs: it is asked what it is again and again, and is online while it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chorus_api.conditions import ConditionType
from chorus_api.plugin import Plugin, PluginStatus, ServicePlugin
from chorus_api.reasons import Reason
from chorus_operator.decisions.conditions import Conditions, find
from chorus_operator.decisions.decision import Action, Decision, Inquire
from chorus_operator.decisions.delivery import backoff
from chorus_operator.decisions.observed import parse_time
from chorus_operator.decisions.plugin.state import PluginView
from chorus_operator.decisions.plugin.status import conditions_of, status_of
from chorus_operator.plugin_types.service.resolve import endpoint_of, service_of

MISSED_INQUIRIES = 3
ANSWER_SECONDS = 30.0
"""How long the answer to the last of them may take."""
FIRST_PAUSE_SECONDS = 10.0
"""Pause after the first inquiry that was not taken; it doubles with each further one."""
LONGEST_PAUSE_SECONDS = 300.0
"""What it comes to, unless `inquirySeconds` is longer."""


@dataclass(frozen=True)
class _Silence:
    """How long the service has been silent, and may be, in seconds."""

    so_far: float
    limit: float


def is_known(plugin: Plugin) -> bool:
    """Tell whether it is known what the service needs, or that it does not say so.

    Runs of a service that is offline shall begin, and fail at a deadline, and not wait for ever.
    """
    online = find(plugin.status.conditions, ConditionType.ONLINE)
    return plugin.status.report is not None or (online is not None and online.status == "False")


def decide_plugin(view: PluginView) -> Decision[PluginStatus]:
    """Decide whether to ask, and whether the service is there."""
    plugin, service, conditions = view.plugin, service_of(view.plugin), conditions_of(view)
    actions: list[Action] = []
    again: float | None = None
    endpoint = endpoint_of(plugin)
    problem = view.judge_url(endpoint.url)
    if problem is not None:
        for name in (ConditionType.READY, ConditionType.ONLINE):
            conditions.set(name, False, Reason.BAD_CONFIGURATION, f"spec.service: {problem}.")
    else:
        conditions.set(ConditionType.READY, True, Reason.READY, "Projects may use it.")
        due = _seconds_until_due(view, service)
        if due <= 0 and not view.inquiry.under_way:
            actions.append(Inquire(endpoint))
        silence = _silence(view, service)
        _set_online(view, conditions, silence)
        left = silence.limit - silence.so_far
        again = max(min(seconds for seconds in (due, left, float(service.inquiry_seconds)) if seconds > 0), 1.0)
    return Decision(status_of(plugin, conditions), tuple(actions), requeue_after=again)


def _seconds_until_due(view: PluginView, service: ServicePlugin) -> float:
    if view.inquiry.time is None:
        return 0.0
    pause = float(service.inquiry_seconds)
    if not view.inquiry.delivered:
        pause = backoff(view.inquiry.failures, first=FIRST_PAUSE_SECONDS, longest=max(pause, LONGEST_PAUSE_SECONDS))
    return pause - (view.now - view.inquiry.time).total_seconds()


def _silence(view: PluginView, service: ServicePlugin) -> _Silence:
    plugin, seen = view.plugin, _seen(view.plugin)
    signs = [time for time in (seen, parse_time(plugin.metadata.creation_timestamp), view.since) if time is not None]
    silent = (view.now - max(signs, default=view.now)).total_seconds()
    limit = MISSED_INQUIRIES * service.inquiry_seconds + ANSWER_SECONDS
    return _Silence(silent, min(limit, plugin.spec.deadlines.data_report_seconds) if seen is None else limit)


def _set_online(view: PluginView, conditions: Conditions, silence: _Silence) -> None:
    seen, before = _seen(view.plugin), conditions.get(ConditionType.ONLINE)
    wrong = f" The last inquiry: {view.inquiry.error}." if view.inquiry.error else ""
    was_off = before is not None and before.status == "False" and before.reason == Reason.PLUGIN_OFFLINE
    # Since then it has said nothing. A new process has not heard of it yet, which proves nothing.
    still_off = was_off and before is not None and (seen is None or seen <= before.last_transition_time)
    if still_off or silence.so_far >= silence.limit:
        what = "has never answered" if seen is None else "has not answered for a while"
        conditions.set(ConditionType.ONLINE, False, Reason.PLUGIN_OFFLINE, f"The service {what}.{wrong}")
    elif seen is None:
        message = f"The service is being asked what it is and needs.{wrong}"
        conditions.set(ConditionType.ONLINE, "Unknown", Reason.AWAITING_PLUGIN, message)
    else:
        conditions.set(ConditionType.ONLINE, True, Reason.PLUGIN_ONLINE, "The service answers.")


def _seen(plugin: Plugin) -> datetime | None:
    return plugin.status.report.time if plugin.status.report is not None else None
