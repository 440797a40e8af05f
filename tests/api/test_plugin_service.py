"""The service of the examples as a process: it believes Chorus alone, trains on home requests, and reports."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chorus_api.parameters import ParametersSchema
from chorus_api.project import Fields
from chorus_protocol.parse import parse
from docs_text import REPOSITORY
from plugin_process import Frame, penguins, prepared, python
from service_process import ServicePlace, public_key, service_place, signed

FOLDER = REPOSITORY / "examples" / "plugins" / "service"
REQUESTS = REPOSITORY / "examples" / "demo" / "data" / "home_requests.sqlite"
QUERY = "SELECT original_query, suggestions FROM ask_ai_queries WHERE suggestions <> '[]' ORDER BY created_at"
FIELDS = {
    "prompt": {"column": "original_query"},
    "response": {"column": "suggestions", "best": {"by": "confidence", "take": "description"}},
}


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Frame:
    folder = tmp_path_factory.mktemp("frame")
    fields = Fields.model_validate(FIELDS)
    return prepared(folder, REQUESTS, eval_fraction="0.1", format="sqlite", query=QUERY, fields=fields)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, frame: Frame) -> Iterator[ServicePlace]:
    folder, command = tmp_path_factory.mktemp("service"), python("-m", "nearest_answer")
    with service_place(folder, command=command, cwd=FOLDER, frame=frame.folder) as started:
        yield started


@pytest.fixture
def place(service: ServicePlace) -> ServicePlace:
    service.forget()
    return service


def test_it_answers_an_inquiry(place: ServicePlace) -> None:
    assert place.post(place.event("ONLINE_INQUIRY", attempt=0)) == 202
    [post] = place.receiver.wait_for_posts(1)
    report = parse(json.dumps(post.event).encode()).payload.model_dump()
    schema = ParametersSchema.model_validate(report["parameters_schema"])
    assert {name: rule.default for name, rule in schema.properties.items()} == report["parameters"]
    assert report["needed_columns"] == ["prompt", "response"]
    assert post.headers["authorization"] == "Bearer a-token-of-the-run"


def test_it_trains_on_the_frame_and_answers_far_better_than_a_guess(place: ServicePlace, frame: Frame) -> None:
    assert place.post(place.training_data(frame, parameters={"neighbours": 3})) == 202
    posts = place.receiver.wait_for_posts(13)  # with ten of progress
    messages = [parse(json.dumps(post.event).encode()) for post in posts]
    kinds = [str(each.envelope.type) for each in messages]
    assert kinds == ["DATA_REPORT", "TRAINING_START", *["progress"] * 10, "MODEL_NAME"]
    assert [each.envelope.sequence for each in messages] == list(range(1, 14))
    metrics = messages[-1].payload.model_dump()["metrics"]
    assert metrics["word_f1"] > 0.5 > metrics["majority_word_f1"] + 0.1
    uploads = place.exchange.uploads
    assert uploads.keys() == {"answers.jsonl", "model.json", "README.md"}
    assert len(uploads["answers.jsonl"].splitlines()) == frame.manifest.rows
    assert place.exchange.asked[:2] == ["GET /v1/frame/train.parquet", "GET /v1/frame/eval.parquet"]


def test_a_repeated_event_is_taken_and_nothing_is_done_twice(place: ServicePlace) -> None:
    event = place.event("ONLINE_INQUIRY", attempt=0)
    assert [place.post(event) for _ in range(3)] == [202, 202, 202]
    assert place.post(place.event("ONLINE_INQUIRY", subject="another", attempt=0)) == 202
    assert [post.event["subjectuid"] for post in place.receiver.wait_for_posts(2)].count("another") == 1
    assert len(place.receiver.posts) == 2


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"webhook-signature": "v1a,AAAA"}, "a signature of somebody else"),
        ({"webhook-signature": "v1,AAAA"}, "a signature of another kind"),
        ({"webhook-timestamp": "1000000000"}, "recorded long ago"),
        ({"webhook-timestamp": "soon"}, "no time"),
        ({"webhook-id": "another"}, "signed for another id"),
    ],
)
def test_what_chorus_did_not_send_is_refused(place: ServicePlace, headers: dict[str, str], why: str) -> None:
    assert place.post(place.event("ONLINE_INQUIRY", attempt=0), **headers) == 401, why
    body = json.dumps(place.event("ONLINE_INQUIRY", attempt=0)).encode()
    other = signed(Ed25519PrivateKey.generate(), body, identity="x", timestamp=0)
    assert place.post(place.event("ONLINE_INQUIRY", attempt=0), **other) == 401
    assert place.receiver.posts == []


@pytest.mark.parametrize("recipient", ["http://nearest-answer.another.svc:80/", "http://127.0.0.1/", "", None])
def test_an_event_that_is_meant_for_another_service_is_refused_although_chorus_signed_it(
    place: ServicePlace, recipient: str | None
) -> None:
    assert place.post(place.event("ONLINE_INQUIRY", attempt=0) | {"recipient": recipient}) == 403
    assert place.receiver.posts == []


def test_a_key_that_chorus_publishes_anew_counts_without_a_restart(place: ServicePlace) -> None:
    other = Ed25519PrivateKey.generate()
    replaced = replace(place, key=other)
    assert replaced.post(place.event("ONLINE_INQUIRY", attempt=0)) == 401
    place.key_file.write_text(public_key(other) + "\n", encoding="ascii")
    try:
        assert replaced.post(place.event("ONLINE_INQUIRY", attempt=0)) == 202
        assert place.post(place.event("ONLINE_INQUIRY", attempt=0)) == 401
    finally:
        place.key_file.write_text(public_key(place.key) + "\n", encoding="ascii")


def test_an_event_that_it_does_not_know_is_refused(place: ServicePlace) -> None:
    assert place.post(place.event("MODEL_NAME")) == 422


def test_a_frame_that_does_not_suit_is_not_applicable(tmp_path: Path) -> None:
    birds = penguins(tmp_path)
    command = python("-m", "nearest_answer")
    with service_place(tmp_path, command=command, cwd=FOLDER, frame=birds.folder) as place:
        assert place.post(place.training_data(birds)) == 202
        [post] = place.receiver.wait_for_posts(1)
    assert post.event["data"]["applicable"] is False
    assert "lacks prompt, response; it has species" in post.event["data"]["reason"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"neighbors": 1}, "parameters.neighbors: there is no such parameter"), ({"neighbours": 0}, "from 1 to 20")],
)
def test_a_wrong_parameter_is_named(place: ServicePlace, frame: Frame, parameters: dict[str, int], words: str) -> None:
    assert place.post(place.training_data(frame, parameters=parameters)) == 202
    [post] = place.receiver.wait_for_posts(1)
    assert post.event["type"] == "dev.chorus.ERROR_REPORT"
    assert words in post.event["data"]["detail"]


def test_messages_are_sent_again_until_they_are_taken(place: ServicePlace) -> None:
    for status in (503, 429):
        place.receiver.answer(status)
    assert place.post(place.event("ONLINE_INQUIRY", attempt=0)) == 202
    posts = place.receiver.wait_for_posts(3)
    assert len({post.event["id"] for post in posts}) == 1


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("nearest_answer.answers")


def test_the_most_similar_request_gives_the_answer(answers: ModuleType) -> None:
    pairs = [("turn on the light", "on"), ("turn off the light", "off"), ("open the garage", "open")]
    learned = answers.Answers.learned(pairs)
    assert learned.to("please OPEN the Garage!", neighbours=1) == "open"
    assert learned.to("turn the light off", neighbours=1) == "off"
    assert learned.to("wörter, die niemand kennt", neighbours=2) in {"on", "off", "open"}


def test_likeness_is_the_share_of_common_words(answers: ModuleType) -> None:
    assert answers.likeness("a b c", "a b c") == 1
    assert answers.likeness("a b", "c d") == 0
    assert answers.likeness("a b c d", "a b") == pytest.approx(2 * 2 / 6)
    assert answers.likeness("", "a") == 0
