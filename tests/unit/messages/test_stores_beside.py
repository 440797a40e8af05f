"""Answers of the receiver's client cross from its thread to the stores, in whatever order, and none does harm there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_api import contract
from chorus_kube.resources import CONFIG_MAPS, PODS, TRAINING_RUNS
from chorus_operator.messages.known import StoresBeside
from chorus_operator.messages.pod_senders import sender_of
from chorus_operator.reconcile.kept import kept_pod
from chorus_operator.reconcile.stores import Stores
from chorus_protocol.refusals import Refused
from fakes import FakeKube
from leading_receiver import RUN, LeadingReceiver
from message_builders import describe_pod, plugin, prepare_pod, project, service_pod, training_pod, training_run

Manifest = dict[str, Any]


@pytest.fixture
async def place() -> LeadingReceiver:
    return await LeadingReceiver.started()


async def in_a_thread(work: Callable[[], None]) -> None:
    """Do what the receiver's thread does, while this loop goes on."""
    await asyncio.to_thread(work)
    await asyncio.sleep(0)


def known_version(place: LeadingReceiver) -> str | None:
    stored = place.known.get(TRAINING_RUNS, "default", RUN)
    return None if stored is None else str(stored["metadata"]["resourceVersion"])


async def test_an_answer_crosses_from_the_thread_in_which_it_came(place: LeadingReceiver) -> None:
    threads: list[threading.Thread] = []
    place.stores._on_change = lambda *_: threads.append(threading.current_thread())  # type: ignore[assignment]
    written = place.put_run(message="written")
    await in_a_thread(lambda: place.known.answered(TRAINING_RUNS, written, own=True))
    assert threads == [threading.current_thread()]
    stored = await place.stores.get(TRAINING_RUNS, namespace="default", name=RUN)
    assert stored is not None
    assert stored["status"]["message"] == "written"


async def test_of_two_answers_the_newer_one_is_known_whichever_comes_first(place: LeadingReceiver) -> None:
    older, newer = place.put_run(message="one"), place.put_run(message="two")
    for order in ((older, newer), (newer, older)):
        for answer in order:
            place.known.answered(TRAINING_RUNS, answer, own=True)
        assert known_version(place) == newer["metadata"]["resourceVersion"]
        await place.arrived()
        assert known_version(place) == newer["metadata"]["resourceVersion"]


async def test_what_the_stores_have_learnt_since_is_newer_than_an_answer_under_way(place: LeadingReceiver) -> None:
    place.known.answered(TRAINING_RUNS, place.put_run(message="one"), own=True)
    newer = place.put_run(message="two")
    place.stores.answered(TRAINING_RUNS, newer, own=True)
    assert known_version(place) == newer["metadata"]["resourceVersion"]


async def test_an_answer_under_way_is_known_although_the_state_in_the_stores_is_in_doubt(
    place: LeadingReceiver,
) -> None:
    written = place.put_run(message="written by the receiver")
    place.known.answered(TRAINING_RUNS, written, own=True)
    place.stores.doubt(TRAINING_RUNS, "default", RUN)
    assert known_version(place) == written["metadata"]["resourceVersion"]


async def test_a_late_answer_does_not_bring_back_what_is_gone(place: LeadingReceiver) -> None:
    written = place.put_run(message="written")
    place.known.answered(TRAINING_RUNS, written, own=True)
    place.stores.seen(TRAINING_RUNS, written, deleted=True)
    await place.arrived()
    assert known_version(place) is None


async def test_that_a_name_was_free_a_moment_ago_does_not_bury_the_object_that_has_it_now(
    place: LeadingReceiver,
) -> None:
    place.kube.answers = place.known
    place.kube.remove(TRAINING_RUNS, RUN)
    assert await place.kube.get(TRAINING_RUNS, namespace="default", name=RUN) is None
    again = place.put_run()
    place.catch_up()
    await place.arrived()
    assert known_version(place) == again["metadata"]["resourceVersion"]


async def test_kinds_and_pods_that_no_watch_tells_of_are_not_kept(place: LeadingReceiver) -> None:
    pod = place.kube.put(service_pod())
    config = {"kind": "ConfigMap", "metadata": {"namespace": "default", "name": "c", "resourceVersion": "1"}}
    place.known.answered(PODS, pod, own=False)
    place.known.answered(CONFIG_MAPS, config, own=False)
    await place.arrived()
    assert place.known.get(PODS, "default", "far-0") is None
    assert len(place.stores.of(PODS)) == 1


async def test_when_the_main_loop_has_ended_nothing_is_known_and_nothing_fails() -> None:
    loop = asyncio.new_event_loop()
    known = StoresBeside(Stores(FakeKube()), loop=loop)  # type: ignore[arg-type]
    known.open = True
    loop.close()
    run = FakeKube().put(training_run())
    known.answered(TRAINING_RUNS, run, own=True)
    assert known.get(TRAINING_RUNS, "default", RUN) is None


# What is kept of a pod


def pods() -> list[Manifest]:
    """Give a pod of each kind, with what else stands in pods."""
    kube = FakeKube()
    made = [
        training_pod(kube.put(training_run())),
        prepare_pod(kube.put(project())),
        describe_pod(kube.put(plugin())),
        service_pod(),
    ]
    exchange = training_pod(kube.put(training_run("served")), name="exchange")
    exchange["metadata"]["labels"][contract.ROLE_LABEL] = "exchange"
    return [kube.put(pod) for pod in (*made, exchange)]


PODS_OF_EACH_KIND = pods()
LABELS = sorted({name for pod in PODS_OF_EACH_KIND for name in pod["metadata"]["labels"]})
ANNOTATIONS = sorted({name for pod in PODS_OF_EACH_KIND for name in pod["metadata"].get("annotations", {})})
VALUES = st.sampled_from(["", "1", "one", "train", "prepare", "chorus", "7" * 300])


@given(
    pod=st.sampled_from(PODS_OF_EACH_KIND),
    labels=st.dictionaries(st.sampled_from([*LABELS, "team"]), VALUES | st.none(), max_size=3),
    annotations=st.dictionaries(st.sampled_from([*ANNOTATIONS, "note"]), VALUES | st.none(), max_size=3),
    account=st.sampled_from([contract.RUN_SERVICE_ACCOUNT, "far"]),
)
def test_who_a_pod_is_by_what_is_kept_of_it_is_who_it_is_or_it_is_read(
    pod: Manifest, labels: dict[str, str | None], annotations: dict[str, str | None], account: str
) -> None:
    metadata = dict(pod["metadata"])
    for part, changes in (("labels", labels), ("annotations", annotations)):
        metadata[part] = {
            name: value for name, value in {**metadata.get(part, {}), **changes}.items() if value is not None
        }
    changed = {**pod, "metadata": metadata}
    try:
        by_what_is_kept = sender_of(kept_pod(changed), account=account)
    except Refused:
        return  # it is read then
    assert by_what_is_kept == sender_of(changed, account=account)


def test_who_an_ordinary_pod_is_stands_in_what_is_kept_of_it() -> None:
    for pod in PODS_OF_EACH_KIND:
        account = pod["spec"]["serviceAccountName"]
        assert sender_of(kept_pod(pod), account=account) == sender_of(pod, account=account)
