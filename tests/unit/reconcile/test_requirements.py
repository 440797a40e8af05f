"""What a plugin says that it needs decides whether it gets a run, whoever said it: its manifest or itself."""

from __future__ import annotations

from typing import Any

import pytest

from chorus_api.plugin import Plugin
from chorus_api.reasons import Reason
from chorus_operator.decisions.applicability import suits
from chorus_operator.decisions.requirements import requirements_of
from chorus_protocol.messages import ColumnProfile, FrameManifest

MANIFEST = {"type": "container", "container": {"image": "learner:1"}}
FRAME = FrameManifest(
    name="df-0123456789ab",
    digest="sha256:" + "ab" * 32,
    rows=15,
    eval_rows=5,
    read_rows=20,
    columns=[ColumnProfile(name="species", type="string", distinct=1), ColumnProfile(name="mass", type="number")],
)
INFO = {"outcome": "species"}


def plugin(*, requires: dict[str, Any] | None = None, report: dict[str, Any] | None = None) -> Plugin:
    stored: dict[str, Any] = {
        "metadata": {"name": "learner", "namespace": "lab", "uid": "u"},
        "spec": MANIFEST | ({"requires": requires} if requires else {}),
    }
    if report is not None:
        stored["status"] = {"report": {"time": "2026-01-01T00:00:00Z"} | report}
    return Plugin.model_validate(stored)


@pytest.mark.parametrize(
    ("needing", "reason", "words"),
    [
        (plugin(requires={"columns": ["colour"]}), Reason.MISSING_COLUMNS, "lacks colour; it has species, mass"),
        (plugin(report={"neededColumns": ["colour"]}), Reason.MISSING_COLUMNS, "lacks colour"),
        (
            plugin(requires={"distinct": {"species": 2}}),
            Reason.TOO_FEW_DISTINCT_VALUES,
            "species has too few distinct values: 1",
        ),
        (plugin(requires={"info": ["unit"]}), Reason.MISSING_INFO, "unit"),
        (plugin(report={"neededInfo": ["unit"]}), Reason.MISSING_INFO, "unit"),
        (
            plugin(requires={"columns": ["specis"]}),
            Reason.MISSING_COLUMNS,
            "lacks specis; it has species, mass; did you mean 'species'? Map them",
        ),
        (
            plugin(requires={"info": ["outcomes"]}),
            Reason.MISSING_INFO,
            "Set outcomes in spec.dataset.info, which has outcome; did you mean 'outcomes'?",
        ),
        (plugin(requires={"minRows": 16}), Reason.TOO_FEW_ROWS, "16"),
        (plugin(report={"minRows": 16}), Reason.TOO_FEW_ROWS, "16"),
    ],
)
def test_pc_19_each_need_that_a_frame_does_not_meet_is_named(needing: Plugin, reason: Reason, words: str) -> None:
    verdict = suits(requirements_of(needing), FRAME, INFO)
    assert (verdict.applicable, verdict.reason) == (False, reason)
    assert words in verdict.message


def test_a_frame_that_has_everything_suits() -> None:
    needs = {"neededColumns": ["species", "mass"], "neededInfo": ["outcome"], "minRows": 15}
    assert suits(requirements_of(plugin(report=needs)), FRAME, INFO).applicable


def test_what_the_manifest_states_wins_over_what_the_plugin_said() -> None:
    stated = plugin(requires={"columns": []}, report={"neededColumns": ["colour"]})
    assert suits(requirements_of(stated), FRAME, INFO).applicable
