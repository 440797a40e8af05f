"""docs/protocol.md is what the code says, and says enough."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from chorus_protocol.messages import MessageType
from docs_text import REPOSITORY, anchors, links

PAGE = REPOSITORY / "docs" / "protocol.md"


def sections() -> dict[str, str]:
    parts = re.split(r"^#+ (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_is_what_the_models_say(protocol: ModuleType) -> None:
    assert PAGE.read_text(encoding="utf-8") == protocol.page(), "run make generate"


@pytest.mark.parametrize("kind", MessageType)
def test_every_message_has_a_section_with_who_sends_it(kind: MessageType, protocol: ModuleType) -> None:
    assert sections()[kind.value].strip().startswith(protocol.SENDERS[kind.value])


def test_every_field_that_a_plugin_author_meets_is_explained(protocol: ModuleType) -> None:
    told = {name: text for name, text in sections().items() if "(internal)" not in text}
    plugins = [kind for kind in protocol.SENDERS if kind in told]
    for name in ("Envelope", "Times and tries", "Environment variables", "Files", *plugins):
        empty = [line for line in told[name].splitlines() if line.startswith("|") and line.endswith("|  |")]
        assert not empty, f"{name}: give the field a description in its model: {empty}"


def test_a_message_that_no_table_explains_stops_the_writing(
    protocol: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SENDERS", {})
    with pytest.raises(KeyError, match="TRAINING_DATA"):
        protocol.page()


def test_a_variable_that_no_table_explains_stops_the_writing(
    protocol: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol.contract, "NEW_ENV", "CHORUS_NEW", raising=False)
    with pytest.raises(KeyError, match="CHORUS_NEW"):
        protocol.page()


def test_links_within_the_page_lead_somewhere() -> None:
    inside = {link.removeprefix("#") for link in links(PAGE) if link.startswith("#")}
    assert inside
    assert inside <= anchors(PAGE)
