"""Whether a plugin suits a frame, told from the frame's profile alone.

The order is the workflow's: columns, distinct values where they are needed, additional information; then rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chorus_api.nearest import nearest, with_suggestion
from chorus_api.reasons import Reason
from chorus_operator.decisions.requirements import Requirements
from chorus_protocol.messages import FrameManifest

SHOWN = 20


@dataclass(frozen=True)
class Verdict:
    """Whether, and why not."""

    applicable: bool
    reason: Reason = Reason.APPLICABLE
    message: str = ""


def suits(needs: Requirements, frame: FrameManifest, info: Mapping[str, str]) -> Verdict:
    """Check what a plugin needs against the frame."""
    there = {column.name: column for column in frame.columns}
    missing = [name for name in (*needs.columns, *needs.distinct) if name not in there]
    if missing:
        return Verdict(False, Reason.MISSING_COLUMNS, _missing_columns(list(dict.fromkeys(missing)), list(there)))
    for name, fewest in needs.distinct.items():
        distinct = there[name].distinct
        if distinct is not None and distinct < fewest:
            return Verdict(
                False,
                Reason.TOO_FEW_DISTINCT_VALUES,
                f"Column {name} has too few distinct values: {distinct}, and the plugin needs {fewest}.",
            )
    unknown = [key for key in needs.info if key not in info]
    if unknown:
        return Verdict(False, Reason.MISSING_INFO, _missing_info(unknown, list(info)))
    if frame.rows < needs.min_rows:
        return Verdict(
            False, Reason.TOO_FEW_ROWS, f"The frame has {frame.rows} training rows, the plugin needs {needs.min_rows}."
        )
    return Verdict(True, message=f"Suits frame {frame.name}.")


def _missing_columns(missing: Sequence[str], there: Sequence[str]) -> str:
    """Name the columns that are missing; when it is one, also the column that is most like it."""
    message = f"The frame lacks {', '.join(missing)}; it has {', '.join(there[:SHOWN])}."
    told = with_suggestion(message, nearest(missing[0], there) if len(missing) == 1 else None)
    return f"{told} Map them in spec.dataset.fields or select them in spec.dataset.query."


def _missing_info(missing: Sequence[str], there: Sequence[str]) -> str:
    """Name the facts that are missing; when it is one, also the key that may be a misspelling of it."""
    misspelt = nearest(missing[0], there) if len(missing) == 1 else None
    if misspelt is None:
        return f"Set {', '.join(missing)} in spec.dataset.info."
    return with_suggestion(f"Set {missing[0]} in spec.dataset.info, which has {misspelt}.", missing[0])
