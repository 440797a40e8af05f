"""Which connections a server keeps, whatever peers do: decided over counts and times alone."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chorus_net.admission import Admission, Admitted
from chorus_net.limits import EXCHANGE, HEALTH, RECEIVER, Limits

PEERS = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1")


def test_the_longest_waiting_of_a_full_address_is_closed_and_the_new_one_stays() -> None:
    admission = Admission(Limits(connections=10, for_each_address=2))
    admission.admit(1, peer="a", now=0)
    admission.admit(2, peer="a", now=1)
    admission.admit(3, peer="b", now=-5)
    assert admission.admit(4, peer="a", now=2) == Admitted(accepted=True, closed=1)


def test_a_connection_with_a_request_is_closed_for_nobody() -> None:
    admission = Admission(Limits(connections=10, for_each_address=2))
    admission.admit(1, peer="a", now=0)
    admission.admit(2, peer="a", now=1)
    admission.works(1)
    assert admission.admit(3, peer="a", now=2).closed == 2
    admission.works(3)
    assert admission.admit(4, peer="a", now=3) == Admitted(accepted=False)


def test_an_answered_connection_waits_from_then_on() -> None:
    admission = Admission(Limits(connections=10, for_each_address=2))
    admission.admit(1, peer="a", now=0)
    admission.admit(2, peer="a", now=1)
    admission.works(1)
    admission.awaits_peer(1, now=2)
    assert admission.admit(3, peer="a", now=3).closed == 2


def test_an_address_with_few_connections_is_not_pushed_out_by_many_with_more() -> None:
    admission = Admission(Limits(connections=6, for_each_address=6))
    admission.admit(1, peer="good", now=0)
    closed = [admission.admit(2 + number, peer=f"bad-{number % 3}", now=1 + number).closed for number in range(60)]
    assert 1 not in closed
    assert sum(closing is not None for closing in closed) == 55


def test_a_head_is_late_after_its_time_and_not_before() -> None:
    admission = Admission(Limits(connections=10, for_each_address=10))
    admission.admit(1, peer="a", now=0)
    admission.admit(2, peer="b", now=1)
    admission.admit(3, peer="a", now=1)
    admission.works(3)
    assert admission.waiting_since(-0.1) == []
    assert admission.waiting_since(0) == [1]
    assert admission.waiting_since(99) == [1, 2]


@pytest.mark.parametrize("servers", [(RECEIVER, HEALTH), (EXCHANGE,)])
def test_half_of_the_file_descriptors_stay_free_however_few_there_are(servers: tuple[Limits, ...]) -> None:
    def each(descriptors: int) -> tuple[Limits, ...]:
        return tuple(
            limits.within(descriptors, beside=[other for other in servers if other is not limits]) for limits in servers
        )

    assert each(1280) == servers
    for descriptors in (4, 64, 256, 1024):
        assert sum(limits.connections for limits in each(descriptors)) <= descriptors // 2
        assert all(limits.for_each_address <= limits.connections for limits in each(descriptors))


class Server(RuleBasedStateMachine):
    """Connections come, ask, are answered and go; beside them the same as plain facts."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(connections=7, for_each_address=3)
        self.admission = Admission(self.limits)
        self.peer: dict[int, str] = {}
        self.since: dict[int, tuple[float, int]] = {}
        """Of those that wait: the time, and a count for those of the same time."""
        self.steps = 0
        self.now = 0.0
        self.number = 0

    def _waiting(self, peer: str) -> list[int]:
        return sorted((number for number in self.since if self.peer[number] == peer), key=self.since.__getitem__)

    def _waits(self, number: int) -> None:
        self.steps += 1
        self.since[number] = (self.now, self.steps)

    @rule(peer=st.sampled_from(PEERS), seconds=st.floats(0, 5))
    def comes(self, peer: str, seconds: float) -> None:
        self.now += seconds
        self.number += 1
        its_own = [number for number, owner in self.peer.items() if owner == peer]
        decision = self.admission.admit(self.number, peer=peer, now=self.now)
        if len(its_own) == self.limits.for_each_address:
            expected = self._waiting(peer)[:1]
        elif len(self.peer) == self.limits.connections:
            most = max((len(self._waiting(name)) for name in PEERS), default=0)
            expected = [self._waiting(name)[0] for name in PEERS if most and len(self._waiting(name)) == most]
            oldest = min((self.since[number][0] for number in expected), default=0.0)
            expected = [number for number in expected if self.since[number][0] == oldest]
        else:
            assert decision == Admitted(accepted=True)
            expected = []
        if decision.closed is not None:
            assert decision.closed in expected
            del self.peer[decision.closed], self.since[decision.closed]
        else:
            assert not expected
        if decision.accepted:
            self.peer[self.number] = peer
            self._waits(self.number)

    @precondition(lambda self: self.since)
    @rule(data=st.data())
    def sends_a_whole_request(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.since)))
        self.admission.works(number)
        del self.since[number]

    @precondition(lambda self: self.peer)
    @rule(data=st.data(), seconds=st.floats(0, 5))
    def has_to_do_something_next(self, data: st.DataObject, seconds: float) -> None:
        """Send the rest of a body, take an answer, or send a head. Connections that wait already begin to wait anew."""
        self.now += seconds
        number = data.draw(st.sampled_from(sorted(self.peer)))
        self.admission.awaits_peer(number, now=self.now)
        self._waits(number)

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.number))  # also one that was closed or refused before
        self.admission.gone(number)
        self.peer.pop(number, None)
        self.since.pop(number, None)

    @invariant()
    def counts_are_those_of_what_is_there(self) -> None:
        assert len(self.admission) == len(self.peer) <= self.limits.connections
        for peer in PEERS:
            assert sum(owner == peer for owner in self.peer.values()) <= self.limits.for_each_address

    @invariant()
    def who_waits_is_known_with_the_time(self) -> None:
        assert sorted(self.admission.waiting_since(self.now)) == sorted(self.since)


Server.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_whatever_peers_do_the_limits_hold_and_only_who_waits_longest_is_closed = Server.TestCase
