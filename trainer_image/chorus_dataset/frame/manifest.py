"""Make frame.json small enough for a message, by leaving out first what matters least."""

from __future__ import annotations

import json
from collections.abc import Callable

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_protocol.messages import FrameManifest

MAX_BYTES = 40 * 1024


def manifest_bytes(manifest: FrameManifest) -> int:
    """Size of the manifest in a message, where characters beyond ASCII are written as escapes."""
    return len(json.dumps(manifest.model_dump(mode="json", exclude_none=True)))


def fit(manifest: FrameManifest) -> FrameManifest:
    """Return the manifest, shortened until it has at most 40 KiB: ranges and rare categories of columns first, then
    examples of rejected rows.

    Raises `FormatInvalid` if the names of the columns alone are too long.
    """
    for shorten in (
        _same,
        _shorter_ranges,
        _fewer_categories,
        _without_ranges,
        _without_categories,
        _fewer_examples,
        _without_counts,
        _without_examples,
        _without_info,
    ):
        manifest = shorten(manifest)
        if manifest_bytes(manifest) <= MAX_BYTES:
            return manifest
    raise DataError(
        Reason.FORMAT_INVALID,
        f"the {len(manifest.columns)} columns have names of {sum(len(each.name) for each in manifest.columns):,}"
        " characters in all, too many for a frame",
        hint="leave out the columns that the plugins do not need, or give them shorter names",
    )


def _same(manifest: FrameManifest) -> FrameManifest:
    return manifest


def _shorter_ranges(manifest: FrameManifest) -> FrameManifest:
    return _ranges(manifest, lambda text: text if text is None or len(text) <= 16 else text[:15] + "…")


def _without_ranges(manifest: FrameManifest) -> FrameManifest:
    return _ranges(manifest, lambda _: None)


def _ranges(manifest: FrameManifest, change: Callable[[str | None], str | None]) -> FrameManifest:
    columns = [
        column.model_copy(update={"min": change(column.min), "max": change(column.max)}) for column in manifest.columns
    ]
    return manifest.model_copy(update={"columns": columns})


def _fewer_categories(manifest: FrameManifest) -> FrameManifest:
    return _categories(manifest, 5)


def _without_categories(manifest: FrameManifest) -> FrameManifest:
    return _categories(manifest, None)


def _categories(manifest: FrameManifest, count: int | None) -> FrameManifest:
    columns = [
        column.model_copy(
            update={"categories": column.categories[:count] if count is not None and column.categories else None}
        )
        for column in manifest.columns
    ]
    return manifest.model_copy(update={"columns": columns})


def _without_counts(manifest: FrameManifest) -> FrameManifest:
    columns = [
        column.model_copy(update={"distinct": None, "max_length": None, "mean": None}) for column in manifest.columns
    ]
    return manifest.model_copy(update={"columns": columns})


def _fewer_examples(manifest: FrameManifest) -> FrameManifest:
    return _examples(manifest, 1)


def _without_examples(manifest: FrameManifest) -> FrameManifest:
    return _examples(manifest, 0)


def _examples(manifest: FrameManifest, count: int) -> FrameManifest:
    rejected = [each.model_copy(update={"examples": each.examples[:count]}) for each in manifest.rejected]
    return manifest.model_copy(update={"rejected": rejected})


def _without_info(manifest: FrameManifest) -> FrameManifest:
    return manifest.model_copy(update={"info": {}})
