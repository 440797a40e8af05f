"""What a message's `subject` may name, and what never becomes a part of a request's path."""

from __future__ import annotations

import pytest

from chorus_operator.services.subjects import plugin_subject, read_plugin, read_run


def test_a_plugin_and_its_generation_are_read_as_they_were_written() -> None:
    assert read_plugin(plugin_subject("far", 12)) == ("far", 12)


def test_a_run_is_named_by_its_name() -> None:
    assert read_run("home-far-1") == "home-far-1"


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a.b", "-a", "a-", "A", "a b", "a\n", "a%2fb", "ä", "a" * 51])
def test_what_no_run_can_be_called_is_none(text: str) -> None:
    assert read_run(text) is None


@pytest.mark.parametrize(
    "text", ["", "far", "far/", "/1", "far/x", "far/-1", "far/0", "far/01", "../1", "far/1\n", "a" * 21 + "/1", "f-/1"]
)
def test_what_no_plugin_can_be_called_is_none(text: str) -> None:
    assert read_plugin(text) is None
