"""Move `latest/<plugin>` to a published model, unless the link is another Project's."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from chorus_api.contract import LATEST, MODELS
from chorus_dataset.jobs.owners import Owner, own, owner_of
from chorus_dataset.untrusted import Directory, Refused

LOG = logging.getLogger(__name__)


def promote(
    volume: Directory,
    *,
    plugin: str,
    model_name: str,
    owner: Owner | None,
    promoted_before: str | None,
    step: Callable[[str], None],
) -> str | None:
    """Point `latest/<plugin>` to the model in one step; returns whose the link is when it was left as it was.

    `owner`: the Project; None when that is not known: then only a link that is known to be somebody's is left.
    `promoted_before`: the model of this Project that the link should point to. It tells whose a link is that was made
    before owners were written down.
    """
    try:
        with volume.make(LATEST) as folder:
            other = _other_owner(volume, folder, plugin=plugin, owner=owner, promoted_before=promoted_before)
            if other is None and owner is not None:
                step("own latest")
                holder = own(folder, plugin, owner)
                other = holder.shown if holder.project_uid != owner.project_uid else None
            if other is None:
                _point(folder, plugin, f"../{MODELS}/{model_name}", step=step)
                # Whoever deletes the owner's file hands the link over, perhaps to another Project in this instant.
                other = _other_owner(volume, folder, plugin=plugin, owner=owner, promoted_before=model_name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        other = f"somebody unknown ({LATEST}/{plugin} cannot be used: {error.strerror})"
    if other is not None:
        LOG.warning("%s/%s belongs to %s: it is left as it is", LATEST, plugin, other)
    return other


def _other_owner(
    volume: Directory, folder: Directory, *, plugin: str, owner: Owner | None, promoted_before: str | None
) -> str | None:
    """Tell whose a link is; None when it is this Project's or nobody's."""
    known = owner_of(folder, plugin)
    if known is None and folder.has(plugin):
        target = folder.target(plugin)
        if target is None:
            raise Refused("is no link")
        if owner is None or target == f"../{MODELS}/{promoted_before}":
            return None
        known = _owner_of_model(volume, target)
        if known is None:
            return f"somebody unknown (it points to {target!r})"
    if known is None or (owner is not None and known.project_uid == owner.project_uid):
        return None
    return known.shown


def _owner_of_model(volume: Directory, target: str) -> Owner | None:
    model = target.removeprefix(f"../{MODELS}/")
    if model == target or "/" in model:
        return None
    with volume.directory(MODELS) as models:
        return owner_of(models, model)


def _point(folder: Directory, plugin: str, target: str, *, step: Callable[[str], None]) -> None:
    if folder.target(plugin) == target:
        return
    temporary = f".{plugin}.new"
    folder.remove_file(temporary)
    step("link")
    folder.link(temporary, target)
    step("promote")
    folder.move(temporary, folder, plugin)
    step("sync latest")
    folder.sync()
