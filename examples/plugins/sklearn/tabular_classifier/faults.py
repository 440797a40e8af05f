"""What ends a run early: each kind of fault has the exit code by which Chorus tells whose fault it was."""

from __future__ import annotations

DONE, BAD_CONFIGURATION, BAD_DATA, NOT_APPLICABLE, INTERNAL, STOPPED = 0, 64, 65, 69, 70, 75


class Fault(Exception):
    """The plugin cannot go on. The text says what is wrong, where, and what to do."""

    code = INTERNAL
    reason = "InternalError"


class BadConfiguration(Fault):
    """A parameter, a file or an environment variable of the run is not as it must be."""

    code = BAD_CONFIGURATION
    reason = "BadConfiguration"


class BadData(Fault):
    """The frame has all that the plugin asked for, and still nothing can be learned from it."""

    code = BAD_DATA
    reason = "BadData"


class NotApplicable(Fault):
    """The frame lacks what the plugin needs: no error, but nothing to do here."""

    code = NOT_APPLICABLE
    reason = "NotApplicable"


class Stopped(Fault):
    """The pod was asked to stop; what is done is saved."""

    code = STOPPED
    reason = "Stopped"
