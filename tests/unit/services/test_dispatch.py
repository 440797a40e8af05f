"""Whose turn it is: any order of additions and ends keeps the promises of the dispatch queue."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chorus_operator.decisions.dispatch import PRIORITY, DispatchQueue, Kind, Limits, Outgoing, host_of
from chorus_protocol.messages import MessageType

LIMITS = Limits(total=5, of_kind=4, namespace=3, namespace_kind=2, host=1, waiting=3)
NAMESPACES, HOSTS = ("a", "b", "c"), ("x:80", "y:80", "z:80")


class DispatchMachine(RuleBasedStateMachine):
    """The model: what waits in the order in which it came, and what is being sent."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = DispatchQueue(LIMITS)
        self.waiting: list[Outgoing] = []
        self.running: list[Outgoing] = []
        self.number = 0
        self.passed: Counter[tuple[Kind, str]] = Counter()
        """How many messages of a type other namespaces have sent since a namespace did, while it could have."""

    @rule(kind=st.sampled_from(PRIORITY), namespace=st.sampled_from(NAMESPACES), host=st.sampled_from(HOSTS))
    def add(self, kind: Kind, namespace: str, host: str) -> None:
        self.number += 1
        message = Outgoing(namespace=namespace, about=str(self.number), kind=kind, host=host)
        already = sum(1 for each in self.waiting if (each.kind, each.namespace) == (kind, namespace))
        assert self.queue.add(message) == (already < LIMITS.waiting)
        if already < LIMITS.waiting:
            self.waiting.append(message)

    @rule()
    def start(self) -> None:
        free = [message for message in self.waiting if self.is_free(message)]
        message = self.queue.next()
        if not free:
            assert message is None, "a limit was passed"
            return
        assert message is not None, "a message that may be sent waits"
        assert message in free, "a limit was passed"
        urgent = [each for each in free if each.kind == free_kind(free)]
        assert message.kind == urgent[0].kind, "an inquiry went before TRAINING_DATA"
        of_namespace = [each for each in urgent if each.namespace == message.namespace]
        assert message == of_namespace[0], "not the first of its namespace"
        self.waiting.remove(message)
        self.running.append(message)
        for namespace in {each.namespace for each in urgent}:
            self.passed[message.kind, namespace] += 1
            assert self.passed[message.kind, namespace] <= len(NAMESPACES), "a namespace never comes to its turn"
        self.passed[message.kind, message.namespace] = 0

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.running))
        self.running.remove(message)
        self.queue.finish(message)

    def is_free(self, message: Outgoing) -> bool:
        def count(**same: str) -> int:
            return sum(all(getattr(each, name) == value for name, value in same.items()) for each in self.running)

        kind, namespace, host = message.kind, message.namespace, message.host
        return (
            count() < LIMITS.total
            and count(kind=kind) < LIMITS.of_kind
            and count(namespace=namespace) < LIMITS.namespace
            and count(namespace=namespace, kind=kind) < LIMITS.namespace_kind
            and count(namespace=namespace, host=host) < LIMITS.host
        )

    @invariant()
    def counts_only_what_is_being_sent(self) -> None:
        if not self.running:
            assert not self.queue._running


def free_kind(free: list[Outgoing]) -> Kind:
    return min((message.kind for message in free), key=PRIORITY.index)


TestDispatchMachine = DispatchMachine.TestCase
TestDispatchMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_all_that_waits_is_sent_when_what_is_being_sent_ends() -> None:
    queue = DispatchQueue()
    for number in range(500):
        kind = PRIORITY[number % 2]
        message = Outgoing(namespace=f"team-{number % 7}", about=str(number), kind=kind, host=f"far-{number % 3}:80")
        assert queue.add(message)
    sent = 0
    running: list[Outgoing] = []
    while True:
        while (started := queue.next()) is not None:
            running.append(started)
        if not running:
            break
        sent += 1
        queue.finish(running.pop(0))
    assert sent == 500


def test_namespaces_take_turns_whatever_each_has_waiting() -> None:
    queue = DispatchQueue(Limits(total=1))
    for number in range(100):
        queue.add(Outgoing("many", f"many-{number}", MessageType.ONLINE_INQUIRY, f"far-{number}:80"))
    for number in range(3):
        queue.add(Outgoing("few", f"few-{number}", MessageType.ONLINE_INQUIRY, f"near-{number}:80"))
    turns = []
    for _ in range(6):
        message = queue.next()
        assert message is not None
        turns.append(message.namespace)
        queue.finish(message)
    assert turns == ["many", "few"] * 3


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://far.example.org/a", "far.example.org:80"),
        ("https://FAR.example.org./", "far.example.org:443"),
        ("https://far.example.org:8443/b?c", "far.example.org:8443"),
        ("http://[fd00::1]:8080/", "fd00::1:8080"),
        ("http://far.team.svc:80/", "far.team.svc:80"),
    ],
)
def test_a_host_has_one_spelling(url: str, host: str) -> None:
    assert host_of(url) == host
