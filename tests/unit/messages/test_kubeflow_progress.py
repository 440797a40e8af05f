"""Progress in the form that transformers' own Trainer sends to Kubeflow Trainer's status server."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_protocol.kubeflow import read_progress
from chorus_protocol.refusals import Cause, Refused


def body(**status: Any) -> bytes:
    return json.dumps({"trainerStatus": {"lastUpdatedTime": "2026-01-01T00:00:00+00:00", **status}}).encode()


def metrics(**values: Any) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def test_percent_eta_steps_loss_and_metrics_are_read() -> None:
    told = metrics(loss=0.25, epoch=1.5, learning_rate=5e-5, current_step=3, total_steps=12)
    read = read_progress(
        body(progressPercentage=25, estimatedRemainingSeconds=90, metrics=told), project_id=7, plugin_id=9
    )
    assert (read.percent, read.eta_seconds, read.step, read.total_steps) == (25, 90, 3, 12)
    assert (read.loss, read.epoch, read.metrics) == (0.25, 1.5, {"learning_rate": 5e-5})
    assert (read.project_id, read.plugin_id) == (7, 9)


def test_what_is_no_finite_number_or_has_no_fit_name_is_left_out() -> None:
    told = [*metrics(loss="nan", grad_norm="inf", note="text"), {"name": "a b", "value": "1"}]
    read = read_progress(body(progressPercentage=1, metrics=told), project_id=7, plugin_id=9)
    assert (read.loss, read.metrics) == (None, {})


@pytest.mark.parametrize(
    "wrong", [b"", b"{}", b"[]", b'{"trainerStatus": 5}', body(progressPercentage=101), body(metrics=[{"name": "x"}])]
)
def test_what_is_no_status_update_is_refused_as_malformed(wrong: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_progress(wrong, project_id=7, plugin_id=9)
    assert caught.value.cause is Cause.MALFORMED


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.floats() | st.text(max_size=9), st.lists).map(
        lambda value: json.dumps({"trainerStatus": value}).encode()
    )
)
def test_whatever_comes_is_read_or_refused(anything: bytes) -> None:
    with contextlib.suppress(Refused):
        read_progress(anything, project_id=7, plugin_id=9)
