"""Any body becomes a checked message or one refusal that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_protocol.messages import PAYLOADS, MessageType, ModelName, ProgressReport
from chorus_protocol.parse import MAX_ENTRIES, parse
from chorus_protocol.refusals import Cause, Refused
from message_builders import FRAME, message

GOOD: dict[MessageType, dict[str, Any]] = {
    MessageType.DATA_REPORT: {"applicable": True},
    MessageType.TRAINING_START: {},
    MessageType.MODEL_NAME: {"model_name": "home-soft-1"},
    MessageType.ERROR_REPORT: {"detail": "no memory"},
    MessageType.PROGRESS: {"percent": 5},
    MessageType.ONLINE_REPORT: {"id": "sklearn", "parameters": {"epochs": 5}, "needed_columns": ["species"]},
    MessageType.FRAME_READY: {"prepare_key": "k", "frame": FRAME},
    MessageType.FRAME_FAILED: {"prepare_key": "k", "reason": "NoRows", "detail": "0 rows"},
    MessageType.EXCHANGE_READY: {
        "certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    },
}


def refused(body: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(body)
    return caught.value


def test_every_accepted_type_has_a_good_example_here() -> None:
    assert set(GOOD) == set(PAYLOADS)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_message_is_read(kind: MessageType) -> None:
    read = parse(message(kind, subject="uid-1", attempt=2, sequence=7, **GOOD[kind]))
    assert type(read.payload) is PAYLOADS[kind]
    assert (read.envelope.type, read.envelope.subject_uid) == (kind, "uid-1")
    assert (read.envelope.attempt, read.envelope.sequence) == (2, 7)


def test_a_sender_newer_than_the_receiver_is_understood() -> None:
    read = parse(message("MODEL_NAME", subject="u", model_name="m", colour="red", attributes={"traceparent": "00-ab"}))
    assert isinstance(read.payload, ModelName)


def test_what_a_message_is_about_is_read_by_its_name_too() -> None:
    body = message("TRAINING_START", subject="uid-1", attributes={"subject": "home-far-1"})
    assert parse(body).envelope.subject == "home-far-1"
    assert parse(message("TRAINING_START", subject="uid-1")).envelope.subject is None


@pytest.mark.parametrize("kind", ["TRAINING_DATA", "ONLINE_INQUIRY", "nonsense", "data_report"])
def test_a_type_that_plugins_do_not_send_is_refused(kind: str) -> None:
    error = refused(message(kind, subject="u"))
    assert (error.cause, error.status) == (Cause.UNKNOWN_TYPE, 422)
    assert "dev.chorus.DATA_REPORT" in error.detail


@pytest.mark.parametrize(
    ("attributes", "data", "field"),
    [
        ({"subjectuid": None}, {}, "subjectuid"),
        ({"subjectuid": ""}, {}, "subjectuid"),
        ({"attempt": "one"}, {}, "attempt"),
        ({"attempt": "-1"}, {}, "attempt"),
        ({"attempt": None}, {}, "attempt"),
        ({"sequence": "1e400"}, {}, "sequence"),
        ({"id": None}, {}, "id"),
        ({"id": ""}, {}, "id"),
        ({"source": None}, {}, "source"),
        ({"specversion": None}, {}, "specversion"),
        ({"specversion": "0.3"}, {}, "specversion"),
        ({"data": None}, {}, "data"),
        ({"data": [1]}, {}, "data"),
        ({"data": "text"}, {}, "data"),
        ({"data": None, "data_base64": "e30="}, {}, "data"),
        ({}, {"percent": 101}, "data.percent"),
        ({}, {"percent": "much"}, "data.percent"),
        ({}, {"percent": 1, "metrics": {"loss": "NaN"}}, "data.metrics.loss"),
        ({}, {"percent": 1, "metrics": {"a b": 1.0}}, "data.metrics.a b.[key]"),
        ({}, {"percent": 1, "metrics": {f"m{n}": 1.0 for n in range(33)}}, "data.metrics"),
        ({}, {"percent": 1, "loss": float("nan")}, "data.loss"),
        ({}, {"percent": 1, "loss": float("inf")}, "data.loss"),
        ({}, {"percent": 1, "project_id": 0}, "data.project_id"),
        ({}, {"percent": 1, "project_id": None}, "data.project_id"),
    ],
)
def test_a_wrong_field_is_named(attributes: dict[str, Any], data: dict[str, Any], field: str) -> None:
    error = refused(message("progress", subject="u", attributes=attributes, **{"percent": 1, **data}))
    assert (error.cause, error.status) == (Cause.MALFORMED, 422)
    assert field in [problem.field for problem in error.fields]
    assert field in error.detail


@pytest.mark.parametrize("field", ["project_id", "plugin_id"])
@pytest.mark.parametrize("value", [0, -1, None, ""])
def test_pc_17_an_id_of_0_or_none_is_refused_by_name(field: str, value: object) -> None:
    error = refused(message("ERROR_REPORT", subject="u", detail="no model", **{field: value}))
    assert [problem.field for problem in error.fields] == [f"data.{field}"]


def test_all_wrong_fields_are_named_at_once() -> None:
    error = refused(message("progress", subject="u", attempt=-1, percent=-1, step=-1))
    assert {"attempt", "data.percent", "data.step"} <= {problem.field for problem in error.fields}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"time": 5}',
        b'{"specversion": "1.0", "time": "yesterday"}',
        b'{"specversion": ["1.0"]}',
        b"9" * 5000,
    ],
)
def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    assert refused(body).cause is Cause.MALFORMED


def test_lone_surrogates_are_refused() -> None:
    body = message("ERROR_REPORT", subject="u", detail="PLACE").replace(b"PLACE", b"\\ud800")
    assert refused(body).cause is Cause.MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    try:
        parse(body)
    except Refused as error:
        assert error.status == 422  # noqa: PT017 - either outcome is right; no other error is


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(sorted(PAYLOADS)),
    field=st.sampled_from(["id", "source", "type", "specversion", "time", "subjectuid", "attempt", "sequence", "data"]),
    value=JSON,
)
def test_no_value_of_an_attribute_breaks_the_parser(kind: str, field: str, value: Any) -> None:
    try:
        parse(message(kind, subject="u", attributes={field: value}))
    except Refused as error:
        assert error.status == 422  # noqa: PT017
        assert len(error.detail) <= 1000  # noqa: PT017


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(sorted(PAYLOADS)), data=st.dictionaries(st.text(max_size=12), JSON, max_size=6))
def test_no_payload_breaks_the_parser(kind: str, data: dict[str, Any]) -> None:
    try:
        read = parse(message(kind, subject="u", ids={}, attributes={"data": data}))
    except Refused as error:
        json.dumps([error.detail, [problem.field for problem in error.fields]])
    else:
        assert type(read.payload) is PAYLOADS[read.envelope.type]


@settings(max_examples=100, deadline=None)
@given(
    percent=st.integers(0, 100),
    metrics=st.dictionaries(st.from_regex(r"\A[A-Za-z_][\w./-]{0,10}\Z"), st.floats(allow_nan=False), max_size=5),
)
def test_what_is_read_is_what_was_sent(percent: int, metrics: dict[str, float]) -> None:
    try:
        read = parse(message("progress", subject="u", percent=percent, metrics=metrics))
    except Refused as error:
        assert any(problem.field.startswith("data.metrics") for problem in error.fields)  # noqa: PT017
        return
    assert isinstance(read.payload, ProgressReport)
    assert (read.payload.percent, read.payload.metrics) == (percent, metrics)


@pytest.mark.parametrize(
    ("kind", "field", "data"),
    [
        ("progress", "data.metrics", {"percent": 1, "metrics": {f"m{number}": "x" for number in range(5000)}}),
        ("MODEL_NAME", "data.metrics", {"model_name": "m", "metrics": {f"m{number}": "x" for number in range(33)}}),
        ("ONLINE_REPORT", "data.needed_columns", {"needed_columns": [5] * 20_000}),
        ("ONLINE_REPORT", "data.parameters", {"parameters": {f"p{number}": [] for number in range(5000)}}),
        ("ONLINE_REPORT", "data.parameters_schema.required", {"parameters_schema": {"required": [5] * 20_000}}),
        ("FRAME_READY", "data.frame.columns", {"prepare_key": "k", "frame": {**FRAME, "columns": [{}] * 20_000}}),
        (
            "FRAME_READY",
            "data.frame.info",
            {"prepare_key": "k", "frame": {**FRAME, "info": {f"k{n}": 1 for n in range(MAX_ENTRIES + 1)}}},
        ),
    ],
)
def test_of_a_list_or_map_with_too_many_entries_none_is_checked(kind: str, field: str, data: dict[str, Any]) -> None:
    found = refused(message(kind, subject="u", **data))
    assert [problem.field for problem in found.fields] == [field]
    assert "entries" in found.fields[0].problem
