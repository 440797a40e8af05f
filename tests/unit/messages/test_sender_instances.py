"""Sequence numbers belong to an instance of a sender: a second pod, and one that starts again, are heard at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_operator.messages.runs import Outcome
from chorus_protocol.refusals import Refused
from message_environment import Env, Manifest
from simulated_time import simulate


@pytest.fixture
def place() -> Env:
    return Env()


@dataclass(frozen=True)
class Change:
    """Another instance of a sender, after the one that `before` names."""

    name: str
    before: tuple[str, str | None]
    after: tuple[str, str | None]

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


CHANGES = (
    Change("a second pod of the service", ("far-0", None), ("far-1", None)),
    Change("a service that starts again in its pod", ("far-0", "a1"), ("far-0", "b2")),
    Change("a service with the token of TRAINING_DATA that starts again", ("told", "a1"), ("told", "b2")),
    Change("a sidecar of a training pod that starts again", ("train", "a1"), ("train", "b2")),
    Change("a pod after a message with the token of TRAINING_DATA", ("told", None), ("far-0", None)),
)


@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_progress_of_another_instance_that_counts_from_one_is_heard_at_once(place: Env, change: Change) -> None:
    who, instance = change.before
    for sequence in range(1, 51):
        await place.say(who, "progress", sequence=sequence, instance=instance, percent=40, step=sequence)
    await place.flush()
    for receiver in (0, 1):
        place.seconds += 10
        who, instance = change.after
        number = {"sequence": 1 + receiver, "instance": instance, "receiver": receiver}
        assert await place.say(who, "progress", percent=41, step=1 + receiver, **number) is Outcome.TAKEN
        await place.flush()
        assert (place.progress()["step"], place.progress()["percent"]) == (1 + receiver, 41)


@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_what_another_instance_that_counts_from_one_reports_replaces_what_is_known(
    place: Env, change: Change
) -> None:
    for (who, instance), detail in ((change.before, "no room"), (change.after, "no network")):
        for sequence, kind in ((8, "DATA_REPORT"), (9, "ERROR_REPORT")):
            number = sequence if detail == "no room" else sequence - 7
            said = {"applicable": True} if kind == "DATA_REPORT" else {"detail": detail}
            await place.say(who, kind, sequence=number, instance=instance, **said)
    assert place.report()["error"]["detail"] == "no network"


async def test_a_late_word_of_an_instance_never_replaces_what_a_newer_one_said(place: Env) -> None:
    await place.say("far-0", "DATA_REPORT", sequence=1, applicable=True)
    await place.say("far-1", "ERROR_REPORT", sequence=1, detail="of the second")
    before = place.stored()
    assert await place.say("far-0", "ERROR_REPORT", sequence=9, detail="of the first") is Outcome.KNOWN
    assert place.stored() == before
    assert await place.say("far-0", "TRAINING_START", sequence=2) is Outcome.TAKEN, "nobody has said that yet"


async def test_progress_that_comes_twice_changes_nothing_whichever_receiver_gets_it(place: Env) -> None:
    await place.say("far-0", "progress", sequence=7, percent=10, step=7)
    await place.flush()
    place.seconds = 10
    await place.say("far-1", "progress", sequence=1, percent=20, step=1)
    await place.flush()
    before = place.stored()
    for receiver in (0, 1):
        place.seconds += 10
        await place.say("far-0", "progress", sequence=7, receiver=receiver, percent=10, step=7)
        await place.flush()
    assert place.stored() == before


async def test_progress_in_kubeflows_form_and_as_a_message_are_both_heard(place: Env) -> None:
    inbox = place.receivers[0]
    for second in range(1, 4):
        place.seconds = second
        metrics = f'[{{"name": "current_step", "value": "{10 * second}"}}]'
        body = f'{{"trainerStatus": {{"progressPercentage": 3, "metrics": {metrics}}}}}'.encode()
        for receiver in place.receivers:  # each numbers it
            await receiver.take_progress(await inbox.identify(f"Bearer {place.tokens['train']}"), body)
        await place.flush()
        assert place.progress()["step"] == 10 * second
        await place.say("train", "progress", sequence=second, percent=3, step=second)
        await place.flush()
        assert place.progress()["step"] == second


@pytest.mark.parametrize("instance", ["", "a b", "x" * 65, "../x", "é"])
async def test_an_instance_that_is_no_plain_name_is_refused(place: Env, instance: str) -> None:
    with pytest.raises(Refused) as caught:
        await place.say("told", "TRAINING_START", instance=instance)
    assert caught.value.status == 422
    assert caught.value.fields[0].field == "instance"


async def test_a_report_that_an_older_operator_wrote_goes_on(place: Env) -> None:
    time = "2026-01-01T00:00:00Z"
    report = {"attempt": 1, "podUid": "service", "sequence": 4, "dataReport": {"applicable": True, "time": time}}
    run = place.stored()
    place.kube.put({**run, "status": {**run["status"], "report": report}})
    assert await place.say("told", "DATA_REPORT", sequence=4, applicable=False) is Outcome.KNOWN
    assert await place.say("told", "TRAINING_START", sequence=5) is Outcome.TAKEN
    assert place.report()["dataReport"] == {"applicable": True, "time": time}
    assert await place.say("told", "DATA_REPORT", instance="new", applicable=False) is Outcome.TAKEN


# Any history


@dataclass(frozen=True)
class Said:
    """A message as an instance sent it."""

    instance: int
    kind: str
    sequence: int
    content: int


WORDS: dict[str, Callable[[int], Manifest]] = {
    "DATA_REPORT": lambda n: {"applicable": n > 0, "reason": f"r{n}"},
    "TRAINING_START": lambda _: {},
    "MODEL_NAME": lambda n: {"model_name": f"m{n}"},
    "ERROR_REPORT": lambda n: {"detail": f"e{n}"},
}
FIELDS = {
    "DATA_REPORT": ("dataReport", "reason", "r"),
    "MODEL_NAME": ("modelName", "modelName", "m"),
    "ERROR_REPORT": ("error", "detail", "e"),
}


@st.composite
def histories(draw: st.DrawFn, kinds: tuple[str, ...]) -> list[tuple[Said, int]]:
    """Draw what instances say, numbered by each, and how it is delivered: late, twice, not at all, to two receivers."""
    counted = dict.fromkeys(range(4), 0)
    sent = []
    for instance in draw(st.lists(st.integers(0, 3), min_size=1, max_size=8)):
        counted[instance] += 1
        sent.append(Said(instance, draw(st.sampled_from(kinds)), counted[instance], draw(st.integers(0, 2))))
    deliveries = st.tuples(st.sampled_from(sent), st.integers(0, 1))
    return draw(st.lists(deliveries, min_size=1, max_size=14))


@settings(max_examples=100, deadline=None)
@given(histories(tuple(WORDS)))
def test_in_any_history_the_last_word_of_the_newest_instance_stands_and_204_says_nothing_new(
    history: list[tuple[Said, int]],
) -> None:
    async def main() -> None:
        place, order, heard = Env(), [], []  # type: ignore[var-annotated]
        for said, receiver in history:
            before, place.seconds = place.stored(), place.seconds + 1
            words = WORDS[said.kind](said.content)
            number = {"sequence": said.sequence, "instance": f"i{said.instance}", "receiver": receiver}
            outcome = await place.say("told", said.kind, **number, **words)
            if said in heard:
                assert outcome is Outcome.KNOWN
                assert place.stored() == before, "what comes twice changes nothing"
                continue
            if said.instance not in order:
                order.append(said.instance)
            heard.append(said)
            newest = _newest(heard, order)
            told = place.report()
            for kind, (name, text, letter) in FIELDS.items():
                stands = newest.get(kind)
                assert told.get(name, {}).get(text) == (stands and f"{letter}{stands.content}")
            assert ("trainingStart" in told) == (not newest.keys().isdisjoint({"TRAINING_START", "MODEL_NAME"}))
            if outcome is Outcome.KNOWN:
                was = _newest(heard[:-1], order)
                model = said.kind == "TRAINING_START" and "MODEL_NAME" in was
                assert model or newest[said.kind] != said or was[said.kind].content == said.content or not words

    asyncio.run(main())


def _newest(heard: list[Said], order: list[int]) -> dict[str, Said]:
    """Tell which message of each type is the newest."""
    ranked = sorted(heard, key=lambda said: (order.index(said.instance), said.sequence))
    return {said.kind: said for said in ranked}


@settings(max_examples=40, deadline=None)
@given(histories(("progress",)))
def test_in_any_history_progress_shows_what_was_heard_last_and_repetitions_change_nothing(
    history: list[tuple[Said, int]],
) -> None:
    async def main() -> None:
        place = Env()
        last: dict[int, int] = {}
        for said, receiver in history:
            place.seconds += 10
            await asyncio.sleep(10)
            before = place.stored()
            number = {"sequence": said.sequence, "instance": f"i{said.instance}", "receiver": receiver}
            step = 100 * said.instance + said.sequence
            outcome = await place.say("told", "progress", percent=said.content, step=step, **number)
            await asyncio.sleep(0.1)
            await place.flush()
            if said.sequence <= last.get(said.instance, 0):
                assert place.stored() == before
                continue
            assert outcome is Outcome.TAKEN
            last[said.instance] = said.sequence
            assert place.progress()["step"] == step

    simulate(main())


@settings(max_examples=40, deadline=None)
@given(histories(("progress",)))
def test_two_receivers_that_write_when_they_like_never_take_progress_back(history: list[tuple[Said, int]]) -> None:
    async def main() -> None:
        place, known, percent = Env(), dict[str, int](), 0
        for said, receiver in history:
            place.seconds += 1
            await asyncio.sleep(1)
            number = {"sequence": said.sequence, "instance": f"i{said.instance}", "receiver": receiver}
            await place.say("told", "progress", percent=said.content, **number)
            stored = place.stored()["status"].get("progress", {"percent": 0, "instances": []})
            counted = {each["instance"]: each["sequence"] for each in stored["instances"]}
            assert all(counted[name] >= number for name, number in known.items())
            assert stored["percent"] >= percent
            known, percent = counted, stored["percent"]
        await place.flush()
        counted = {each["instance"]: each["sequence"] for each in place.progress()["instances"]}
        by_number = sorted((said for said, _ in history), key=lambda said: said.sequence)
        assert counted == {f"i{said.instance}": said.sequence for said in by_number}

    simulate(main())
