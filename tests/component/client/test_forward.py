"""What a container writes into its messages file becomes messages, once each and in order."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chorus_api.contract import MESSAGES_FILE, MESSAGES_SENT
from chorus_api.run_config import ForwardConfig, TerminationRecord
from chorus_client import forward as forwarding
from chorus_client.forward import Tail, forward, message_of
from chorus_client.sender import Pace, Sender
from chorus_client.stop import StopFlag
from chorus_client.termination import leave_termination
from message_receiver import Receiver

FAST = Pace(first_backoff=0.01, longest_backoff=0.05, longest_backoff_closing=0.05, progress_every=0.0)


def line(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data}) + "\n"


def forward_all(receiver: Receiver, file: Path) -> None:
    """Forward what is in the file, as when the main container has ended."""
    config = ForwardConfig(messages_file=str(file), project_id=7, plugin_id=9, messaging=receiver.messaging())
    stop = StopFlag()
    stop.request()
    tail = Tail(file)
    sender = Sender(config.messaging, attempt=3, instance=tail.instance, pace=FAST)
    forward(tail, config, sender, stop=stop, leave=[].append)


def test_each_line_becomes_a_message_with_the_ids_and_the_envelope_filled_in(
    receiver: Receiver, tmp_path: Path
) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text(line("DATA_REPORT", applicable=True) + "\n" + line("TRAINING_START") + '{"type": "MODEL_NAME", ')
    forward_all(receiver, file)
    assert receiver.types == ["DATA_REPORT", "TRAINING_START"], "the last line has no line break yet"
    first, second = (post.event for post in receiver.posts)
    assert first["data"] == {"project_id": 7, "plugin_id": 9, "applicable": True}
    assert second["data"] == {"project_id": 7, "plugin_id": 9}
    assert [(event["attempt"], event["sequence"]) for event in (first, second)] == [("3", "1"), ("3", "2")]


def test_a_forwarder_that_is_started_again_sends_nothing_twice(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text(line("DATA_REPORT", applicable=True))
    forward_all(receiver, file)
    with file.open("a") as more:
        more.write(line("TRAINING_START"))
    forward_all(receiver, file)
    assert receiver.types == ["DATA_REPORT", "TRAINING_START"]


def test_the_mark_that_a_probe_waits_for_is_there_once_the_forwarder_can_be_stopped(
    receiver: Receiver, tmp_path: Path
) -> None:
    forward_all(receiver, tmp_path / MESSAGES_FILE.name)
    assert (tmp_path / MESSAGES_SENT.name).read_text().split()[::2] == ["0", "0"]


def test_what_could_not_be_delivered_is_sent_by_the_next_one(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text(line("DATA_REPORT", applicable=True))
    tail = Tail(file)
    assert len(list(tail.lines())) == 1, "read, and then killed before it was marked"
    forward_all(receiver, file)
    assert receiver.types == ["DATA_REPORT"]


def test_a_forwarder_that_is_started_again_goes_on_as_the_same_instance_and_numbers_lines_alike(
    receiver: Receiver, tmp_path: Path
) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text(line("DATA_REPORT", applicable=True) + line("progress", percent=1) + "\n")
    forward_all(receiver, file)
    mark = (tmp_path / MESSAGES_SENT.name).read_text()
    with file.open("a") as more:
        more.write(line("TRAINING_START") + line("MODEL_NAME", model_name="m"))
    forward_all(receiver, file)
    (tmp_path / MESSAGES_SENT.name).write_text(mark)  # as if it had been killed before it wrote that down
    forward_all(receiver, file)
    said = [(post.event["type"].removeprefix("dev.chorus."), post.event["sequence"]) for post in receiver.posts]
    later = [("TRAINING_START", "3"), ("MODEL_NAME", "4")]
    assert said == [("DATA_REPORT", "1"), ("progress", "2"), *later, *later]
    assert len({post.event["instance"] for post in receiver.posts}) == 1


def test_what_is_delivered_at_a_later_try_is_written_down_though_no_line_follows(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "FLUSH_SECONDS", 0.0)
    file = tmp_path / "messages.jsonl"
    file.write_text(line("MODEL_NAME", model_name="m"))
    receiver.answer(503)
    config = ForwardConfig(messages_file=str(file), project_id=7, plugin_id=9, messaging=receiver.messaging())
    tail, stop = Tail(file), StopFlag()
    sender = Sender(config.messaging, attempt=3, instance=tail.instance, pace=FAST)
    how = {"stop": stop, "leave": [].append, "pause": 0.01}
    thread = threading.Thread(target=forward, args=(tail, config, sender), kwargs=how)
    thread.start()
    try:
        end = time.monotonic() + 10
        while Tail(file).position != file.stat().st_size:
            assert time.monotonic() < end, "it was not written down while the forwarder ran"
            time.sleep(0.01)
    finally:
        stop.request()
        thread.join()
    assert receiver.types == ["MODEL_NAME", "MODEL_NAME"]


@pytest.mark.parametrize("mark", ["", "12", "-1 a 1", "1 ../x 1", "9" * 99, "é"])
def test_a_mark_that_a_forwarder_has_not_written_counts_as_none(tmp_path: Path, mark: str) -> None:
    (tmp_path / MESSAGES_SENT.name).write_text(mark)
    tail = Tail(tmp_path / MESSAGES_FILE.name)
    assert (tail.position, tail.number, len(tail.instance)) == (0, 0, 32)


def test_without_a_file_there_is_nothing_to_send(receiver: Receiver, tmp_path: Path) -> None:
    forward_all(receiver, tmp_path / "messages.jsonl")
    assert receiver.posts == []


def test_a_link_in_the_place_of_the_file_is_not_followed(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(line("TRAINING_START"))
    file = tmp_path / "messages.jsonl"
    file.symlink_to(tmp_path / "secret")
    forward_all(receiver, file)
    assert receiver.posts == []


@pytest.mark.parametrize(
    "text", ["not JSON", "[]", '"text"', '{"data": {}}', '{"type": "MODEL_NAME", "data": []}', "[" * 9999]
)
def test_a_line_that_is_no_message_is_sent_for_the_receiver_to_refuse(text: str) -> None:
    kind, data = message_of(text.encode(), project_id=7, plugin_id=9)
    assert kind == "unreadable"
    assert data == {"line": text[:200]}


def test_ids_are_filled_in_where_the_message_has_them_and_a_line_gives_none() -> None:
    own = b'{"type": "TRAINING_START", "data": {"project_id": 1}}'
    assert message_of(own, project_id=7, plugin_id=9) == ("TRAINING_START", {"project_id": 1, "plugin_id": 9})
    report = b'{"type": "ONLINE_REPORT", "data": {"id": "x"}}'
    assert message_of(report, project_id=0, plugin_id=0) == ("ONLINE_REPORT", {"id": "x"})
    assert message_of(b'{"type": "made-up"}', project_id=7, plugin_id=9) == ("made-up", {})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            line("MODEL_NAME", model_name="best", digest="sha256:" + "ab" * 32, metrics={"eval_loss": 0.5}),
            {"outcome": "succeeded", "model_name": "best", "digest": "sha256:" + "ab" * 32, "eval_loss": 0.5},
        ),
        (
            line("ERROR_REPORT", reason="OutOfMemory", detail="no room", retryable=True),
            {"outcome": "failed", "reason": "OutOfMemory", "message": "no room", "retryable": True},
        ),
        (line("DATA_REPORT", applicable=True), None),
        (line("MODEL_NAME", model_name=7), None),
    ],
)
def test_a_last_message_that_cannot_be_delivered_becomes_the_sidecars_own_last_word(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, expected: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(forwarding, "CLOSE_SECONDS", 0.2)
    messaging = receiver.messaging().model_copy(update={"url": "https://localhost:1/v1/messages"})
    file = tmp_path / "messages.jsonl"
    file.write_text(lines)
    config = ForwardConfig(messages_file=str(file), project_id=7, plugin_id=9, messaging=messaging)
    stop, tail = StopFlag(), Tail(file)
    stop.request()
    left: list[TerminationRecord | None] = []
    sender = Sender(messaging, attempt=3, instance=tail.instance, pace=FAST)
    forward(tail, config, sender, stop=stop, leave=left.append)
    record = left[-1]
    assert (record.model_dump(exclude_defaults=True, by_alias=False) if record is not None else None) == expected


@pytest.mark.parametrize("delivering", ["flush", "close"])
def test_the_last_word_is_left_before_it_is_delivered_since_a_pod_of_little_grace_is_killed_meanwhile(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, delivering: str
) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text(line("MODEL_NAME", model_name="m"))
    config = ForwardConfig(messages_file=str(file), project_id=7, plugin_id=9, messaging=receiver.messaging())
    stop, tail, log = StopFlag(), Tail(file), tmp_path / "termination-log"
    if delivering == "close":
        stop.request()
    sender = Sender(config.messaging, attempt=3, instance=tail.instance, pace=FAST)
    deliver = getattr(sender, delivering)
    seen: list[TerminationRecord] = []

    def watched(seconds: float) -> Any:
        seen.append(TerminationRecord.model_validate_json(log.read_text()))
        stop.request()
        return deliver(seconds)

    monkeypatch.setattr(sender, delivering, watched)
    forward(tail, config, sender, stop=stop, leave=lambda record: leave_termination(record, log), pause=0.01)
    assert [record.model_name for record in seen] == ["m"]
    assert receiver.types == ["MODEL_NAME"]
    assert log.read_text() == "", "what was delivered is not left as well"
