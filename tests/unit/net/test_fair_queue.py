"""A queue in turn between peers: nobody is kept out by who sends more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_net.fair_queue import FairQueue


def test_a_peer_with_one_item_waits_for_one_of_each_other_and_no_more() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.put(f"flood-{number}", peer=f"bad-{number % 2}")
    queue.put("good", peer="good")
    assert "good" in [queue.take() for _ in range(3)]


def test_of_one_peers_items_the_newest_is_taken() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5):
        queue.put(number, peer="shared")
    assert queue.take() == 4


def test_what_leaves_a_full_queue_is_the_oldest_of_who_has_most() -> None:
    queue: FairQueue[str] = FairQueue(size=3)
    for item, peer in (("good", "good"), ("bad-1", "bad"), ("bad-2", "bad")):
        assert queue.put(item, peer=peer) is None
    assert queue.put("other", peer="other") == "bad-1"
    assert sorted(queue.take() for _ in range(3)) == ["bad-2", "good", "other"]


def test_an_empty_queue_says_so() -> None:
    with pytest.raises(IndexError):
        FairQueue[int]().take()


STEP = st.one_of(st.sampled_from("abc").map(lambda peer: ("put", peer)), st.just(("take", "")), st.just(("drop", "")))


@given(st.lists(STEP, max_size=80), st.integers(1, 5))
def test_each_item_leaves_once_and_there_are_never_more_than_fit(steps: list[tuple[str, str]], size: int) -> None:
    queue: FairQueue[int] = FairQueue(size=size)
    there: dict[int, str] = {}
    for number, (step, peer) in enumerate(steps):
        if step == "put":
            displaced = queue.put(number, peer=peer)
            assert (displaced is not None) == (len(there) == size)
            if displaced is not None:
                assert displaced == min(item for item, owner in there.items() if owner == there[displaced])
                del there[displaced]
            there[number] = peer
        elif step == "take" and there:
            taken = queue.take()
            assert taken == max(item for item, owner in there.items() if owner == there[taken])
            del there[taken]
        elif step == "drop" and there:
            item, owner = there.popitem()
            queue.discard(item, peer=owner)
            queue.discard(item, peer=owner)
        assert len(queue) == len(there) <= size
