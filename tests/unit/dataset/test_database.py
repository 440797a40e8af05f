"""The address of a database, before anybody connects, and SQLite files behind such an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.prepare import prepare_frame
from dataset_builders import requests, write_sqlite
from source_builders import queried, secret_files


def error(address: str, *, folder: Path, **changes: object) -> DataError:
    secret = secret_files(folder / "secret", url=address)
    with pytest.raises(DataError) as caught:
        prepare_frame(queried("SELECT 1", secret=secret, **changes), folder / "volume", api_server=["10.96.0.1"])
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
        ("sqlite:///none.db", Reason.FILE_NOT_FOUND, "the Project's claim has no file 'none.db'"),
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
