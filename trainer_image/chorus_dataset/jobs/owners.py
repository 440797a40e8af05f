"""Whose a published model and a link in `latest/` is: a file of Chorus's own, which no training pod can write.

Several Projects may share a claim, also of different namespaces and clusters. `models/.owners/<model>` and
`latest/.owners/<plugin>` say which Project made it; both are written before what they are about.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints, ValidationError

from chorus_api.file_model import FileModel
from chorus_dataset.untrusted import Directory, Refused

OWNERS = ".owners"
_MAX_BYTES = 4096
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]


class Owner(FileModel):
    """The Project that made something, and the run of which it is, if it is of one."""

    project_uid: _Name
    namespace: _Name
    project: _Name
    run_uid: _Name | None = None

    @property
    def shown(self) -> str:
        """For messages; a uid tells two Projects of one name apart."""
        return f"Project {self.namespace}/{self.project} (uid {self.project_uid})"


def owner_of(folder: Directory, name: str) -> Owner | None:
    """Read who owns `name` of a directory; None when that is not known. `Refused` when it cannot be read."""
    try:
        return Owner.model_validate_json(folder.read(f"{OWNERS}/{name}", limit=_MAX_BYTES, second_names=True))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Refused(f"has an unreadable {OWNERS}/{name}") from error


def own(folder: Directory, name: str, owner: Owner) -> Owner:
    """Write down that a Project owns `name`, unless it is known whose it is, and give its owner.

    Of several Projects that do so at once one becomes the owner, and all are given that one.
    """
    found = owner_of(folder, name)
    if found is not None:
        return found
    with folder.make(OWNERS) as owners:
        is_ours = owners.write_new(name, owner.model_dump_json(by_alias=True, exclude_none=True).encode())
        owners.sync()
    if is_ours:
        return owner
    found = owner_of(folder, name)
    if found is None:
        raise Refused(f"has an {OWNERS}/{name} that somebody has removed just now")
    return found
