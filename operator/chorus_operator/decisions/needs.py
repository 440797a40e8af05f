"""What a plugin needs: what its manifest states, else what it reported itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chorus_api.plugin import Plugin

_LORA_COLUMNS = ("prompt", "response")


@dataclass(frozen=True)
class Needs:
    """What a frame must have for a plugin to suit it."""

    columns: Sequence[str] = ()
    distinct: Mapping[str, int] = field(default_factory=dict)
    info: Sequence[str] = ()
    min_rows: int = 1


def needs_of(plugin: Plugin) -> Needs:
    """Lay the manifest over the plugin's own report."""
    stated, reported = plugin.spec.requires, plugin.status.report
    columns: Sequence[str] = _LORA_COLUMNS if plugin.spec.type == "lora" else ()
    if reported is not None:
        columns = reported.needed_columns
    return Needs(
        columns=stated.columns if stated.columns is not None else columns,
        distinct=stated.distinct,
        info=stated.info if stated.info is not None else (reported.needed_info if reported else ()),
        min_rows=stated.min_rows or (reported.min_rows if reported else None) or 1,
    )
