"""Where a credential may be sent, and how a service account's token is known."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chorus_api.project import UriSource
from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from chorus_dataset.sources.credentials import holds_service_account_token, names_host
from chorus_dataset.sources.download import Limits, download
from chorus_dataset.sources.egress import Egress
from chorus_dataset.sources.secret import SourceSecret
from source_builders import fetched, queried, secret_files, service_account_token

TOKEN = service_account_token()
LEGACY = service_account_token(**{"iss": "kubernetes/serviceaccount", "kubernetes.io/serviceaccount/namespace": "ci"})


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        LEGACY,
        service_account_token(sub="system:serviceaccount:ci:deployer"),
        f"  {TOKEN}\n",
        f"Bearer {TOKEN}",
        f"{TOKEN[:40]}\n  {TOKEN[40:]}",
        f"Basic {base64.b64encode(f'me:{TOKEN}'.encode()).decode()}",
        base64.b64encode(TOKEN.encode()).decode(),
        f"postgresql://me:{TOKEN}@db.example/rooms",
        f"postgresql://me:{quote(TOKEN.replace('.', '%2E'), safe='%')}@db.example/rooms",
        f'{{"token": "{TOKEN}"}}',
    ],
)
def test_a_service_accounts_token_is_known_in_every_dress(text: str) -> None:
    assert holds_service_account_token(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hf_abcdefgh",
        "a.b.c",
        service_account_token(sub="me", iss="https://idp.example"),
        "Basic YTpi",
        "e30.e30.a",
    ],
)
def test_other_credentials_are_not_taken_for_one(text: str) -> None:
    assert not holds_service_account_token(text)


@given(st.text())
def test_any_text_can_be_looked_at(text: str) -> None:
    assert not holds_service_account_token(text)


@pytest.mark.parametrize("text", ["a" * (1 << 20), "." * (1 << 20), "ey." * 300_000, "[" * (1 << 20)])
def test_a_long_text_is_looked_at_in_no_time(text: str) -> None:
    assert not holds_service_account_token(text)


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("data.example", "data.example", None),
        ("data.example", "DATA.example.", 443),
        ("a.example data.example:443", "data.example", None),
        ("a.example,\n\tdata.example:8443\n", "data.example", 8443),
        ("[fd00::1]:8443", "fd00::1", 8443),
    ],
)
def test_a_secret_is_for_the_hosts_that_it_names(hosts: str, host: str, port: int | None) -> None:
    assert names_host(hosts, host, port)


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("", "data.example", None),
        (" ,, ", "data.example", None),
        ("data.example", "data.example", 8443),
        ("data.example:8443", "data.example", None),
        ("data.example", "evil-data.example", None),
        ("data.example", "data.example.evil.example", None),
        ("example", "data.example", None),
        ("*.example", "data.example", None),
        ("*", "data.example", None),
        ("https://data.example", "data.example", None),
        ("data.example:x", "data.example", None),
        ("data.example:99999", "data.example", None),
        ("data.example", "data.example%25.evil.example", None),
        ("data.example", "data.example%", None),
        ("data.example", "data.example％.evil.example", None),
        ("data.example", "[data.example", None),
        ("data.example%.evil.example", "data.example%.evil.example", None),
        ("[fd00::1]", "fd00::1%.evil.example", None),
        ("10.0.0.1", "10.0.0.1%.evil.example", None),
    ],
)
def test_a_secret_is_for_no_other_host(hosts: str, host: str, port: int | None) -> None:
    assert not names_host(hosts, host, port)


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("https://data.example/a.csv", {"token": TOKEN, "hosts": "data.example"}),
        ("https://data.example/a.csv", {"authorization": f"Bearer {TOKEN}", "hosts": "data.example"}),
        ("s3://bucket/a.csv", {"access_key_id": "me", "secret_access_key": TOKEN}),
        ("s3://bucket/a.csv", {"access_key_id": "me", "secret_access_key": "x", "session_token": TOKEN}),
        ("gs://bucket/a.csv", {"credentials.json": f'{{"type": "authorized_user", "refresh_token": "{TOKEN}"}}'}),
        ("hf://datasets/me/rooms/a.csv", {"token": TOKEN}),
        ("hf://datasets/me/rooms/a.csv", {"token": "t", "endpoint_url": f"https://evil.example/{TOKEN}"}),
        ("hf://datasets/me/rooms/a.csv", {"token": "t", "ca.crt": "c", "namespace": "ci"}),
    ],
)
def test_a_service_accounts_token_goes_to_no_source_of_any_scheme(
    tmp_path: Path, url: str, keys: dict[str, str]
) -> None:
    with pytest.raises(DataError) as caught:
        prepare_frame(fetched(url, secret=secret_files(tmp_path / "secret", **keys)), tmp_path / "volume")
    assert caught.value.reason is Reason.BAD_CONFIGURATION
    assert "holds the token of a Kubernetes service account" in caught.value.message
    assert TOKEN[-20:] not in caught.value.detail


def test_a_service_accounts_token_is_no_password_of_a_database(tmp_path: Path) -> None:
    secret = secret_files(tmp_path / "secret", url=f"postgresql://me:{TOKEN}@db.invalid/rooms")
    with pytest.raises(DataError, match="holds the token of a Kubernetes service account"):
        prepare_frame(queried("SELECT 1", secret=secret), tmp_path / "volume")


@pytest.mark.parametrize("host", ["data.example%.evil.example", "data.example%25", "[fd00::1%25.evil.example]"])
def test_credentials_go_to_no_host_that_hides_behind_a_percent_sign(tmp_path: Path, host: str) -> None:
    files = secret_files(tmp_path / "secret", token="t0ken-of-mine", hosts="data.example [fd00::1]")
    source = UriSource.model_construct(url=f"https://{host}/a.csv", sha256=None)
    with pytest.raises(DataError) as caught:
        download(
            source,
            secret=SourceSecret(files, name="reader"),
            target=tmp_path / "a.csv",
            egress=Egress(),
            limits=Limits(bytes=1000, seconds=1),
            check=lambda: None,
        )
    assert caught.value.reason is Reason.SOURCE_REFUSED
    assert "no name and no address as it should be written" in caught.value.message


@pytest.mark.parametrize("host", ["data.example%.evil.example", "[fd00::1%25eth0]", "[data.example]", "a\\b"])
def test_a_url_whose_host_is_spelt_in_two_ways_is_no_source(host: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        UriSource(url=f"https://{host}/a.csv")


@pytest.mark.parametrize("host", ["data.example", "data.example:8443", "10.0.0.1", "[fd00::1]", "[fd00::1]:8443"])
def test_a_url_with_a_name_or_an_address_is_a_source(host: str) -> None:
    assert UriSource(url=f"https://{host}/a%20b.csv?c=[d]").url


def test_a_secret_without_hosts_says_what_to_add(tmp_path: Path) -> None:
    secret = secret_files(tmp_path / "secret", token="t0ken-of-mine")
    with pytest.raises(DataError) as caught:
        prepare_frame(fetched("https://data.example:8443/a.csv", secret=secret), tmp_path / "volume")
    assert caught.value.reason is Reason.BAD_CONFIGURATION
    assert "Secret 'reader' does not say that its credentials are for data.example:8443: it has no key hosts" in (
        caught.value.message
    )
    assert """kubectl patch secret reader --type=merge -p '{"stringData": {"hosts": "data.example:8443"}}'""" in (
        caught.value.hint
    )
