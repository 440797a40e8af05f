"""What a plugin needs: what its manifest states, else what it reported itself, else what its type needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chorus_api.plugin import Plugin


@dataclass(frozen=True)
class Requirements:
    """What a frame must have for a plugin to suit it."""

    columns: Sequence[str] = ()
    distinct: Mapping[str, int] = field(default_factory=dict)
    info: Sequence[str] = ()
    min_rows: int = 1


def requirements_of(plugin: Plugin, *, columns: Sequence[str] = ()) -> Requirements:
    """Lay the manifest over the plugin's own report; `columns`: what its type needs when neither says."""
    stated, reported = plugin.spec.requires, plugin.status.report
    if reported is not None:
        columns = reported.needed_columns
    return Requirements(
        columns=stated.columns if stated.columns is not None else columns,
        distinct=stated.distinct,
        info=stated.info if stated.info is not None else (reported.needed_info if reported else ()),
        min_rows=stated.min_rows or (reported.min_rows if reported else None) or 1,
    )
