"""What `subject` of a message to a service names, and of its answer: a run, or a Plugin with its generation.

An answer that comes with a service account's token says by it alone what is to be read; what is read must agree.
"""

from __future__ import annotations

import re

from chorus_api.base import DNS_LABEL

_RUN_LENGTH = 50
_PLUGIN = re.compile(r"(?P<name>[-a-z0-9]{1,20})/(?P<generation>[1-9][0-9]{0,17})")


def plugin_subject(name: str, generation: int) -> str:
    """Name a Plugin as it was when it was asked."""
    return f"{name}/{generation}"


def read_run(subject: str) -> str | None:
    """Read the name of a run; None when no run can have it."""
    return subject if len(subject) <= _RUN_LENGTH and re.fullmatch(DNS_LABEL, subject) else None


def read_plugin(subject: str) -> tuple[str, int] | None:
    """Read the name of a Plugin and its generation; None when it is none."""
    found = _PLUGIN.fullmatch(subject)
    if found is None or not re.fullmatch(DNS_LABEL, found["name"]):
        return None
    return found["name"], int(found["generation"])
