"""Frames out of files that are somewhere else: a real S3 server, and an HTTPS server that misbehaves as told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from dataset_builders import Frame, csv_text, requests
from harness.objects import BUCKET, REGION, Objects, serving_objects
from harness.web import Answer, Web, serving_web
from local_sources import local_egress
from source_builders import fetched, secret_files, service_account_token

CONTENT = csv_text(requests(50)).encode()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def objects() -> Iterator[Objects]:
    with serving_objects() as running:
        running.put("rooms/requests.csv", CONTENT)
        yield running


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving_web(tmp_path) as running:
        running.answers["/requests.csv"] = Answer(body=CONTENT)
        yield running


@pytest.fixture
def plain_web(tmp_path: Path) -> Iterator[Web]:
    with serving_web(tmp_path, tls=False) as running:
        yield running


def frame(url: str, *, volume: Path, **changes: Any) -> Frame:
    config = fetched(url, **changes)
    manifest = prepare_frame(config, volume, egress=local_egress(config))
    return Frame(manifest, volume / "frames" / manifest.name)


def error(url: str, *, volume: Path, **changes: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        frame(url, volume=volume, **changes)
    assert list((volume / "frames").iterdir()) == [], "nothing is left of what was fetched"
    return caught.value


def s3_secret(objects: Objects, folder: Path, **changes: str) -> Path:
    keys = {"access_key_id": objects.key, "secret_access_key": objects.secret, "endpoint_url": objects.url}
    return secret_files(folder / "secret", **{**keys, "region": REGION, **changes})


# S3


def test_an_object_of_s3_becomes_a_frame(objects: Objects, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/rooms/requests.csv"
    found = frame(url, volume=tmp_path, secret=s3_secret(objects, tmp_path), sha256=DIGEST)
    assert len(found.train) == 50


def test_an_object_of_many_blocks_arrives_whole(objects: Objects, tmp_path: Path) -> None:
    rows = "".join(f"{number},{'x' * 400}\n" for number in range(45_000))
    objects.put("large.csv", f"number,text\n{rows}".encode())
    found = frame(f"s3://{BUCKET}/large.csv", volume=tmp_path, secret=s3_secret(objects, tmp_path), max_rows=None)
    assert found.manifest.rows == 45_000
    assert {column.name: column.max for column in found.manifest.columns}["number"] == "44999"


def test_an_object_with_another_digest_is_not_read(objects: Objects, tmp_path: Path) -> None:
    objects.put("changed.csv", CONTENT + b"no,row\n")
    found = error(f"s3://{BUCKET}/changed.csv", volume=tmp_path, secret=s3_secret(objects, tmp_path), sha256=DIGEST)
    assert found.reason is Reason.DIGEST_MISMATCH
    assert DIGEST in found.message
    assert hashlib.sha256(CONTENT + b"no,row\n").hexdigest() in found.message


def test_an_object_that_is_not_there_is_named(objects: Objects, tmp_path: Path) -> None:
    found = error(f"s3://{BUCKET}/none.csv", volume=tmp_path, secret=s3_secret(objects, tmp_path))
    assert found.reason is Reason.FILE_NOT_FOUND
    assert f"s3://{BUCKET}/none.csv does not exist" in found.message


@pytest.mark.parametrize(
    "changes", [{"secret_access_key": "not-the-right-one"}, {"access_key_id": "AKIANOTTHERIGHTONE00"}]
)
def test_wrong_keys_are_told_from_a_missing_object(objects: Objects, tmp_path: Path, changes: dict[str, str]) -> None:
    secret = s3_secret(objects, tmp_path, **changes)
    found = error(f"s3://{BUCKET}/rooms/requests.csv", volume=tmp_path, secret=secret)
    assert (found.reason, found.retryable) == (Reason.ACCESS_DENIED, False)
    assert "Secret 'reader'" in found.message
    assert not any(value in found.detail for value in (*changes.values(), objects.secret))


def test_a_store_that_is_not_there_is_worth_another_try(objects: Objects, tmp_path: Path) -> None:
    secret = s3_secret(objects, tmp_path, endpoint_url="http://127.0.0.1:1")
    found = error(f"s3://{BUCKET}/rooms/requests.csv", volume=tmp_path, secret=secret)
    assert (found.reason, found.retryable) == (Reason.SOURCE_UNREACHABLE, True)


# HTTPS


def web_secret(web: Web, folder: Path, **keys: str) -> Path:
    return secret_files(
        folder / "secret", **{"ca.crt": web.authority, "token": "t0ken-of-mine", "hosts": web.host, **keys}
    )


def test_a_file_of_a_web_server_becomes_a_frame(web: Web, tmp_path: Path) -> None:
    secret = web_secret(web, tmp_path)
    found = frame(f"{web.url}/requests.csv?version=3", volume=tmp_path, secret=secret, sha256=DIGEST)
    assert len(found.train) == 50
    assert {authorization for _, authorization in web.requests} == {"Bearer t0ken-of-mine"}


def test_a_header_of_the_secret_is_sent_as_it_is(web: Web, tmp_path: Path) -> None:
    frame(f"{web.url}/requests.csv", volume=tmp_path, secret=web_secret(web, tmp_path, authorization="Basic YTpi"))
    assert {authorization for _, authorization in web.requests} == {"Basic YTpi"}


@pytest.mark.parametrize(
    ("answer", "reason", "words", "retryable"),
    [
        (Answer(401), Reason.ACCESS_DENIED, "(HTTP 401)", False),
        (Answer(403), Reason.ACCESS_DENIED, "with the credentials of Secret 'reader'", False),
        (Answer(404), Reason.FILE_NOT_FOUND, "does not exist", False),
        (Answer(503), Reason.SOURCE_UNREACHABLE, "HTTP 503", True),
        (Answer(200, CONTENT, announce=len(CONTENT) + 10), Reason.SOURCE_UNREACHABLE, "cannot be fetched", True),
        (
            Answer(302, headers={"Location": "http://example.invalid/a"}),
            Reason.SOURCE_REFUSED,
            "it is not https",
            False,
        ),
        (Answer(302, headers={"Location": "/a.csv"}), Reason.SOURCE_UNREACHABLE, "TooManyRedirects", True),
    ],
)
def test_what_a_web_server_says_is_told_apart(
    web: Web, tmp_path: Path, answer: Answer, reason: Reason, words: str, retryable: bool
) -> None:
    web.answers["/a.csv"] = answer
    found = error(f"{web.url}/a.csv?sig=s3cr3t", volume=tmp_path, secret=web_secret(web, tmp_path))
    assert (found.reason, found.retryable) == (reason, retryable)
    assert words in found.message
    assert "s3cr3t" not in found.detail
    assert "t0ken" not in found.detail


@pytest.mark.parametrize(
    "target",
    [
        "https://169.254.169.254/latest/meta-data/a.csv",
        "https://2852039166/latest/a.csv",
        "https://[fe80::1]/a.csv",
        "https://[::ffff:169.254.169.254]/a.csv",
        "https://kubernetes.default.svc.cluster.local/api/a.csv",
        "https://10.96.0.1/api/v1/secrets/a.csv",
    ],
)
def test_neither_a_url_nor_a_redirect_leads_to_metadata_or_the_api_server(
    web: Web, tmp_path: Path, target: str
) -> None:
    secret = web_secret(web, tmp_path)
    web.answers["/away.csv"] = Answer(302, headers={"Location": target})
    for url in (target, f"{web.url}/away.csv"):
        with pytest.raises(DataError) as caught:
            frame(url, volume=tmp_path, secret=secret, api_server=["10.96.0.1"])
        assert caught.value.reason is Reason.SOURCE_REFUSED, caught.value.message
        assert caught.value.exit_code == 64


def test_credentials_do_not_follow_a_redirect_to_another_server(web: Web, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with serving_web(tmp_path / "other") as other:
        other.answers["/requests.csv"] = Answer(body=CONTENT)
        web.answers["/away.csv"] = Answer(302, headers={"Location": f"{other.url}/requests.csv"})
        secret = web_secret(web, tmp_path, **{"ca.crt": web.authority + other.authority})
        frame(f"{web.url}/away.csv", volume=tmp_path, secret=secret)
        assert {authorization for _, authorization in other.requests} == {None}


@pytest.mark.parametrize(
    "hosts", [None, "data.example", "127.0.0.1", "127.0.0.1:1", "other.example,127.0.0.1:", "*", "*:{port}", ".0.0.1"]
)
@pytest.mark.parametrize("key", ["token", "authorization"])
def test_credentials_go_to_no_host_that_their_secret_does_not_name(
    web: Web, tmp_path: Path, hosts: str | None, key: str
) -> None:
    keys = {"ca.crt": web.authority, key: "t0ken-of-mine"}
    if hosts is not None:
        keys["hosts"] = hosts.format(port=web.host.partition(":")[2])
    found = error(f"{web.url}/requests.csv", volume=tmp_path, secret=secret_files(tmp_path / "secret", **keys))
    assert (found.reason, found.exit_code) == (Reason.BAD_CONFIGURATION, 64)
    assert f"Secret 'reader' does not say that its credentials are for {web.host}" in found.message
    assert "kubectl patch secret reader" in found.hint
    assert web.host in found.hint
    assert "t0ken" not in found.detail
    assert web.requests == []


def test_a_secret_may_name_several_hosts(web: Web, tmp_path: Path) -> None:
    secret = web_secret(web, tmp_path, hosts=f"data.example,\n {web.host}  other.example:8443")
    assert len(frame(f"{web.url}/requests.csv", volume=tmp_path, secret=secret).train) == 50


@pytest.mark.parametrize("key", ["token", "authorization", "hosts"])
def test_the_token_of_a_service_account_is_sent_to_no_server(web: Web, tmp_path: Path, key: str) -> None:
    secret = web_secret(web, tmp_path, **{key: f"Bearer {service_account_token()}"})
    found = error(f"{web.url}/requests.csv", volume=tmp_path, secret=secret)
    assert found.reason is Reason.BAD_CONFIGURATION
    assert "holds the token of a Kubernetes service account" in found.message
    assert web.requests == []


def test_the_secret_of_a_service_account_is_used_for_nothing(web: Web, tmp_path: Path) -> None:
    """By its keys, whatever the token in it looks like."""
    secret = web_secret(web, tmp_path, namespace="ci")
    found = error(f"{web.url}/requests.csv", volume=tmp_path, secret=secret)
    assert found.reason is Reason.BAD_CONFIGURATION
    assert web.requests == []


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(web: Web, tmp_path: Path) -> None:
    found = error(f"{web.url}/requests.csv", volume=tmp_path)
    assert found.reason is Reason.SOURCE_UNREACHABLE
    assert "not trusted" in found.message
    assert "ca.crt" in found.hint
    assert not found.retryable


def test_a_secret_may_hold_nothing_but_the_certificate_of_an_authority(web: Web, tmp_path: Path) -> None:
    secret = secret_files(tmp_path / "secret", **{"ca.crt": web.authority})
    assert len(frame(f"{web.url}/requests.csv", volume=tmp_path, secret=secret).train) == 50
    assert {authorization for _, authorization in web.requests} == {None}


def test_a_file_over_the_limit_is_not_fetched(web: Web, tmp_path: Path) -> None:
    found = error(f"{web.url}/requests.csv", volume=tmp_path, secret=web_secret(web, tmp_path), fetch_bytes=100)
    assert found.reason is Reason.SOURCE_TOO_LARGE
    assert "larger than 100 bytes" in found.message


def test_a_file_that_takes_too_long_is_given_up(web: Web, tmp_path: Path) -> None:
    secret = web_secret(web, tmp_path)
    found = error(f"{web.url}/requests.csv", volume=tmp_path, secret=secret, fetch_seconds=0)
    assert found.reason is Reason.SOURCE_TIMEOUT


def test_a_secret_that_is_not_there_is_found_missing_at_once(web: Web, tmp_path: Path) -> None:
    found = error(f"{web.url}/requests.csv", volume=tmp_path, secret=tmp_path / "none")
    assert (found.reason, found.retryable, found.exit_code) == (Reason.SECRET_NOT_FOUND, True, 70)
    assert "spec.dataset.source.uri.secretRef: Secret 'reader' is not in this namespace" in found.message


def test_the_format_is_asked_for_before_anything_is_fetched(web: Web, tmp_path: Path) -> None:
    found = error(f"{web.url}/export", volume=tmp_path, secret=web_secret(web, tmp_path))
    assert found.reason is Reason.FORMAT_UNKNOWN
    assert web.requests == []


# Google Cloud Storage, and the hub's data sets: as much of their protocols as reading a file needs


def test_an_object_of_google_cloud_storage_becomes_a_frame(plain_web: Web, tmp_path: Path) -> None:
    about = {"name": "requests.csv", "bucket": "rooms", "size": str(len(CONTENT)), "generation": "1"}

    def answer(path: str) -> Answer | None:
        if "alt=media" in path:
            return Answer(body=CONTENT)
        return Answer(body=json.dumps(about).encode(), headers={"Content-Type": "application/json"})

    plain_web.answer = answer
    secret = secret_files(tmp_path / "secret", endpoint_url=plain_web.url)
    found = frame("gs://rooms/requests.csv", volume=tmp_path, secret=secret, sha256=DIGEST)
    assert len(found.train) == 50


@pytest.mark.parametrize("kind", ["external_account", "impersonated_service_account", None])
def test_google_credentials_that_send_us_elsewhere_are_refused(tmp_path: Path, kind: str | None) -> None:
    text = json.dumps({"type": kind, "credential_source": {"url": "http://169.254.169.254/"}}) if kind else "no JSON"
    secret = secret_files(tmp_path / "secret", **{"credentials.json": text})
    found = error("gs://rooms/requests.csv", volume=tmp_path, secret=secret)
    assert found.reason is Reason.BAD_CONFIGURATION
    assert "service_account, authorized_user" in found.message


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_a_file_of_a_hubs_data_set_becomes_a_frame(plain_web: Web, tmp_path: Path, revision: str) -> None:
    commit = "1f2e3d4c" * 5

    def answer(path: str) -> Answer | None:
        head = {"X-Repo-Commit": commit, "ETag": '"1"', "Accept-Ranges": "bytes"}
        if "/resolve/" in path:
            return Answer(body=CONTENT, headers=head) if f"/resolve/{revision[1:] or 'main'}/" in path else None
        if "/paths-info/" in path or "/tree/" in path:
            entry = {"type": "file", "path": "data/requests.csv", "size": len(CONTENT), "oid": "1"}
            return Answer(body=json.dumps([entry]).encode(), headers={"Content-Type": "application/json"})
        about = {"id": "me/rooms", "sha": commit, "siblings": [], "tags": [], "private": False}
        return Answer(body=json.dumps(about).encode(), headers={"Content-Type": "application/json"})

    plain_web.answer = answer
    secret = secret_files(tmp_path / "secret", token="hf-t0ken", endpoint_url=plain_web.url)
    url = f"hf://datasets/me/rooms/data/requests.csv{revision}"
    assert len(frame(url, volume=tmp_path, secret=secret, sha256=DIGEST).train) == 50
    assert "Bearer hf-t0ken" in {authorization for _, authorization in plain_web.requests}


HUB_FILE = "hf://datasets/me/rooms/data/requests.csv"


@pytest.mark.parametrize("url", ["gs://rooms/requests.csv", HUB_FILE])
def test_a_file_that_no_store_has_is_named(plain_web: Web, tmp_path: Path, url: str) -> None:
    secret = secret_files(tmp_path / "secret", endpoint_url=plain_web.url)
    assert error(url, volume=tmp_path, secret=secret).reason is Reason.FILE_NOT_FOUND


def test_a_hub_that_is_not_there_is_worth_another_try(tmp_path: Path) -> None:
    """The client of Google's stores tries for half a minute by itself before it comes to the same."""
    secret = secret_files(tmp_path / "secret", endpoint_url="http://127.0.0.1:1")
    found = error(HUB_FILE, volume=tmp_path, secret=secret)
    assert (found.reason, found.retryable) == (Reason.SOURCE_UNREACHABLE, True)
