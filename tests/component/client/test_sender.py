from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.v1.event import CloudEvent

from chorus_api.run_config import Messaging
from chorus_client.sender import Pace, Sender
from chorus_client.transport import Answer, HttpTransport
from chorus_protocol.messages import DataReport, ErrorReport, MessageType, ProgressReport, TrainingStart
from message_receiver import Receiver, write_certificate

FAST = Pace(first_backoff=0.01, longest_backoff=0.05, longest_backoff_closing=0.05, progress_every=0.0)
MESSAGING = Messaging(
    url="https://control-plane/v1/messages", token_file="none", ca_file="none", subject_uid="uid", source="/test"
)
START = TrainingStart(project_id=7, plugin_id=9)
REPORT = DataReport(project_id=7, plugin_id=9, applicable=True)


def progress(percent: int) -> ProgressReport:
    return ProgressReport(project_id=7, plugin_id=9, percent=percent)


class ScriptedTransport:
    """Answers as told, and keeps what it was given; waits at a gate where the test sets one."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = deque(answers)
        self.events: list[BaseCloudEvent] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)

    def post(self, event: BaseCloudEvent) -> Answer:
        self.events.append(event)
        self.arrived.release()
        assert self.gate.wait(20)
        return self.answers.popleft() if self.answers else Answer(accepted=True, retry=False)

    @property
    def sequences(self) -> list[int]:
        return [int(event.get_extension("sequence")) for event in self.events]

    @property
    def percents(self) -> list[int]:
        return [data["percent"] for event in self.events if isinstance(data := event.get_data(), dict)]


def test_a_message_is_a_cloud_event_that_names_the_run_the_attempt_and_its_sequence(receiver: Receiver) -> None:
    sender = Sender(receiver.messaging(), attempt=3, pace=FAST)
    sender.send(REPORT)
    assert sender.close(20) == []
    (post,) = receiver.posts
    assert post.headers["content-type"] == "application/cloudevents+json"
    assert post.headers["authorization"] == "Bearer token-one"
    assert post.event["type"] == "dev.chorus.DATA_REPORT"
    assert post.event["specversion"] == "1.0"
    assert post.event["source"] == "/namespaces/lab/pods/train"
    assert (post.event["subjectuid"], post.event["attempt"], post.event["sequence"]) == (
        receiver.messaging().subject_uid,
        "3",
        "1",
    )
    assert post.event["data"] == {"project_id": 7, "plugin_id": 9, "applicable": True}


def test_messages_arrive_in_order_with_rising_sequences(receiver: Receiver) -> None:
    sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
    sender.send(REPORT)
    sender.send(START)
    sender.send(ErrorReport(project_id=7, plugin_id=9, detail="out of paper"))
    assert sender.flush(20)
    assert receiver.types == ["DATA_REPORT", "TRAINING_START", "ERROR_REPORT"]
    assert [post.event["sequence"] for post in receiver.posts] == ["1", "2", "3"]
    assert sender.close(20) == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_message_is_sent_again_unchanged_until_it_is_accepted(receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    receiver.answer(status)
    sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
    sender.send(START)
    assert sender.flush(20)
    assert sender.close(20) == []
    assert len(receiver.posts) == 3
    assert len({post.event["id"] for post in receiver.posts}) == 1
    assert {post.event["sequence"] for post in receiver.posts} == {"1"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
def test_a_refusal_is_final_is_logged_with_its_body_and_does_not_hold_up_the_next_message(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer(status, body="attempt 1 is over; token=abcdef")
    sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
    with caplog.at_level(logging.ERROR):
        sender.send(REPORT)
        sender.send(START)
        (refused,) = sender.close(20)
    assert refused.refused
    assert refused.type is MessageType.DATA_REPORT
    assert f"{status}" in refused.error
    assert "attempt 1 is over; token=***" in caplog.text
    assert receiver.types == ["DATA_REPORT", "TRAINING_START"]


def test_the_token_and_the_authority_are_read_again_for_each_try(receiver: Receiver) -> None:
    authority = receiver.folder / "ca.crt"
    bundle = authority.read_text()
    authority.unlink()
    (receiver.folder / "token").unlink()
    sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
    sender.send(REPORT)
    assert not sender.flush(0.2)
    (receiver.folder / "token").write_text("token-two")
    authority.write_text(bundle)
    assert sender.flush(20)
    assert receiver.posts[-1].headers["authorization"] == "Bearer token-two"
    sender.close(20)


@pytest.mark.parametrize("renewed", [True, False])
def test_a_token_that_was_renewed_while_the_old_one_was_refused_is_tried_once_more(
    receiver: Receiver, renewed: bool
) -> None:
    receiver.answer(401, body="the token has run out")
    receiver.answer(401, body="the token has run out")
    receiver.gate.clear()  # the answer waits until the kubelet has written
    sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
    sender.send(START)
    receiver.wait_for_posts(1)
    if renewed:
        (receiver.folder / "token").write_text("token-two")
    receiver.gate.set()
    (refused,) = sender.close(20)
    assert refused.refused
    tokens = [post.headers["authorization"].removeprefix("Bearer ") for post in receiver.posts]
    assert tokens == (["token-one", "token-two"] if renewed else ["token-one"])


def test_messages_name_the_instance_whose_sequence_they_count(receiver: Receiver) -> None:
    for _ in range(2):
        sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
        sender.send(REPORT)
        sender.send(START)
        assert sender.close(20) == []
    first, second = ({post.event["instance"] for post in receiver.posts[start : start + 2]} for start in (0, 2))
    assert len(first) == len(second) == 1
    assert first != second
    assert all(instance.isalnum() and len(instance) <= 64 for instance in first | second)


def test_a_receiver_with_another_authority_gets_nothing(receiver: Receiver) -> None:
    other = receiver.folder / "other"
    other.mkdir()
    certificate, _ = write_certificate(other)
    messaging = receiver.messaging().model_copy(update={"ca_file": str(certificate)})
    sender = Sender(messaging, attempt=1, pace=FAST)
    sender.send(REPORT)
    (lost,) = sender.close(0.5)
    assert "certificate" in lost.error.lower()
    assert receiver.posts == []


def test_retry_after_is_read_as_seconds_and_as_a_date(receiver: Receiver) -> None:
    now = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
    transport = HttpTransport(receiver.messaging(), now=lambda: now)
    event = CloudEvent({"type": "dev.chorus.TRAINING_START", "source": "/test"}, {})
    receiver.answer(429, headers={"retry-after": "7"})
    receiver.answer(503, headers={"retry-after": format_datetime(now + timedelta(seconds=90), usegmt=True)})
    receiver.answer(503, headers={"retry-after": "soon"})
    assert [transport.post(event).retry_after for _ in range(3)] == [7.0, 90.0, None]


def test_the_sender_waits_as_long_as_the_receiver_asks() -> None:
    busy = Answer(accepted=False, retry=True, error="429", retry_after=3600.0)
    transport = ScriptedTransport(busy)
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST._replace(longest_backoff=3600.0))
    sender.send(START)
    assert transport.arrived.acquire(timeout=20)
    assert not sender.flush(0.3)
    assert len(transport.events) == 1
    assert sender.close(20) == [], "closing tries once more at once"


def test_progress_waits_as_long_as_the_receiver_asks() -> None:
    busy = Answer(accepted=False, retry=True, error="429", retry_after=3600.0)
    transport = ScriptedTransport(busy)
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST._replace(longest_backoff=3600.0))
    sender.progress(progress(1))
    assert transport.arrived.acquire(timeout=20)
    sender.progress(progress(2))
    assert not transport.arrived.acquire(timeout=0.2)
    assert sender.close(20) == []
    assert transport.percents == [1, 2]


def test_of_progress_only_the_newest_is_sent() -> None:
    transport = ScriptedTransport()
    transport.gate.clear()
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST)
    sender.send(START)
    assert transport.arrived.acquire(timeout=20)
    for percent in range(1, 101):
        sender.progress(progress(percent))
    transport.gate.set()
    assert sender.close(20) == []
    sent = [event.get_data() for event in transport.events[1:]]
    assert sent == [{"project_id": 7, "plugin_id": 9, "percent": 100, "metrics": {}}]


def test_messages_that_must_arrive_go_before_progress_and_sequences_still_rise() -> None:
    transport = ScriptedTransport()
    transport.gate.clear()
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST)
    sender.send(REPORT)
    assert transport.arrived.acquire(timeout=20)
    sender.progress(progress(5))
    sender.send(START)
    transport.gate.set()
    assert sender.close(20) == []
    kinds = [event.get_type().removeprefix("dev.chorus.") for event in transport.events]
    assert kinds == ["DATA_REPORT", "TRAINING_START", "progress"]
    assert transport.sequences == [1, 2, 3]


def test_progress_keeps_its_pace_but_the_last_one_is_sent_on_close() -> None:
    transport = ScriptedTransport()
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST._replace(progress_every=3600.0))
    sender.progress(progress(1))
    assert transport.arrived.acquire(timeout=20)
    sender.progress(progress(2))
    sender.progress(progress(3))
    assert not transport.arrived.acquire(timeout=0.2)
    assert sender.close(20) == []
    assert transport.percents == [1, 3]


def test_lost_progress_is_neither_sent_again_nor_reported_as_lost() -> None:
    transport = ScriptedTransport(Answer(accepted=False, retry=True, error="503"))
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST)
    sender.progress(progress(1))
    assert transport.arrived.acquire(timeout=20)
    assert sender.close(20) == []
    assert len(transport.events) == 1


def test_close_returns_what_could_not_be_delivered_in_time(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    messaging = receiver.messaging().model_copy(update={"url": "https://127.0.0.1:1/v1/messages"})
    sender = Sender(messaging, attempt=1, pace=FAST)
    sender.send(REPORT)
    sender.send(START)
    lost = sender.close(0.3)
    assert [(message.type, message.sequence, message.refused) for message in lost] == [
        (MessageType.DATA_REPORT, 1, False),
        (MessageType.TRAINING_START, 2, False),
    ]
    assert "ConnectError" in lost[0].error
    assert "DATA_REPORT was not delivered" in caplog.text


def test_sending_never_waits_for_the_receiver(receiver: Receiver) -> None:
    receiver.gate.clear()
    sender = Sender(receiver.messaging(), attempt=1, pace=FAST)
    sender.send(REPORT)
    receiver.wait_for_posts(1)
    for percent in range(1000):
        sender.progress(progress(percent % 101))
    sender.send(START)
    assert len(receiver.posts) == 1
    receiver.gate.set()
    assert sender.close(20) == []


def test_a_message_after_close_is_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    transport = ScriptedTransport()
    sender = Sender(MESSAGING, attempt=1, transport=transport, pace=FAST)
    assert sender.close(20) == []
    sender.send(START)
    assert "TRAINING_START came after the sender was closed" in caplog.text
    assert transport.events == []


def test_the_pause_between_tries_doubles_up_to_its_limit() -> None:
    pauses: list[float] = []
    again = Answer(accepted=False, retry=True, error="503")
    sender = Sender(MESSAGING, attempt=1, transport=ScriptedTransport(), pace=Pace(), jitter=lambda: 1.0)
    for tries in (1, 2, 3, 6, 7, 50):
        pauses.append(sender.pause_after(tries, again))
    sender.close(20)
    assert pauses == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]
