"""The name that was most likely meant, for messages about names that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was most likely meant, whatever its case; None if none is like it."""
    folded = {candidate.casefold(): candidate for candidate in names}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def with_suggestion(message: str, meant: str | None) -> str:
    """Append which name was most likely meant to a message about one that is not there, if any is like it."""
    return f"{message.removesuffix('.')}; did you mean {meant!r}?" if meant else message
