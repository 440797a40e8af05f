"""The address of a database, before anybody connects, and SQLite files behind such an address."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from chorus_dataset.sources.database_tls import tls_options
from dataset_builders import requests, write_sqlite
from harness.pki import Authority
from source_builders import ca_files, queried, secret_files


def error(address: str, *, folder: Path, **changes: object) -> DataError:
    secret = secret_files(folder / "secret", url=address)
    with pytest.raises(DataError) as caught:
        prepare_frame(queried("SELECT 1", secret=secret, api_server=["10.96.0.1"], **changes), folder / "volume")
    assert "s3cr3t" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    ("address", "reason", "words"),
    [
        (
            "mysql://me:s3cr3t@db/rooms",
            Reason.BAD_CONFIGURATION,
            "'mysql' cannot be read; those that can: postgresql, sqlite",
        ),
        ("not an address s3cr3t", Reason.BAD_CONFIGURATION, "is not the address of a database"),
        ("postgresql://me:s3cr3t@db:s3cr3t/rooms", Reason.BAD_CONFIGURATION, "is not the address of a database"),
        ("postgresql://me:s3cr3t@/rooms", Reason.BAD_CONFIGURATION, "it names no host"),
        ("postgresql://me:s3cr3t@db/rooms?passfile=/x", Reason.BAD_CONFIGURATION, "'passfile' is not taken"),
        ("postgresql://me:s3cr3t@db/rooms?host=169.254.169.254", Reason.BAD_CONFIGURATION, "'host' is not taken"),
        ("postgresql://me:s3cr3t@169.254.169.254/rooms", Reason.SOURCE_REFUSED, "169.254.169.254, a link-local"),
        ("postgresql://me:s3cr3t@10.96.0.1:443/rooms", Reason.SOURCE_REFUSED, "10.96.0.1, the API server"),
        ("postgresql://me:s3cr3t@nowhere.invalid/rooms", Reason.SOURCE_UNREACHABLE, "cannot be resolved"),
        ("sqlite:////etc/passwd", Reason.BAD_CONFIGURATION, "must be relative to the Project's claim"),
        ("sqlite:///../x.db", Reason.BAD_CONFIGURATION, "must be relative to the Project's claim"),
        ("sqlite:///none.db", Reason.FILE_NOT_FOUND, "(none.db) does not exist"),
    ],
)
def test_an_address_of_no_use_is_told_without_what_is_secret_in_it(
    tmp_path: Path, address: str, reason: Reason, words: str
) -> None:
    found = error(address, folder=tmp_path)
    assert found.reason is reason
    assert words in found.message
    assert "Secret warehouse, key url" in found.message or reason is Reason.SOURCE_REFUSED


def test_a_sqlite_file_on_the_projects_claim_can_be_named_by_a_secret(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    write_sqlite(tmp_path / "volume" / "rooms.db", requests(20))
    secret = secret_files(tmp_path / "secret", url="sqlite:///rooms.db")
    frame = prepare_frame(queried("SELECT question FROM asked", secret=secret), tmp_path / "volume")
    assert frame.rows == 20


def test_a_link_out_of_the_claim_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    write_sqlite(tmp_path / "outside.db", requests(2))
    (tmp_path / "volume" / "link.db").symlink_to(tmp_path / "outside.db")
    assert error("sqlite:///link.db", folder=tmp_path).reason is Reason.FILE_NOT_FOUND


def test_a_secret_without_the_key_is_told_with_the_keys_that_it_has(tmp_path: Path) -> None:
    secret = secret_files(tmp_path / "secret", dsn="x")
    with pytest.raises(DataError, match="has no key url; it has dsn") as caught:
        prepare_frame(queried("SELECT 1", secret=secret), tmp_path / "volume")
    assert (caught.value.reason, caught.value.retryable) == (Reason.SECRET_NOT_FOUND, True)
    assert "spec.dataset.source.sql.urlSecretKeyRef" in caught.value.message


# The authority that a database is known by

CA = Authority("databases").pair
ADDRESS = "postgresql://me:s3cr3t@nowhere.invalid/rooms"
CA_FIELD = "spec.dataset.source.sql.caSecretKeyRef"


def certified(parameters: str, *, folder: Path, pem: bytes = CA.certificate, address: str = ADDRESS) -> DataError:
    return error(f"{address}{parameters}", folder=folder, ca=ca_files(folder / "ca", pem))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("?sslmode=disable", "sslmode=disable"),
        ("?sslmode=allow", "sslmode=allow"),
        ("?sslmode=prefer", "sslmode=prefer"),
        ("?sslmode=s3cr3t", "an sslmode that is not known"),
        ("?sslmode=verify-full&sslmode=disable", "an sslmode that is not known"),
        ("?gssencmode=require", "a gssencmode other than disable"),
    ],
)
def test_an_address_that_would_leave_the_certificate_unchecked_does_not_go_with_an_authority(
    tmp_path: Path, parameters: str, told: str
) -> None:
    found = certified(parameters, folder=tmp_path)
    assert (found.reason, found.retryable) == (Reason.BAD_CONFIGURATION, False)
    assert f"{CA_FIELD} is set, but the address in Secret warehouse, key url says {told}" in found.message


@pytest.mark.parametrize("parameters", ["", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full"])
def test_an_address_that_has_the_certificate_checked_goes_with_an_authority(tmp_path: Path, parameters: str) -> None:
    found = certified(parameters, folder=tmp_path)
    assert found.reason is Reason.SOURCE_UNREACHABLE
    assert "cannot be resolved" in found.message


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_address_that_wants_the_certificate_checked_needs_an_authority(tmp_path: Path, mode: str) -> None:
    found = error(f"{ADDRESS}?sslmode={mode}", folder=tmp_path)
    assert (found.reason, found.retryable) == (Reason.BAD_CONFIGURATION, False)
    assert f"sslmode={mode} needs the certificate of the authority" in found.message
    assert CA_FIELD in found.hint


def test_without_an_authority_the_connection_is_what_the_address_says() -> None:
    assert tls_options(make_url(f"{ADDRESS}?sslmode=require"), ca=None, where="a") == {}


def test_an_authority_has_the_certificate_and_the_host_name_checked(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    assert tls_options(make_url(ADDRESS), ca=path, where="a") == {
        "sslmode": "verify-full",
        "sslrootcert": str(path),
        "gssencmode": "disable",
    }
    assert tls_options(make_url(f"{ADDRESS}?sslmode=verify-ca"), ca=path, where="a")["sslmode"] == "verify-ca"


@pytest.mark.parametrize(
    "pem",
    [
        b"s3cr3t",
        CA.key,
        CA.certificate[:200],
        CA.certificate + CA.certificate[:200] + b"\n-----END CERTIFICATE-----\n",
        b"\x30\x82\x01\xff",
    ],
    ids=["text", "a key", "half a certificate", "one and a half", "the binary form"],
)
def test_what_is_no_certificate_is_told_by_its_field_and_not_quoted(tmp_path: Path, pem: bytes) -> None:
    found = certified("", folder=tmp_path, pem=pem)
    assert (found.reason, found.retryable) == (Reason.BAD_CONFIGURATION, False)
    assert found.message == f"{CA_FIELD}: key ca.crt of Secret 'warehouse-ca' holds no certificates that can be read"


def test_certificates_that_are_not_there_are_told_as_other_secrets_are(tmp_path: Path) -> None:
    found = error(ADDRESS, folder=tmp_path, ca=secret_files(tmp_path / "ca", other="x"))
    assert (found.reason, found.retryable) == (Reason.SECRET_NOT_FOUND, True)
    assert f"{CA_FIELD}: Secret 'warehouse-ca' has no key ca.crt; it has other" in found.message


def test_a_file_needs_no_authority(tmp_path: Path) -> None:
    found = certified("", folder=tmp_path, address="sqlite:///rooms.db")
    assert found.reason is Reason.BAD_CONFIGURATION
    assert f"{CA_FIELD} is set, but Secret warehouse, key url names a SQLite file" in found.message
