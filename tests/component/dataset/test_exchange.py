"""The exchange over real HTTPS: what a service may read and write, and that it can do no more."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import TerminationRecord
from chorus_client.stop import StopFlag
from chorus_dataset.errors import DataError
from chorus_dataset.jobs import exchange as module
from chorus_dataset.jobs.exchange import run_exchange
from chorus_dataset.jobs.exchange_certificate import make_certificate
from exchange_builders import FRAME, TOKEN, Exchange, exchange_config, exchanging, lay_frame, trusting
from message_receiver import Receiver

WEIGHTS = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "


@pytest.fixture
def exchange(tmp_path: Path, receiver: Receiver) -> Iterator[Exchange]:
    with exchanging(tmp_path, receiver, laid=lay_frame(tmp_path)) as running:
        yield running


# The frame


def test_an_exchange_tells_its_certificate_by_a_message_of_its_attempt(exchange: Exchange, receiver: Receiver) -> None:
    event = receiver.posts[0].event
    assert (event["type"], event["attempt"]) == ("dev.chorus.EXCHANGE_READY", "2")
    assert event["data"]["project_id"] == 4095123
    certificate = x509.load_pem_x509_certificate(event["data"]["certificate"].encode())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "PRIVATE" not in str(event)


def test_a_service_that_trusts_the_certificate_reads_the_frame(exchange: Exchange) -> None:
    for name, content in FRAME.items():
        answer = exchange.get(name)
        assert (answer.status_code, answer.content) == (200, content)


def test_a_download_that_was_cut_off_goes_on_where_it_was(exchange: Exchange) -> None:
    answer = exchange.get("train.parquet", Range="bytes=100-")
    assert (answer.status_code, answer.content) == (206, FRAME["train.parquet"][100:])


def test_nobody_connects_who_trusts_another_certificate(exchange: Exchange) -> None:
    other = make_certificate(["localhost"], now=datetime.now(UTC)).chain.decode()
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"https://localhost:{exchange.port}/v1/frame/frame.json", verify=trusting(other), trust_env=False)


STRANGERS = (
    "",
    "Bearer",
    f"Basic {TOKEN}",
    f"Bearer {TOKEN}x",
    f"Bearer {hashlib.sha256(TOKEN.encode()).hexdigest()}",
    "Bearer t\xf6ken",
)


def test_without_the_token_there_is_nothing_to_see(exchange: Exchange) -> None:
    for method, path in (
        ("GET", "/v1/frame/frame.json"),
        ("PUT", "/v1/artefact/a.json"),
        ("DELETE", "/v1/artefact/a.json"),
        ("GET", "/"),
    ):
        for given in STRANGERS:
            answer = exchange.client.request(method, path, headers=[(b"Authorization", given.encode("latin-1"))])
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path, given)
    assert exchange.files == {}


def test_only_the_frames_three_files_are_served(exchange: Exchange) -> None:
    for name in ("other.parquet", "..%2f..%2fetc%2fpasswd", "%2e%2e", "frame.json%00", "x/frame.json"):
        assert exchange.get(name).status_code == 404, name


def test_another_method_is_told_what_is_allowed(exchange: Exchange) -> None:
    answer = exchange.client.post("/v1/artefact/a.json", content=b"{}")
    assert answer.status_code == 405
    assert "PUT" in answer.headers["allow"]


# The artefact


def test_a_file_that_is_put_is_in_the_artefact_and_its_digest_is_told(exchange: Exchange) -> None:
    answer = exchange.put("weights/model.safetensors", WEIGHTS)
    assert answer.status_code == 201
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert answer.json() == {"name": "weights/model.safetensors", "bytes": len(WEIGHTS), "sha256": sha256}
    assert exchange.files == {"weights/model.safetensors": WEIGHTS}


def test_a_file_that_is_put_again_takes_the_place_of_the_first(exchange: Exchange) -> None:
    assert exchange.put("a.json", b"{}").status_code == 201
    assert exchange.put("a.json", b"[]").status_code == 200
    assert exchange.files == {"a.json": b"[]"}


def test_a_file_of_many_blocks_comes_whole(tmp_path: Path, receiver: Receiver) -> None:
    content = bytes(range(256)) * 4096 * 5
    with exchanging(tmp_path, receiver, laid=lay_frame(tmp_path), max_bytes=len(content)) as exchange:
        assert exchange.put("m.safetensors", content).json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert exchange.files["m.safetensors"] == content


def test_an_empty_file_is_a_file(exchange: Exchange) -> None:
    assert exchange.put("notes.txt", b"").status_code == 201
    assert exchange.files == {"notes.txt": b""}


@pytest.mark.parametrize(
    "header",
    [
        {"X-Content-SHA256": hashlib.sha256(WEIGHTS).hexdigest().upper()},
        {"Digest": f"sha-256={base64.b64encode(hashlib.sha256(WEIGHTS).digest()).decode()}"},
        {"Content-Digest": f"sha-512=:AA==:, sha-256=:{base64.b64encode(hashlib.sha256(WEIGHTS).digest()).decode()}:"},
    ],
)
def test_a_digest_that_agrees_is_taken_and_one_that_does_not_is_refused(
    exchange: Exchange, header: dict[str, str]
) -> None:
    assert exchange.put("m.safetensors", WEIGHTS, **header).status_code == 201
    answer = exchange.put("n.safetensors", WEIGHTS + b" ", **header)
    assert answer.status_code == 422
    assert "send it again" in answer.json()["error"]
    assert list(exchange.files) == ["m.safetensors"]


@pytest.mark.parametrize(
    "header", [{"X-Content-SHA256": "abc"}, {"Digest": "sha-256=***"}, {"Content-Digest": "sha-256=::"}]
)
def test_a_digest_that_is_none_is_refused(exchange: Exchange, header: dict[str, str]) -> None:
    assert exchange.put("a.json", **header).status_code == 422
    assert exchange.files == {}


BAD_NAMES = (
    "model.pkl",
    "model.bin",
    "run.py",
    "noextension",
    "..%2f..%2fa.json",
    "%2e%2e/a.json",
    "/a.json",
    "a//b.json",
    ".hidden.json",
    "a b.json",
    "a%00.json",
    "x" * 200 + ".json",
    "/".join("abcdefghi") + ".json",
)


def test_a_path_that_leaves_the_artefact_or_is_of_another_kind_is_refused(exchange: Exchange) -> None:
    for name in BAD_NAMES:
        raw = httpx.URL(f"https://localhost:{exchange.port}/", raw_path=f"/v1/artefact/{name}".encode())
        assert exchange.client.request("PUT", raw, content=b"{}").status_code in {404, 422}, name
    assert exchange.files == {}


def test_a_file_cannot_be_a_directory_too(exchange: Exchange) -> None:
    assert exchange.put("a.json").status_code == 201
    assert exchange.put("a.json/b.json").status_code == 409
    assert exchange.put("c.json/d.json").status_code == 201
    assert exchange.put("c.json").status_code == 409


def test_a_deleted_file_is_gone_and_makes_room(exchange: Exchange) -> None:
    assert exchange.put("a.json/b.json", b"x" * 900_000).status_code == 201
    assert exchange.put("c.json", b"x" * 200_000).status_code == 413
    assert exchange.delete("a.json/b.json").status_code == 204
    assert exchange.delete("a.json/b.json").status_code == 404
    assert exchange.put("a.json", b"x" * 200_000).status_code == 201
    assert list(exchange.files) == ["a.json"]


def test_more_bytes_than_there_is_room_for_are_refused_whether_they_are_told_or_not(exchange: Exchange) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    assert exchange.put("a.json", b"x" * 600_000).status_code == 201
    assert exchange.put("b.json", b"x" * 600_000).status_code == 413
    assert refused_or_cut(exchange, pieces())
    assert exchange.put("a.json", b"x" * 1_000_000).status_code == 200, (
        "what takes a file's place needs no room beside it"
    )
    assert list(exchange.files) == ["a.json"]


def refused_or_cut(exchange: Exchange, pieces: Iterator[bytes]) -> bool:
    """Whoever sends on after a refusal may find the connection closed before the answer."""
    try:
        return exchange.put("b.json", pieces).status_code == 413
    except httpx.WriteError:
        return True


def test_more_files_than_an_artefact_may_have_are_refused(exchange: Exchange) -> None:
    assert [exchange.put(f"{number}.json").status_code for number in range(6)] == [201] * 5 + [413]


def test_a_plugin_without_an_artefact_cannot_leave_one(tmp_path: Path, receiver: Receiver) -> None:
    with exchanging(tmp_path, receiver, laid=lay_frame(tmp_path), max_bytes=0) as exchange:
        answer = exchange.put("a.json")
        assert (answer.status_code, exchange.files) == (403, {})
        assert "artefact: None" in answer.json()["error"]


def test_a_compressed_body_is_refused(exchange: Exchange) -> None:
    assert exchange.put("a.json", b"x", Content_Encoding="gzip").status_code == 415


def test_a_file_that_comes_in_part_is_not_in_the_artefact_and_gives_its_room_back(
    exchange: Exchange, tmp_path: Path
) -> None:
    head = f"PUT /v1/artefact/a.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    context = trusting(exchange.certificate)
    with context.wrap_socket(
        socket.create_connection(("127.0.0.1", exchange.port), timeout=20), server_hostname="localhost"
    ) as line:
        line.sendall(head.encode() + b"Content-Length: 900000\r\n\r\n" + b"x" * 1000)
        while not list((tmp_path / "run" / ".uploads").iterdir()):
            pass
    put_when_free(exchange)
    assert exchange.files == {"b.json": b"x" * 900_000}
    assert list((tmp_path / "run" / ".uploads").iterdir()) == []


def put_when_free(exchange: Exchange) -> None:
    """The server notices after a moment that nobody is there any more."""
    for _ in range(200):
        if exchange.put("b.json", b"x" * 900_000).status_code == 201:
            return
    raise AssertionError("the room was not given back")


def test_a_sender_that_stops_sending_is_not_waited_for(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_SECONDS", 0.2)
    head = (
        f"PUT /v1/artefact/a.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\nab"
    )
    context = trusting(exchange.certificate)
    with context.wrap_socket(
        socket.create_connection(("127.0.0.1", exchange.port), timeout=20), server_hostname="localhost"
    ) as line:
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 408")
    assert exchange.files == {}


def test_what_an_earlier_attempt_left_is_not_in_the_artefact_of_this_one(tmp_path: Path, receiver: Receiver) -> None:
    data, run = lay_frame(tmp_path)
    (run / "out" / "deep").mkdir(parents=True)
    (run / "out" / "deep" / "old.safetensors").write_bytes(b"old")
    (run / ".uploads").symlink_to(tmp_path / "elsewhere")
    (run / "checkpoint.json").write_bytes(b"{}")
    with exchanging(tmp_path, receiver, laid=(data, run)) as exchange:
        assert exchange.files == {}
        assert exchange.put("new.json").status_code == 201
    assert [path.name for path in sorted(run.iterdir())] == ["checkpoint.json", "out"]


def test_no_key_and_no_token_is_in_a_file_of_the_exchange(tmp_path: Path, receiver: Receiver) -> None:
    with exchanging(tmp_path, receiver, laid=lay_frame(tmp_path)) as exchange:
        exchange.put("a.json")
        for path in (tmp_path / "run").rglob("*"):
            assert not path.is_file() or b"PRIVATE" not in path.read_bytes()
    assert TOKEN not in exchange_config(receiver).model_dump_json()


def test_a_frame_that_is_not_complete_is_not_served(tmp_path: Path, receiver: Receiver) -> None:
    data, run = lay_frame(tmp_path, without="eval.parquet")
    with pytest.raises(DataError, match=r"eval\.parquet") as caught:
        run_exchange(exchange_config(receiver), attempt=1, data_dir=data, run_dir=run, stop=StopFlag())
    assert caught.value.reason is Reason.INTERNAL_ERROR


def test_the_pods_command_serves_until_it_is_told_to_stop(tmp_path: Path, receiver: Receiver) -> None:
    data, run = lay_frame(tmp_path)
    config, log = tmp_path / "job.json", tmp_path / "termination-log"
    config.write_text(exchange_config(receiver).model_dump_json(by_alias=True))
    places = {"--config": config, "--data": data, "--run": run, "--termination-log": log}
    words = [str(word) for pair in places.items() for word in pair]
    command = [sys.executable, "-m", "chorus_dataset", "exchange", *words]
    roots = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(command, env={"PYTHONPATH": roots, "CHORUS_ATTEMPT": "3"}, stderr=subprocess.PIPE)
    try:
        event = receiver.wait_for_posts(1)[0].event
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (event["type"], event["attempt"]) == ("dev.chorus.EXCHANGE_READY", "3")
    assert process.returncode == ExitCode.PREEMPTED, error.decode()
    assert TerminationRecord.model_validate_json(log.read_bytes()).outcome == "preempted"
