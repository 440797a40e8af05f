"""What a rollback journal beside a SQLite source may name: SQLite deletes the super-journal that it names."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from dataset_builders import Preparer, prepare_config, requests, write_sqlite
from source_builders import queried, secret_files

MAGIC = bytes.fromhex("d9d505f920a163d7")
QUERY = "SELECT * FROM asked"


def hot_journal(database: Path) -> bytes:
    """A journal that SQLite rolls back when it opens the database; it changes no page."""
    header = database.read_bytes()[:100]
    [page_bytes], [pages] = struct.unpack(">H", header[16:18]), struct.unpack(">I", header[28:32])
    return (MAGIC + struct.pack(">IIIII", 0, 0, pages, 512, page_bytes)).ljust(512, b"\0")


def naming(journal: bytes, super_journal: Path) -> bytes:
    """The journal with the name of a super-journal at its end, as SQLite writes it."""
    name = str(super_journal).encode()
    return journal + struct.pack(">I", (1 << 30) // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + MAGIC


@pytest.fixture
def database(preparer: Preparer) -> Path:
    path = preparer.folder / "home.db"
    write_sqlite(path, requests(30))
    return path


@pytest.fixture
def victim(preparer: Preparer) -> Path:
    """A file of another Project on the same claim."""
    path = preparer.volume / "models" / "other-1" / "adapter_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights of another Project")
    return path


def test_the_journal_of_a_sqlite_source_deletes_no_file_of_the_claim(
    preparer: Preparer, database: Path, victim: Path
) -> None:
    Path(f"{database}-journal").write_bytes(naming(hot_journal(database), victim))
    with pytest.raises(DataError) as caught:
        prepare_frame(prepare_config(database, query=QUERY), preparer.volume)
    assert victim.exists()
    assert caught.value.reason is Reason.FORMAT_INVALID
    assert f"the -journal file of {database.name} names a super-journal" in caught.value.message
    assert "copy the database without its journal" in caught.value.hint


def test_the_journal_of_a_database_on_the_claim_deletes_no_file_of_the_claim(
    preparer: Preparer, database: Path, victim: Path, tmp_path: Path
) -> None:
    run = preparer.volume / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "x.db").write_bytes(database.read_bytes())
    (run / "x.db-journal").write_bytes(naming(hot_journal(database), victim))
    secret = secret_files(tmp_path / "secret", url="sqlite:///runs/r1/x.db")
    with pytest.raises(DataError, match=r"-journal file of .*runs/r1/x.db.* names a super-journal"):
        prepare_frame(queried(QUERY, secret=secret), preparer.volume)
    assert victim.exists()


def test_a_journal_that_names_no_super_journal_is_rolled_back(preparer: Preparer, database: Path) -> None:
    Path(f"{database}-journal").write_bytes(hot_journal(database))
    assert preparer.frame(database, query=QUERY).manifest.rows == 30
