"""Every message of a plugin over the cluster's network, from a pod and from a service, to two receivers at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from child_names import plain
from cluster_talk import GET_WHAT_CAME, RUNS, SECONDS, SERVICE, Talk, talking
from harness.client import Manifest
from harness.cluster import Cluster, conditions
from harness.killer import Killer

REFUSED = {
    "no token": (401, "noToken"),
    "a forged token": (401, "badToken"),
    "a token for another audience": (401, "badToken"),
    "a token that no pod is bound to": (403, "notAPod"),
    "a pod that is none of ours": (403, "wrongPod"),
    "who was asked something else": (403, "wrongPod"),
    "a message of a prepare pod": (403, "wrongPod"),
    "a message of an exchange": (403, "wrongPod"),
    "another run": (403, "wrongRun"),
    "an attempt that is over": (403, "wrongAttempt"),
    "an attempt that the sender is not": (403, "wrongAttempt"),
    "an attempt that is still to come": (403, "wrongAttempt"),
    "another Project's number": (403, "wrongIds"),
    "another Plugin's number": (403, "wrongIds"),
    "an unknown type": (422, "unknownType"),
    "no message at all": (422, "malformed"),
    "no JSON": (422, "malformed"),
    "a field that is missing": (422, "malformed"),
    "a loss that is no number": (422, "malformed"),
    "a body over 64 KiB": (413, "tooLarge"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def talk(cluster: Cluster, killer: Killer) -> AsyncIterator[Talk]:
    async with talking(cluster, killer) as held:
        yield held


@pytest.mark.parametrize("who", RUNS)
@pytest.mark.parametrize("what", REFUSED)
async def test_a_message_is_refused_for(talk: Talk, what: str, who: str) -> None:
    assert talk.refusals.answers[who][what] == [REFUSED[what]]


async def test_every_refusal_is_counted_and_logged_with_its_cause(talk: Talk) -> None:
    expected = Counter(cause for _, cause in REFUSED.values() for _ in RUNS)
    assert expected <= talk.counted
    lines = [json.loads(line) for line in talk.log.splitlines() if '"message refused"' in line]
    assert expected.keys() <= {line["cause"] for line in lines}


@pytest.mark.parametrize("who", RUNS)
async def test_refused_messages_leave_no_trace_in_status(talk: Talk, who: str) -> None:
    before, after = talk.reports.status(who), talk.refusals.status(who)
    assert after["report"] == before["report"]
    assert after["attempts"] == before["attempts"]
    assert after["phase"] == "TRAINING"


@pytest.mark.parametrize("who", RUNS)
async def test_what_comes_twice_or_to_two_receivers_at_once_is_taken_once(talk: Talk, who: str) -> None:
    answers = talk.reports.answers[who]
    assert answers["DATA_REPORT to both at once"] == [(202, None), (204, None)]
    assert answers["DATA_REPORT again"] == [(204, None)]
    assert talk.models.answers[who]["MODEL_NAME to both at once"] == [(202, None), (204, None)]
    assert talk.models.status(who)["report"]["modelName"]["modelName"] == "mine"


@pytest.mark.parametrize("who", RUNS)
async def test_an_older_number_never_replaces_what_is_known(talk: Talk, who: str) -> None:
    assert talk.reports.answers[who]["an older number that says otherwise"] == [(204, None)]
    assert talk.reports.status(who)["report"]["dataReport"]["applicable"] is True
    seen = [version.get("status", {}) for version in talk.place.record.versions("TrainingRun", name=RUNS[who])]
    percents = [status["progress"]["percent"] for status in seen if "progress" in status]
    assert percents == sorted(percents)
    assert {percent for percent in percents if percent < 100} <= {59, 60}
    assert 60 in percents


async def test_a_service_speaks_by_the_service_account_that_its_plugin_names(talk: Talk) -> None:
    assert talk.reports.answers["service"]["TRAINING_START by a service account"] == [(202, None)]
    assert "trainingStart" in talk.reports.status("service")["report"]


async def test_a_model_that_is_named_before_training_starts_counts_as_both(talk: Talk) -> None:
    answers, report = talk.models.answers["pod"], talk.models.status("pod")["report"]
    assert "trainingStart" in report
    assert answers["TRAINING_START after it"] == [(204, None)]
    assert answers["another name of an older number"] == [(204, None)]


@pytest.mark.parametrize("who", RUNS)
async def test_what_was_said_in_time_makes_the_run_trained_and_what_comes_late_changes_nothing(
    talk: Talk, who: str
) -> None:
    refused = {"pod": [(204, None)], "service": [(403, "wrongRun")]}[who]
    assert talk.late.answers[who] == {name: refused for name in ("MODEL_NAME", "ERROR_REPORT", "progress")}
    status = talk.late.status(who)
    assert (status["phase"], status["report"]["modelName"]["modelName"]) == ("TRAINED", "mine")
    assert "error" not in status["report"]
    assert status["model"]["metrics"] == {"final_loss": "0.25"}


async def test_a_service_that_answers_an_inquiry_is_online_once(talk: Talk) -> None:
    assert {status for status, _ in talk.inquiry["to both at once"]} <= {202, 204}
    plugin = await talk.place.wait("Plugin", "service", where=is_online, seconds=SECONDS)
    assert plugin["status"]["report"]["neededColumns"] == ["prompt"]


def is_online(plugin: Manifest) -> bool:
    return conditions(plugin).get("Online", {}).get("status") == "True"


async def test_a_service_is_told_the_frame_the_numbers_and_where_the_data_is(talk: Talk) -> None:
    project = await talk.place.api.get("Project", "talk", namespace=talk.place.namespace)
    told = [
        each for each in await talk.place.python(SERVICE, GET_WHAT_CAME) if each["type"] == "dev.chorus.TRAINING_DATA"
    ]
    assert [(each["attempt"], each["id"]) for each in told] == [
        (str(n), f"{talk.speakers['service'].run['metadata']['uid']}-{n}") for n in (1, 2)
    ]
    for each in told:
        assert each["data"]["training_df_name"] == project["status"]["dataset"]["name"]
        assert each["data"]["project_id"] == project["status"]["id"]
        exchange = urlsplit(each["data"]["location"]).netloc.partition(".")[0]
        assert plain(exchange) == f"ex-{RUNS['service']}-{each['attempt']}"


async def test_a_killed_training_is_tried_again_as_the_infrastructures_fault(talk: Talk) -> None:
    for who, reason in (("pod", "Killed"), ("service", "TrainingFailed")):
        status = talk.refusals.status(who)
        assert status["attempts"] == {"current": 2, "user": 0, "infrastructure": 1, "disruption": 0}
        assert status["failure"]["reason"] == reason
    assert talk.refusals.status("pod")["failure"]["exitCode"] == 137
