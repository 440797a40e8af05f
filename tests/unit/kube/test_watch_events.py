"""A watch's bytes become the same events however the network cuts them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_kube.errors import Forbidden, Gone, KubeError, Unavailable
from chorus_kube.resources import JOBS
from chorus_kube.watch_events import Lines, read_event

LINES = st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    """Cut a text at these places, counted around it."""
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(ends)]


def taken(lines: Lines, chunks: list[bytes]) -> tuple[list[bytes], bool]:
    """Take chunks; gives the lines before one that is too long, and whether there was one."""
    found: list[bytes] = []
    try:
        for chunk in chunks:
            for line in lines.take(chunk):
                found.append(line)  # those before the error count
    except Unavailable:
        return found, True
    return found, False


@given(lines=LINES, rest=st.sampled_from([b"", b"{", b"\xc3"]), places=st.lists(st.integers(0, 200), max_size=12))
def test_any_cut_of_the_bytes_gives_the_same_lines(lines: list[bytes], rest: bytes, places: list[int]) -> None:
    splitter = Lines()
    text = b"".join(line + b"\n" for line in lines) + rest
    assert taken(splitter, cut(text, places)) == (lines, False)
    assert splitter.has_part is bool(rest)


@given(lines=LINES, places=st.lists(st.integers(0, 200), max_size=12), most=st.integers(1, 20))
def test_a_line_that_is_too_long_ends_it_wherever_the_bytes_are_cut(
    lines: list[bytes], places: list[int], most: int
) -> None:
    fits = next((index for index, line in enumerate(lines) if len(line) > most), len(lines))
    text = b"".join(line + b"\n" for line in lines)
    assert taken(Lines(most=most), cut(text, places)) == (lines[:fits], fits < len(lines))


def test_a_line_without_an_end_is_given_up_when_it_is_too_long() -> None:
    lines = Lines(most=1000)
    assert list(lines.take(b"x" * 1000)) == []
    with pytest.raises(Unavailable, match="1000 bytes"):
        list(lines.take(b"x"))


def event(kind: str, found: Any) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode()


def test_an_object_gets_its_type_where_the_api_server_leaves_it_out() -> None:
    bare = read_event("watch", event("ADDED", {"metadata": {"name": "a"}}), JOBS)
    assert bare == {
        "type": "ADDED",
        "object": {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}},
    }
    full = {"apiVersion": "batch/v2", "kind": "Other", "metadata": {}}
    assert read_event("watch", event("MODIFIED", full), JOBS)["object"] == full


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ({"code": 410, "reason": "Expired", "message": "too old resource version"}, Gone),
        ({"code": 403, "reason": "Forbidden", "message": "no"}, Forbidden),
        ({"code": 500, "message": "etcd is away"}, Unavailable),
        ({"code": 429, "details": {"retryAfterSeconds": 3}, "message": "storage is initializing"}, Unavailable),
        ({"message": "nobody knows"}, Unavailable),
    ],
)
def test_an_error_event_raises_what_its_status_says(status: dict[str, Any], error: type[KubeError]) -> None:
    with pytest.raises(error, match=status["message"]) as caught:
        read_event("watch /x", event("ERROR", {"kind": "Status", **status}), JOBS)
    assert type(caught.value) is error
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_after == status.get("details", {}).get("retryAfterSeconds")


@pytest.mark.parametrize("line", [b"", b"<html>", b"[]", b"{}", b'{"type": "ADDED"}', event("ADDED", None), b"\xff"])
def test_a_line_that_is_no_event_is_a_broken_watch(line: bytes) -> None:
    with pytest.raises(Unavailable, match="not a watch event"):
        read_event("watch", line, JOBS)
