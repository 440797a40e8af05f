"""Writing what a plugin says of itself into the status of its Plugin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ValidationError

from chorus_api.plugin import OnlineReportEntry
from chorus_kube.client import Kube, Manifest
from chorus_kube.errors import Conflict
from chorus_kube.resources import PLUGINS
from chorus_operator.messages.pod_senders import DescribePod, ServicePluginSender
from chorus_operator.messages.runs import MAX_CONFLICTS, REPORT_MANAGER, Outcome
from chorus_protocol.messages import OnlineReport
from chorus_protocol.refusals import Cause, Refused

SEEN = timedelta(seconds=5)
"""A service that answers more often is not written down more often."""


def entry_of(payload: OnlineReport, *, generation: int, now: datetime) -> OnlineReportEntry:
    """Write an ONLINE_REPORT down; `generation`: that of the Plugin that was asked."""
    return OnlineReportEntry.model_validate(
        payload.model_dump(exclude_none=True) | {"generation": generation, "time": now}
    )


class PluginReports:
    """Applies `status.report` of Plugins over the resource version that was read."""

    def __init__(self, kube: Kube, *, clock: Callable[[], datetime]):
        """`clock`: the time that is written."""
        self._kube = kube
        self._clock = clock

    async def take(self, pod: DescribePod, payload: OnlineReport) -> Outcome:
        """Write one report down; returns when it is stored. Refused when the Plugin is gone or was changed since."""
        for _ in range(MAX_CONFLICTS):
            plugin = await self._kube.get(PLUGINS, namespace=pod.namespace, name=pod.plugin)
            if plugin is None or plugin["metadata"]["uid"] != pod.plugin_uid:
                raise Refused(Cause.WRONG_IDS, f"Plugin {pod.plugin} with uid {pod.plugin_uid} is gone")
            generation = plugin["metadata"].get("generation", 1)
            if generation != pod.generation:
                raise Refused(
                    Cause.WRONG_IDS,
                    f"Plugin {pod.plugin} was asked at generation {pod.generation}, now {generation}",
                )
            new = entry_of(payload, generation=generation, now=self._clock().replace(microsecond=0))
            known = _report_of(plugin)
            if known is not None and known.model_copy(update={"time": new.time}) == new and _is_seen(pod, known, new):
                return Outcome.KNOWN
            try:
                await self._kube.apply_status(
                    PLUGINS,
                    namespace=pod.namespace,
                    name=pod.plugin,
                    status_part={"report": new.model_dump(mode="json", exclude_none=True)},
                    manager=REPORT_MANAGER,
                    resource_version=plugin["metadata"]["resourceVersion"],
                )
            except Conflict:
                continue
            return Outcome.TAKEN
        raise Refused(Cause.UNAVAILABLE, f"Plugin {pod.plugin} is being written all the time; send the message again")


def _is_seen(pod: DescribePod, known: OnlineReportEntry, new: OnlineReportEntry) -> bool:
    """Tell whether the same words say nothing new: of a service they say that it is there, every few seconds."""
    return not isinstance(pod, ServicePluginSender) or new.time - known.time < SEEN


def _report_of(plugin: Manifest) -> OnlineReportEntry | None:
    stored = plugin.get("status", {}).get("report")
    try:
        return None if stored is None else OnlineReportEntry.model_validate(stored)
    except ValidationError:
        return None
