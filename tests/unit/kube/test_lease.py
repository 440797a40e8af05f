"""Of several candidates one holds the Lease, and gives up before another can take it."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

from chorus_kube.errors import Unavailable
from chorus_kube.lease import DURATION_SECONDS, NAME, RENEW_DEADLINE_SECONDS, Lease
from chorus_kube.resources import LEASES
from fakes import Call, FakeKube
from simulated_time import simulate


def candidate(kube: FakeKube, name: str) -> Lease:
    return Lease(
        kube,  # type: ignore[arg-type]
        namespace="default",
        identity=name,
        clock=lambda: datetime.fromtimestamp(asyncio.get_running_loop().time(), UTC),
        jitter=random.Random(1),
    )


def holder(kube: FakeKube) -> str:
    lease = kube.find(LEASES, NAME)
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


def now() -> float:
    return asyncio.get_running_loop().time()


def cut_off(kube: FakeKube) -> None:
    def refuse(call: Call) -> None:
        raise Unavailable("away")

    kube.before = refuse


def test_the_first_candidate_gets_the_lease_and_the_second_waits() -> None:
    async def main() -> None:
        kube = FakeKube()
        first, second = candidate(kube, "first"), candidate(kube, "second")
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(300)
        assert holder(kube) == "first"
        assert not waiting.done()
        assert not holding.done()

    simulate(main())


def test_a_dead_holders_lease_is_taken_when_it_has_run_out_and_not_before() -> None:
    async def main() -> None:
        kube = FakeKube()
        await candidate(kube, "dead").acquire()
        second = candidate(kube, "second")
        await second.acquire()
        assert DURATION_SECONDS <= now() <= DURATION_SECONDS + 4
        assert holder(kube) == "second"
        lease = kube.find(LEASES, NAME)
        assert lease is not None
        assert lease["spec"]["leaseTransitions"] == 1

    simulate(main())


def test_a_released_lease_is_taken_at_once() -> None:
    async def main() -> None:
        kube = FakeKube()
        first = candidate(kube, "first")
        await first.acquire()
        await first.release()
        start = now()
        await candidate(kube, "second").acquire()
        assert now() == start
        assert holder(kube) == "second"

    simulate(main())


def test_a_restarted_holder_goes_on_at_once() -> None:
    async def main() -> None:
        kube = FakeKube()
        await candidate(kube, "pod").acquire()
        await candidate(kube, "pod").acquire()
        assert now() == 0

    simulate(main())


def test_a_holder_that_cannot_renew_gives_up_before_others_may_take_over() -> None:
    async def main() -> None:
        kube = FakeKube()
        lease = candidate(kube, "pod")
        await lease.acquire()
        cut_off(kube)
        await lease.hold()
        assert now() <= RENEW_DEADLINE_SECONDS + 0.1
        assert now() < DURATION_SECONDS - 4

    simulate(main())


def test_a_short_outage_is_survived() -> None:
    async def main() -> None:
        kube = FakeKube()
        lease = candidate(kube, "pod")
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        cut_off(kube)
        await asyncio.sleep(RENEW_DEADLINE_SECONDS - 3)
        kube.before = lambda call: None
        await asyncio.sleep(60)
        assert not holding.done()
        assert holder(kube) == "pod"

    simulate(main())


def test_a_holder_notices_at_once_that_another_took_over() -> None:
    async def main() -> None:
        kube = FakeKube()
        lease = candidate(kube, "pod")
        await lease.acquire()
        stolen = kube.find(LEASES, NAME)
        assert stolen is not None
        stolen["spec"]["holderIdentity"] = "thief"
        kube.put(stolen)
        start = now()
        await lease.hold()
        assert now() - start <= 2.1

    simulate(main())


def test_two_candidates_that_create_the_lease_at_once_do_not_both_hold_it() -> None:
    async def main() -> None:
        kube = FakeKube()
        candidates = [candidate(kube, name) for name in "abcd"]
        tasks = [asyncio.create_task(one.acquire()) for one in candidates]
        await asyncio.sleep(1)
        assert sum(task.done() for task in tasks) == 1
        for task in tasks:
            task.cancel()

    simulate(main())


def test_a_lease_that_cannot_be_released_is_left_to_run_out() -> None:
    async def main() -> None:
        kube = FakeKube()
        lease = candidate(kube, "pod")
        await lease.acquire()
        cut_off(kube)
        await lease.release()

    simulate(main())
