"""What a decision about a Plugin may read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chorus_api.plugin import Plugin
from chorus_operator.decisions.delivery import Delivery
from chorus_operator.decisions.observed import EventView, JobView, PodView
from chorus_operator.decisions.service_address import url_problem


@dataclass(frozen=True)
class PluginView:
    """Everything that a decision about a Plugin may read."""

    plugin: Plugin
    now: datetime
    job: JobView | None = None
    pods: Sequence[PodView] = ()
    events: Sequence[EventView] = ()
    log_tail: str | None = None
    since: datetime | None = None
    """When this process began to receive messages: what services did before it was not heard."""
    inquiry: Delivery = field(default_factory=Delivery)
    """The last inquiry of a service."""
    judge_url: Callable[[str], str | None] = url_problem
    """Says what is wrong with a service's URL."""
