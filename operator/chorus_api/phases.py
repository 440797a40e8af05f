"""Phases: one word for where a Project or a run is, derived from its conditions."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a Project or a run is. A Project is never notApplicable or cancelled."""

    QUEUED = "queued"
    SUSPENDED = "suspended"
    PREPROCESSING = "PREPROCESSING"
    TRAINING = "TRAINING"
    TRAINED = "TRAINED"
    FAILED = "failed"
    NOT_APPLICABLE = "notApplicable"
    CANCELLED = "cancelled"


FINAL = frozenset({Phase.TRAINED, Phase.FAILED, Phase.NOT_APPLICABLE, Phase.CANCELLED})
"""A run in one of these has ended, and nothing changes its status any more."""
