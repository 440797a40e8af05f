"""Whoever sends too much is told to wait before the API server is asked for anything, and nobody else is."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_service_plugin
from chorus_kube.resources import CONFIG_MAPS, PLUGINS, TRAINING_RUNS
from chorus_operator.messages.authentication import PodIdentity
from chorus_operator.messages.limits import charge_message
from chorus_operator.messages.runs import Outcome
from chorus_operator.messages.under_way import OF_NAMESPACE, OF_SENDER, OF_SERVICE_POD
from chorus_operator.services.tokens import PluginGrant
from chorus_operator.settings import TokenCheck
from chorus_protocol.refusals import Cause, Refused
from chorus_protocol.sender_limits import MALFORMED, NAMESPACES, Cost, Limit, SenderLimits, TokenBuckets
from message_builders import PLUGIN_ID, describe_pod, message, plugin, training_pod, training_run
from message_environment import NOW, RUN, TOKENS, Env

REPORTS, MESSAGES, PROGRESS, LOOKUPS = (
    cost.value[0] for cost in (Cost.REPORT, Cost.MESSAGE, Cost.PROGRESS, Cost.LOOKUP)
)
FLOOD = 300
SECONDS = 1.5
"""In which a flood comes."""


@pytest.fixture
def place() -> Env:
    return Env()


async def flood(place: Env, sends: Callable[[int], Awaitable[Any]], *, count: int = FLOOD) -> list[Refused]:
    """Send so many messages in a moment; those that were refused for their number."""
    refused = []
    for number in range(count):
        place.seconds += SECONDS / count
        try:
            await sends(number)
        except Refused as error:
            if error.cause is Cause.TOO_MANY_MESSAGES:
                refused.append(error)
    return refused


def at_most(limit: Limit) -> float:
    """How many a limit lets through in the time of a flood."""
    return limit.burst + SECONDS * limit.per_second + 1


@pytest.mark.parametrize("check", TokenCheck)
@pytest.mark.parametrize("who", ["train", "told", "far-0"])
async def test_300_error_reports_of_one_sender_are_not_300_writes(who: str, check: TokenCheck) -> None:
    place = Env(check)
    refused = await flood(place, lambda n: place.say(who, "ERROR_REPORT", sequence=n + 1, detail=f"wrong: {n}"))
    assert place.calls("apply_status", TRAINING_RUNS.kind) <= at_most(REPORTS)
    assert len(refused) >= FLOOD - at_most(REPORTS)
    assert {error.status for error in refused} == {429}
    reads = sum(call.verb in {"get", "list", "token_review"} for call in place.kube.calls)
    assert reads <= 3 * at_most(MESSAGES), "what is refused for its number costs the API server nothing"


@pytest.mark.parametrize("check", TokenCheck)
@pytest.mark.parametrize("kind", ["ERROR_REPORT", "progress", "ONLINE_REPORT"])
async def test_random_subjects_of_a_services_pod_are_not_as_many_reads(kind: str, check: TokenCheck) -> None:
    place = Env(check)

    async def send(number: int) -> None:
        subject = f"far/{number + 1}" if kind == "ONLINE_REPORT" else f"run-{number}"
        data: dict[str, Any] = {"detail": "x", "percent": 1, "id": "x"}
        body = message(kind, subject=f"uid-{number}", attempt=1, attributes={"subject": subject}, **data)
        await place.send(body, token=place.tokens["far-0"])

    await flood(place, send)
    assert sum(place.calls("get", read.kind) for read in (TRAINING_RUNS, CONFIG_MAPS, PLUGINS)) <= at_most(LOOKUPS)
    assert place.calls("get", "Pod") <= at_most(LOOKUPS)


async def test_attempts_that_a_services_pod_makes_up_are_not_as_many_reads(place: Env) -> None:
    async def send(number: int) -> None:
        body = message("MODEL_NAME", subject=place.uid, attempt=number + 2, attributes={"subject": RUN}, model_name="m")
        await place.send(body, token=place.tokens["far-0"])

    await place.say("far-0", "DATA_REPORT", applicable=True)
    await flood(place, send)
    assert place.calls("get", TRAINING_RUNS.kind) <= at_most(REPORTS)


@pytest.mark.parametrize("form", ["message", "kubeflow"])
async def test_progress_that_is_refused_each_time_is_not_as_many_reads(place: Env, form: str) -> None:
    """The run is at a later attempt: that is looked up for each message that may be new."""
    run = place.stored()
    place.kube.put({**run, "status": {**run["status"], "attempts": {"current": 2}}})

    async def send(number: int) -> None:
        if form == "message":
            await place.say("train", "progress", sequence=number + 1, percent=1)
        else:
            identity = await place.receivers[0].identify(f"Bearer {place.tokens['train']}")
            await place.receivers[0].take_progress(identity, b'{"trainerStatus": {}}')

    refused = await flood(place, send)
    assert place.calls("get", TRAINING_RUNS.kind) <= at_most(PROGRESS)
    assert len(refused) >= FLOOD - at_most(PROGRESS)


@pytest.mark.parametrize("who", ["a describe pod", "a service that was asked", "a service's pod"])
async def test_300_online_reports_of_one_sender_are_not_300_writes(place: Env, who: str) -> None:
    manifest = plugin("far") if who == "a describe pod" else make_service_plugin(service={"serviceAccountName": "far"})
    stored = place.kube.put(manifest)
    uid = stored["metadata"]["uid"]
    grant = PluginGrant(namespace="default", name="far", uid=uid, generation=1, plugin_id=PLUGIN_ID)
    token = {
        "a describe pod": place.token_of(describe_pod(stored)),
        "a service that was asked": TOKENS.issue(grant, expires=NOW + timedelta(minutes=10)),
        "a service's pod": place.tokens["far-0"],
    }[who]

    async def send(number: int) -> None:
        attributes = {"subject": "far/1"}
        body = message("ONLINE_REPORT", subject=uid, attempt=0, ids={}, attributes=attributes, id=f"plugin-{number}")
        await place.send(body, token=token)

    await flood(place, send)
    assert 0 < place.calls("apply_status", PLUGINS.kind) <= at_most(REPORTS)


async def test_many_pods_of_a_namespace_cannot_do_together_what_one_cannot(place: Env) -> None:
    tokens = [place.token_of(training_pod(place.run, name=f"pod-{number}", attempt=9)) for number in range(40)]
    elsewhere = place.kube.put({**place.run, "metadata": {"name": "other-1", "namespace": "elsewhere"}})
    theirs = place.token_of(training_pod(elsewhere, name="theirs"))

    async def send(number: int) -> None:
        body = message("ERROR_REPORT", subject=place.uid, attempt=9, sequence=number + 1, detail=f"{number}")
        await place.send(body, token=tokens[number % len(tokens)])

    before = len(place.kube.calls)
    await flood(place, send, count=40 * REPORTS.burst)
    sent = [call for call in place.kube.calls[before:] if call.kind == TRAINING_RUNS.kind]
    assert len(sent) <= at_most(Cost.REPORT.value[1])
    with pytest.raises(Refused) as caught:
        await place.say("train", "ERROR_REPORT", detail="x")
    assert (caught.value.cause, "namespace default" in caught.value.detail) == (Cause.TOO_MANY_MESSAGES, True)
    body = message("ERROR_REPORT", subject=elsewhere["metadata"]["uid"], detail="heard")
    assert await place.send(body, token=theirs) is Outcome.TAKEN


async def test_one_that_floods_takes_nothing_from_the_others_of_its_namespace(place: Env) -> None:
    other = place.kube.put({**place.run, "metadata": {"name": "home-far-2", "namespace": "default"}})
    theirs = place.token_of(training_pod(other, name="theirs"))
    await flood(place, lambda n: place.say("train", "ERROR_REPORT", sequence=n + 1, detail=str(n)), count=5000)
    for sequence in range(1, 11):
        body = message("ERROR_REPORT", subject=other["metadata"]["uid"], sequence=sequence, detail=str(sequence))
        assert await place.send(body, token=theirs) is Outcome.TAKEN


async def test_a_service_with_many_runs_is_heard_about_each(place: Env) -> None:
    """One pod speaks for 60 runs that begin at once, five messages about each."""
    for number in range(60):
        run = place.accept(training_run(f"r-{number}"))
        place.seconds += 1
        for sequence, kind in enumerate(("DATA_REPORT", "TRAINING_START", "progress", "progress", "MODEL_NAME"), 1):
            data: dict[str, Any] = {"applicable": True, "percent": sequence, "model_name": "m"}
            attributes = {"subject": f"r-{number}"}
            uid = run["metadata"]["uid"]
            body = message(kind, subject=uid, sequence=sequence, attributes=attributes, **data)
            assert await place.send(body, token=place.tokens["far-0"]) is Outcome.TAKEN


async def test_a_sidecar_that_sends_a_whole_file_gets_all_of_it_through_by_waiting_as_it_is_told(
    place: Env,
) -> None:
    waited = 0.0
    for number in range(1, 201):
        while True:
            try:
                await place.say("train", "ERROR_REPORT", sequence=number, detail=str(number))
                break
            except Refused as error:
                pause = error.retry_after or 0.0
                waited += pause
                place.seconds += pause
    assert waited == pytest.approx((200 - REPORTS.burst) / REPORTS.per_second)
    assert place.report()["error"]["detail"] == "200"


@pytest.mark.parametrize(
    ("who", "form"),  # Kubeflow's form is refused to a service's pod before its body is read
    [(who, form) for who in ("train", "told", "far-0") for form in ("message", "unknown", "kubeflow")][:-1],
)
async def test_300_bodies_of_one_sender_that_are_no_messages_are_not_300_that_are_read(
    place: Env, who: str, form: str
) -> None:
    metrics = {f"m{number}": "x" for number in range(5000)}
    kind = "unheard-of" if form == "unknown" else "progress"
    body = message(kind, subject=place.uid, attributes={"subject": RUN}, percent=1, metrics=metrics)

    async def send(_: int) -> None:
        inbox = place.receivers[0]
        identity = await inbox.identify(f"Bearer {place.tokens[who]}")
        with inbox.admit(identity):
            await (inbox.take_progress if form == "kubeflow" else inbox.take)(identity, body)

    began = time.process_time()
    refused = await flood(place, send)
    assert len(refused) >= FLOOD - at_most(MALFORMED)
    assert time.process_time() - began < 0.5, "each took 16 ms before"
    place.seconds += 1
    assert await place.say(who, "TRAINING_START") is Outcome.TAKEN


@pytest.mark.parametrize("check", TokenCheck)
async def test_a_services_pod_that_trains_a_hundred_runs_is_heard_about_each_all_the_time(check: TokenCheck) -> None:
    """Each run reports progress every 5 seconds, as our own sender does, and then its model."""
    place = Env(check)
    runs = [place.accept(training_run(f"r-{number}"))["metadata"] for number in range(100)]

    async def say(number: int, sequence: int, kind: str, **data: Any) -> Outcome:
        metadata = runs[number % len(runs)]
        attributes = {"subject": metadata["name"]}
        body = message(kind, subject=metadata["uid"], sequence=sequence, attributes=attributes, **data)
        return await place.send(body, token=place.tokens["far-0"])

    for number in range(10 * len(runs)):
        place.seconds = number * 5 / len(runs)
        assert await say(number, number + 1, "progress", percent=1, step=number) is Outcome.TAKEN
    for number in range(len(runs)):
        assert await say(number, 10_000, "MODEL_NAME", model_name="m") is Outcome.TAKEN


@pytest.mark.parametrize("who", ["train", "told", "far-0"])
async def test_progress_without_end_leaves_room_for_what_is_stored(place: Env, who: str) -> None:
    count = MESSAGES.burst - 10
    refused = await flood(place, lambda n: place.say(who, "progress", sequence=n + 1, percent=1), count=count)
    assert refused
    assert await place.say(who, "MODEL_NAME", sequence=1000, model_name="m") is Outcome.TAKEN


@pytest.mark.parametrize(("who", "limit"), [("train", OF_SENDER), ("told", OF_SENDER), ("far-0", OF_SERVICE_POD)])
async def test_a_sender_that_begins_many_messages_at_once_is_told_to_wait_before_they_are_read(
    place: Env, who: str, limit: int
) -> None:
    inbox = place.receivers[0]
    identity = await inbox.identify(f"Bearer {place.tokens[who]}")
    with ExitStack() as under_way:
        for _ in range(limit):
            under_way.enter_context(inbox.admit(identity))
        with pytest.raises(Refused) as caught, inbox.admit(identity):
            pass
        assert (caught.value.cause, caught.value.retry_after) == (Cause.TOO_MANY_MESSAGES, 1)
        other = "train" if who != "train" else "told"
        assert await place.say(other, "TRAINING_START") is Outcome.TAKEN
    with inbox.admit(identity):
        pass


async def test_the_senders_of_a_namespace_have_a_limit_of_messages_under_way_together(place: Env) -> None:
    inbox = place.receivers[0]
    with ExitStack() as under_way:
        for number in range(OF_NAMESPACE):
            under_way.enter_context(inbox.admit(PodIdentity("default", "pod", f"uid-{number}", "chorus-run")))
        with pytest.raises(Refused, match="namespace default"):
            await place.say("train", "TRAINING_START")
        with inbox.admit(PodIdentity("elsewhere", "pod", "theirs", "chorus-run")):
            pass
    assert await place.say("train", "TRAINING_START") is Outcome.TAKEN


async def test_a_configuration_as_large_as_a_config_map_is_not_kept_for_each_run(place: Env) -> None:
    """What is remembered of a run that a service's pod speaks for is what its messages are held against."""
    bodies = []
    for number in range(20):
        run = place.accept(training_run(f"r-{number}"), info={"note": f"{number}" * 200_000})
        uid, attributes = run["metadata"]["uid"], {"subject": f"r-{number}"}
        bodies.append(message("TRAINING_START", subject=uid, attributes=attributes))
    tracemalloc.start()
    try:
        for body in bodies:
            await place.send(body, token=place.tokens["far-0"])
        assert tracemalloc.get_traced_memory()[0] / len(bodies) < 50_000
    finally:
        tracemalloc.stop()


# The buckets


def test_the_buckets_are_bounded_and_fill_again_with_time() -> None:
    now = 0.0
    buckets = TokenBuckets(Limit(2, 1.0), size=100, seconds=lambda: now)
    for number in range(1000):
        buckets.take(number)
    assert len(buckets) == 100
    buckets.take(999)
    assert buckets.wait(999) == 1.0
    now = 0.5
    assert buckets.wait(999) == 0.5
    now = 2.0
    assert buckets.wait(999) == 0.0
    assert len(buckets) == 100


def test_senders_of_more_namespaces_than_are_remembered_are_still_limited_one_by_one() -> None:
    limits = SenderLimits(seconds=lambda: 0.0)
    for number in range(2 * NAMESPACES):
        charge_message(limits, PodIdentity(f"n-{number}", "pod", f"uid-{number}", "chorus-run"), stored=True)
    last = PodIdentity(f"n-{number}", "pod", f"uid-{number}", "chorus-run")
    for _ in range(REPORTS.burst - 1):
        charge_message(limits, last, stored=True)
    with pytest.raises(Refused):
        charge_message(limits, last, stored=True)


@settings(max_examples=100, deadline=None)
@given(
    limit=st.builds(Limit, st.integers(1, 5), st.sampled_from([0.5, 1.0, 4.0])),
    pauses=st.lists(st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0]), min_size=1, max_size=60),
)
def test_in_no_span_of_time_more_are_taken_than_the_limit_and_who_waits_as_told_is_taken(
    limit: Limit, pauses: list[float]
) -> None:
    now, taken = 0.0, []
    buckets = TokenBuckets(limit, size=4, seconds=lambda: now)
    for pause in pauses:
        now += pause
        if (wait := buckets.wait("one")) > 0:
            assert wait <= 1 / limit.per_second
            now += wait
            assert buckets.wait("one") == pytest.approx(0, abs=1e-9)
            continue
        buckets.take("one")
        taken.append(now)
        assert buckets.wait("another") == 0
    for first, last in itertools.combinations(range(len(taken)), 2):
        assert last - first + 1 <= limit.burst + (taken[last] - taken[first]) * limit.per_second + 1e-6
