"""What the leader's stores know spares the receiver its reads; where they are behind, nothing is decided wrongly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chorus_api.contract import ATTEMPT_LABEL, PROJECT_ID_ANNOTATION
from chorus_kube.errors import Invalid
from chorus_kube.resources import PODS, TRAINING_RUNS
from chorus_operator.messages.runs import Outcome
from chorus_operator.settings import TokenCheck
from chorus_protocol.refusals import Cause, Refused
from fakes import Call
from leading_receiver import RUN, LeadingReceiver
from message_builders import ended, training_pod, training_run

Manifest = dict[str, Any]


@pytest.fixture
async def place() -> LeadingReceiver:
    return await LeadingReceiver.started()


async def refusal(place: LeadingReceiver, kind: str, **said: Any) -> Cause:
    """Send a message that is refused, and changes nothing."""
    before = place.kube.find(TRAINING_RUNS, RUN)
    with pytest.raises(Refused) as refused:
        await place.say(kind, **said)
    assert place.kube.find(TRAINING_RUNS, RUN) == before
    return refused.value.cause


# What it spares


async def test_a_run_that_speaks_costs_one_review_and_a_write_a_message_and_no_read(place: LeadingReceiver) -> None:
    place.kube.answers = place.known
    assert await place.say("DATA_REPORT", applicable=True, sequence=1) is Outcome.TAKEN
    assert await place.say("TRAINING_START", sequence=2) is Outcome.TAKEN
    assert await place.say("progress", percent=5, sequence=3) is Outcome.TAKEN
    await place.inbox.progress.flush()
    assert await place.say("MODEL_NAME", sequence=4, model_name="m") is Outcome.TAKEN
    assert place.asked() == {"token_review": 1, "apply_status": 4}
    assert {"dataReport", "trainingStart", "modelName"} <= place.status()["report"].keys()
    assert place.status()["progress"]["percent"] == 5


async def test_a_report_and_progress_at_once_do_not_run_into_each_other(place: LeadingReceiver) -> None:
    place.kube.answers = place.known
    await asyncio.gather(
        place.say("progress", percent=5, sequence=1),
        place.say("TRAINING_START", sequence=2),
        place.say("progress", percent=100, sequence=3),
        place.say("MODEL_NAME", sequence=4, model_name="m"),
    )
    await place.inbox.progress.flush()
    assert place.inbox.progress.writes["conflict"] == 0
    assert not {"get TrainingRun", "get Pod"} & place.asked().keys()


async def test_what_the_receiver_wrote_is_known_to_it_before_the_main_loop_takes_it_in(place: LeadingReceiver) -> None:
    written = place.put_run(message="written by the receiver")
    place.known.answered(TRAINING_RUNS, written, own=True)
    assert place.known.get(TRAINING_RUNS, "default", RUN) == written
    stored = place.stores.of(TRAINING_RUNS).peek("default", RUN)
    assert stored is not None
    assert "message" not in stored["status"]


async def test_what_the_receiver_wrote_wakes_the_reconcile_as_a_change_by_others(place: LeadingReceiver) -> None:
    place.kube.answers = place.known
    place.changes.clear()
    await place.say("DATA_REPORT", applicable=True)
    await place.arrived()
    assert place.changes == [(RUN, False, False)]
    stored = await place.stores.get(TRAINING_RUNS, namespace="default", name=RUN)
    assert stored is not None
    assert stored["status"] == place.status()


async def test_what_a_reconcile_writes_is_known_to_the_receiver_at_once(place: LeadingReceiver) -> None:
    place.kube.answers = place.stores
    await place.kube.patch_status(
        TRAINING_RUNS,
        namespace="default",
        name=RUN,
        status={"phase": "TRAINING"},
        resource_version=place.run["metadata"]["resourceVersion"],
    )
    place.asked()
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    assert place.asked() == {"token_review": 1, "apply_status": 1}


# A run of which an older state is known


async def test_an_attempt_that_is_not_known_yet_is_looked_for_before_it_is_asked_to_come_again(
    place: LeadingReceiver,
) -> None:
    run = place.put_run(attempts={"current": 2})
    place.put_pod(training_pod(run, name="pod-2", attempt=2))
    assert await place.say("DATA_REPORT", by="pod-2", attempt=2, applicable=True) is Outcome.TAKEN
    assert place.status()["report"]["attempt"] == 2


@pytest.mark.parametrize("kind", ["TRAINING_START", "MODEL_NAME"])
async def test_an_attempt_that_is_over_is_refused_although_it_is_known_as_the_present_one(
    place: LeadingReceiver, kind: str
) -> None:
    place.put_run(attempts={"current": 2})
    assert await refusal(place, kind, model_name="m") is Cause.WRONG_ATTEMPT


@pytest.mark.parametrize("kind", ["TRAINING_START", "progress"])
async def test_an_attempt_that_is_known_to_be_over_is_looked_at_before_it_is_refused(
    place: LeadingReceiver, kind: str
) -> None:
    place.put_run(attempts={"current": 2})
    place.catch_up()
    place.asked()
    assert await refusal(place, kind, percent=1) is Cause.WRONG_ATTEMPT
    assert place.asked()["get TrainingRun"] == 1


@pytest.mark.parametrize("kind", ["TRAINING_START", "MODEL_NAME"])
async def test_a_run_that_is_gone_is_refused_although_it_is_known(place: LeadingReceiver, kind: str) -> None:
    place.kube.remove(TRAINING_RUNS, RUN)
    assert await refusal(place, kind, model_name="m") is Cause.WRONG_RUN


async def test_another_run_of_the_same_name_is_not_written_to(place: LeadingReceiver) -> None:
    place.kube.remove(TRAINING_RUNS, RUN)
    place.kube.put(training_run())
    assert await refusal(place, "TRAINING_START") is Cause.WRONG_RUN


async def test_a_run_of_whose_name_another_one_is_known_is_looked_for(place: LeadingReceiver) -> None:
    place.kube.remove(TRAINING_RUNS, RUN)
    again = place.put_run()
    place.put_pod(training_pod(again, name="pod-2"))
    assert await place.say("TRAINING_START", by="pod-2", run=again) is Outcome.TAKEN


async def test_a_run_that_is_not_known_is_read(place: LeadingReceiver) -> None:
    place.stores.of(TRAINING_RUNS).remove("default", RUN, place.run["metadata"]["uid"])
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    assert place.asked() == {"token_review": 1, "get TrainingRun": 1, "apply_status": 1}


async def test_a_run_whose_state_is_in_doubt_is_read(place: LeadingReceiver) -> None:
    place.put_run(message="somebody wrote")
    place.stores.doubt(TRAINING_RUNS, "default", RUN)
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    assert place.asked() == {"token_review": 1, "get TrainingRun": 1, "apply_status": 1}


async def test_a_write_over_what_is_behind_is_made_again_over_what_there_is(place: LeadingReceiver) -> None:
    place.put_run(message="somebody wrote")
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    assert place.status()["message"] == "somebody wrote"
    assert place.asked() == {"token_review": 1, "get TrainingRun": 1, "apply_status": 2}


@pytest.mark.parametrize("kind", ["ERROR_REPORT", "progress"])
@pytest.mark.parametrize("known", [True, False])
async def test_an_ended_run_is_not_changed_whether_its_end_is_known_or_not(
    place: LeadingReceiver, kind: str, known: bool
) -> None:
    place.put_run(conditions=[ended("False")])
    if known:
        place.catch_up()
    before = place.status()
    outcome = await place.say(kind, detail="late", percent=3)
    await place.inbox.progress.flush()
    assert place.status() == before
    assert outcome is Outcome.KNOWN or (kind, known) == ("progress", False), "that is acknowledged, and dropped later"
    assert place.asked()["get TrainingRun"] >= 1


async def test_that_a_message_is_known_is_said_by_the_api_server(place: LeadingReceiver) -> None:
    await place.say("TRAINING_START")
    place.catch_up()
    place.asked()
    assert await place.say("TRAINING_START") is Outcome.KNOWN
    assert place.asked() == {"get TrainingRun": 1}


async def test_what_the_api_server_cannot_store_is_refused_by_what_there_is(place: LeadingReceiver) -> None:
    def refuse(call: Call) -> None:
        if call.verb == "apply_status":
            raise Invalid("status.report.modelName: too long")

    place.kube.before = refuse
    assert await refusal(place, "TRAINING_START") is Cause.MALFORMED
    assert place.asked()["get TrainingRun"] == 1


# Another pod of the attempt


async def test_a_second_pod_is_refused_although_it_is_not_known_that_the_first_has_spoken(
    place: LeadingReceiver,
) -> None:
    await place.say("DATA_REPORT", applicable=True)
    place.put_pod(training_pod(place.run, name="pod-2"))
    assert await refusal(place, "TRAINING_START", by="pod-2") is Cause.WRONG_POD


@pytest.mark.parametrize("kind", ["TRAINING_START", "progress"])
async def test_a_second_pod_takes_over_from_one_that_is_known_and_gone(place: LeadingReceiver, kind: str) -> None:
    await place.say("DATA_REPORT", applicable=True)
    second = place.put_pod(training_pod(place.run, name="pod-2"))
    place.catch_up()
    place.kube.remove(PODS, "pod-1")
    assert await place.say(kind, by="pod-2", percent=3) is Outcome.TAKEN
    if kind != "progress":
        assert place.status()["report"]["podUid"] == second["metadata"]["uid"]


# The sender's pod


async def test_a_pod_that_is_not_known_is_read(place: LeadingReceiver) -> None:
    place.put_pod(training_pod(place.run, name="pod-2"))
    assert await place.say("TRAINING_START", by="pod-2") is Outcome.TAKEN
    assert place.asked() == {"token_review": 1, "get Pod": 1, "apply_status": 1}


async def test_a_pod_of_whose_name_another_one_is_known_is_read(place: LeadingReceiver) -> None:
    place.kube.remove(PODS, "pod-1")
    again = place.put_pod(training_pod(place.run))
    assert again["metadata"]["uid"] != place.pod["metadata"]["uid"]
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    assert place.status()["report"]["podUid"] == again["metadata"]["uid"]
    assert place.asked()["get Pod"] == 1


async def test_a_token_of_a_pod_that_is_gone_is_refused_by_what_there_is(place: LeadingReceiver) -> None:
    place.kube.remove(PODS, "pod-1")
    place.stores.of(PODS).remove("default", "pod-1", place.pod["metadata"]["uid"])
    assert await refusal(place, "TRAINING_START") is Cause.WRONG_POD
    assert place.asked()["get Pod"] == 1


@pytest.mark.parametrize("change", ["another attempt", "no project id", "overdue"])
async def test_what_is_known_of_a_pod_is_not_enough_to_refuse_it(place: LeadingReceiver, change: str) -> None:
    older = {**place.pod["metadata"], "name": "pod-2", "uid": "uid-2", "resourceVersion": "9999"}
    match change:
        case "another attempt":
            older = {**older, "labels": {**older["labels"], ATTEMPT_LABEL: "one"}}
        case "no project id":
            kept = {name: value for name, value in older["annotations"].items() if name != PROJECT_ID_ANNOTATION}
            older = {**older, "annotations": kept}
        case _:
            older = {**older, "deletionTimestamp": "2025-12-31T00:00:00Z"}
    place.stores.seen(PODS, {**place.pod, "metadata": older})
    place.put_pod(training_pod(place.run, name="pod-2", uid="uid-2"))
    assert await place.say("TRAINING_START", by="pod-2") is Outcome.TAKEN
    assert place.asked()["get Pod"] == 1


async def test_where_no_review_asks_for_the_pod_it_is_read_for_each_message_that_counts() -> None:
    place = await LeadingReceiver.started(token_check=TokenCheck.PUBLISHED_KEYS)
    assert await place.say("DATA_REPORT", applicable=True) is Outcome.TAKEN
    place.kube.remove(PODS, "pod-1")
    assert await refusal(place, "TRAINING_START", sequence=2) is Cause.WRONG_POD


# Progress


async def said(place: LeadingReceiver, **data: Any) -> None:
    """Have progress written."""
    assert await place.say("progress", percent=40, **data) is Outcome.TAKEN
    await place.inbox.progress.flush()


async def test_progress_over_what_is_behind_is_written_over_what_there_is(place: LeadingReceiver) -> None:
    place.put_run(message="somebody wrote")
    await said(place)
    assert (place.status()["message"], place.status()["progress"]["percent"]) == ("somebody wrote", 40)
    assert place.inbox.progress.writes == {"conflict": 1, "written": 1}


@pytest.mark.parametrize("now", ["ended", "at the next attempt", "gone", "another"])
async def test_progress_of_a_run_that_is_known_to_go_on_is_not_written_when_it_does_not(
    place: LeadingReceiver, now: str
) -> None:
    match now:
        case "ended":
            place.put_run(conditions=[ended("True")])
        case "at the next attempt":
            place.put_run(attempts={"current": 2})
        case _:
            place.kube.remove(TRAINING_RUNS, RUN)
            if now == "another":
                place.kube.put(training_run())
    before = place.kube.find(TRAINING_RUNS, RUN)
    await said(place)
    assert place.kube.find(TRAINING_RUNS, RUN) == before
    assert len(place.inbox.progress) == 0


async def test_progress_of_a_run_that_is_known_at_an_older_attempt_is_written(place: LeadingReceiver) -> None:
    run = place.put_run(attempts={"current": 2})
    place.put_pod(training_pod(run, name="pod-2", attempt=2))
    await said(place, by="pod-2", attempt=2)
    assert place.status()["progress"]["attempt"] == 2


# Where nobody leads


async def test_a_process_that_does_not_lead_reads_and_tells_its_stores_nothing(place: LeadingReceiver) -> None:
    place.known.open = False
    place.kube.answers = place.known
    place.changes.clear()
    assert await place.say("TRAINING_START") is Outcome.TAKEN
    await place.arrived()
    assert place.asked() == {"token_review": 1, "get Pod": 1, "get TrainingRun": 1, "apply_status": 1}
    assert place.changes == []
