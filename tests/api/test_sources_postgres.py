"""Frames out of a real PostgreSQL: types, limits, and every way in which a database says no."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import TerminationRecord
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from dataset_builders import Frame
from docs_text import fences
from harness.pki import Authority
from harness.postgres import PASSWORD, QUOTED, Postgres
from local_sources import job_command, local_egress
from message_receiver import serving
from source_builders import ca_files, queried, secret_files

ROWS = 1_000_000
MEBIBYTES = 24
"""How much memory a million rows may take, read one after another. Held together they take over 150."""
TABLES = """
CREATE TABLE birds (id bigint, name text, mass numeric(8,2), wing real, tagged boolean, seen date,
  heard timestamptz, noted timestamp, extra jsonb, tags text[], key uuid, raw bytea);
INSERT INTO birds VALUES
  (1, 'adelie', 3750.50, 'NaN', true, '2007-11-11', '2007-11-11 12:00:00.000001+02', '2007-11-11 12:00:00',
   '{"sex": "f"}', '{a,b}', '00000000-0000-0000-0000-000000000001', 'x'),
  (2, '50% chance', NULL, 2.5, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE SCHEMA other; CREATE TABLE other.nests (id int);
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as running:
        running.run(TABLES)
        yield running


@pytest.fixture
def secret(postgres: Postgres, tmp_path: Path) -> Path:
    return secret_files(tmp_path / "secret", url=postgres.url())


def read(query: str, *, secret: Path, volume: Path, **changes: object) -> Frame:
    config = queried(query, secret=secret, **changes)
    manifest = prepare_frame(config, volume, egress=local_egress(config))
    return Frame(manifest, volume / "frames" / manifest.name)


def error(query: str, *, secret: Path, volume: Path, **changes: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read(query, secret=secret, volume=volume, **changes)
    assert PASSWORD not in caught.value.detail
    assert QUOTED not in caught.value.detail
    return caught.value


def test_columns_have_the_types_that_the_database_declares(secret: Path, tmp_path: Path) -> None:
    frame = read("SELECT * FROM birds ORDER BY id", secret=secret, volume=tmp_path)
    assert frame.types == {
        "id": "integer", "name": "string", "mass": "number", "wing": "number", "tagged": "boolean",
        "seen": "timestamp", "heard": "timestamp", "noted": "timestamp", "extra": "string", "tags": "string",
        "key": "string", "raw": "string",
    }  # fmt: skip
    first, second = frame.train
    assert first == {
        "id": 1, "name": "adelie", "mass": 3750.5, "wing": None, "tagged": True, "seen": datetime(2007, 11, 11),
        "heard": datetime(2007, 11, 11, 10, 0, 0, 1, tzinfo=UTC), "noted": datetime(2007, 11, 11, 12),
        "extra": '{"sex": "f"}', "tags": '["a", "b"]', "key": "00000000-0000-0000-0000-000000000001", "raw": "x",
    }  # fmt: skip
    assert [second[name] for name in ("name", "mass", "wing", "seen", "extra")] == ["50% chance", None, 2.5, None, None]


def test_a_column_without_values_keeps_its_declared_type(secret: Path, tmp_path: Path) -> None:
    frame = read("SELECT id, mass FROM birds WHERE id = 2", secret=secret, volume=tmp_path)
    assert frame.types == {"id": "integer", "mass": "number"}


def test_a_percent_sign_of_the_query_is_one(secret: Path, tmp_path: Path) -> None:
    assert len(read("SELECT id FROM birds WHERE name LIKE '50%'", secret=secret, volume=tmp_path).train) == 1


def test_at_most_max_rows_are_read(secret: Path, tmp_path: Path) -> None:
    frame = read("SELECT n FROM generate_series(1, 1000000) n", secret=secret, volume=tmp_path, max_rows=2000)
    assert frame.manifest.read_rows == 2000


def test_a_million_rows_are_read_in_bounded_memory(secret: Path) -> None:
    """By a process of its own. What becomes of the rows then is the same for every source: `test_prepare.py`."""
    query = f"SELECT n, n % 7 AS day FROM generate_series(1, {ROWS}) n"
    program = """
import pathlib, resource, sys
from sqlalchemy.engine import make_url
from local_sources import local_egress
from chorus_dataset.sources.postgres import PostgresReader
from chorus_dataset.sources.secret import SourceSecret
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
secret = SourceSecret(pathlib.Path(sys.argv[1]), name="warehouse")
options = {"where": "a", "query": sys.argv[2], "seconds": 300, "check": lambda: None}
reader = PostgresReader(make_url(secret.get("url")), secret=secret, egress=local_egress(), **options)
rows = reader.rows()
first, before = next(rows), peak()
print(sum(1 for _ in rows) + 1, peak() - before)
reader.close()
"""
    command = [sys.executable, "-c", program, str(secret), query]
    modules = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=os.environ | modules, stdout=subprocess.PIPE, text=True, timeout=110, check=True)
    rows, grown = done.stdout.split()
    assert int(rows) == ROWS
    assert int(grown) < MEBIBYTES


@pytest.mark.parametrize(
    ("address", "reason", "words", "retryable", "code"),
    [
        ({"password": "wr0ng-password"}, Reason.ACCESS_DENIED, "does not let the user in", False, 64),
        ({"user": "nobody"}, Reason.ACCESS_DENIED, "does not let the user in", False, 64),
        ({"port": 1}, Reason.SOURCE_UNREACHABLE, "cannot be reached", True, 70),
        ({"database": "elsewhere"}, Reason.BAD_CONFIGURATION, 'database "elsewhere" does not exist', False, 64),
    ],
)
def test_a_database_that_does_not_let_us_in_is_told_from_one_that_is_not_there(
    postgres: Postgres,
    tmp_path: Path,
    address: dict[str, object],
    reason: Reason,
    words: str,
    retryable: bool,
    code: ExitCode,
) -> None:
    secret = secret_files(tmp_path / "secret", url=postgres.url(**address))  # type: ignore[arg-type]
    found = error("SELECT 1", secret=secret, volume=tmp_path)
    assert (found.reason, found.retryable, found.exit_code) == (reason, retryable, code)
    assert words in found.message
    assert "Secret warehouse, key url" in found.message
    assert "wr0ng" not in found.detail


@pytest.mark.parametrize(
    ("query", "reason", "words"),
    [
        ("SELECT * FROM bird", Reason.TABLE_NOT_FOUND, "has no table 'bird'; it has: birds, other.nests"),
        ("SELECT weight FROM birds", Reason.QUERY_INVALID, 'column "weight" does not exist'),
        ("SELECT FROM WHERE", Reason.QUERY_INVALID, "syntax error"),
        ("SELECT 1; DROP TABLE birds", Reason.QUERY_INVALID, "2 statements, not one"),
        ("DELETE FROM birds", Reason.QUERY_INVALID, "is a DELETE"),
        (
            "WITH gone AS (DELETE FROM birds RETURNING id) SELECT id FROM gone",
            Reason.QUERY_INVALID,
            "spec.dataset.query",
        ),
        ("SELECT nextval('counter')", Reason.QUERY_INVALID, "may only read"),
        ("SELECT id, id FROM birds", Reason.FORMAT_INVALID, "more than one column is called id"),
        ("SELECT id FROM birds WHERE false", Reason.NO_ROWS, "has no rows"),
    ],
)
def test_a_query_that_cannot_be_run_says_what_is_wrong_and_changes_nothing(
    postgres: Postgres, secret: Path, tmp_path: Path, query: str, reason: Reason, words: str
) -> None:
    postgres.run("CREATE SEQUENCE IF NOT EXISTS counter")
    found = error(query, secret=secret, volume=tmp_path)
    assert (found.reason, found.retryable) == (reason, False)
    assert words in found.message
    assert len(read("SELECT id FROM birds", secret=secret, volume=tmp_path).train) == 2


def test_what_our_parser_cannot_read_reaches_the_database_as_one_statement(
    monkeypatch: pytest.MonkeyPatch, secret: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("chorus_dataset.sources.postgres.check_query", lambda query, **_: query)
    found = error("SELECT 1; COMMIT; DROP TABLE birds", secret=secret, volume=tmp_path)
    assert found.reason is Reason.QUERY_INVALID
    assert "cannot insert multiple commands" in found.message
    assert len(read("SELECT id FROM birds", secret=secret, volume=tmp_path).train) == 2


def test_a_query_that_takes_too_long_is_ended_by_the_database(secret: Path, tmp_path: Path) -> None:
    found = error("SELECT pg_sleep(60)", secret=secret, volume=tmp_path, query_seconds=1)
    assert found.reason is Reason.QUERY_TIMEOUT
    assert "more than 1 s" in found.message


def test_a_table_that_the_user_may_not_read_is_named(postgres: Postgres, tmp_path: Path) -> None:
    postgres.run("CREATE ROLE guest LOGIN PASSWORD 'guest-word'")
    secret = secret_files(tmp_path / "secret", url=postgres.url(user="guest", password="guest-word"))
    found = error("SELECT * FROM birds", secret=secret, volume=tmp_path)
    assert found.reason is Reason.ACCESS_DENIED
    assert "permission denied for table birds" in found.message
    assert "guest-word" not in found.detail


def test_no_word_of_the_job_holds_the_password(postgres: Postgres, tmp_path: Path) -> None:
    """Neither log nor termination record nor the message to the control plane."""
    wrong = "wr0ng-password"
    secret = secret_files(tmp_path / "secret", url=postgres.url(password=wrong))
    config, log, identity = tmp_path / "job.json", tmp_path / "termination-log", tmp_path / "identity"
    identity.mkdir()
    with serving(identity) as receiver:
        config.write_text(queried("SELECT 1", secret=secret, messaging=receiver.messaging()).model_dump_json())
        places = ["--config", str(config), "--volume", str(tmp_path / "volume"), "--termination-log", str(log)]
        command = job_command("prepare", *places)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    [post] = receiver.posts
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert post.event["data"]["reason"] == "AccessDenied"
    assert TerminationRecord.model_validate_json(log.read_text()).reason == "AccessDenied"
    for text in (done.stdout, done.stderr, log.read_text(), str(post.event), config.read_text()):
        assert wrong not in text
        assert postgres.url(password=wrong) not in text


# A database with a certificate of an authority of its own

AUTHORITY, STRANGER = Authority("databases"), Authority("somebody else")


@pytest.fixture(scope="module")
def certified() -> Iterator[Postgres]:
    """Known as localhost and by no other name."""
    with Postgres(tls=AUTHORITY.server("database", hosts=["localhost", "db.example"])) as running:
        yield running


ENCRYPTED = "SELECT version AS tls FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl"


@pytest.mark.parametrize(
    ("host", "parameters"),
    [
        ("localhost", {}),
        ("localhost", {"sslmode": "verify-full"}),
        ("localhost", {"sslmode": "require"}),
        ("127.0.0.1", {"sslmode": "verify-ca"}),
    ],
)
def test_a_database_that_the_authority_knows_is_read_by_an_encrypted_connection(
    certified: Postgres, tmp_path: Path, host: str, parameters: dict[str, str]
) -> None:
    secret = secret_files(tmp_path / "secret", url=certified.url(host=host, **parameters))
    authority = ca_files(tmp_path / "ca", STRANGER.pair.certificate + AUTHORITY.pair.certificate)
    [row] = read(ENCRYPTED, secret=secret, volume=tmp_path, ca=authority).train
    assert row["tls"] == "TLSv1.3"


@pytest.mark.parametrize("mode", ["", "require", "verify-ca", "verify-full"])
def test_a_database_that_another_authority_knows_is_not_trusted(certified: Postgres, tmp_path: Path, mode: str) -> None:
    parameters = {"sslmode": mode} if mode else {}
    secret = secret_files(tmp_path / "secret", url=certified.url(host="localhost", **parameters))
    found = error("SELECT 1", secret=secret, volume=tmp_path, ca=ca_files(tmp_path / "ca", STRANGER.pair.certificate))
    assert (found.reason, found.retryable) == (Reason.SOURCE_UNREACHABLE, False)
    assert "the certificate of the database is not trusted" in found.message
    assert "certificate verify failed" in found.message
    assert "spec.dataset.source.sql.caSecretKeyRef" in found.hint


def test_a_database_under_a_name_that_its_certificate_has_not_is_not_trusted(
    certified: Postgres, tmp_path: Path
) -> None:
    secret = secret_files(tmp_path / "secret", url=certified.url(host="127.0.0.1"))
    found = error("SELECT 1", secret=secret, volume=tmp_path, ca=ca_files(tmp_path / "ca", AUTHORITY.pair.certificate))
    assert (found.reason, found.retryable) == (Reason.SOURCE_UNREACHABLE, False)
    assert "is not trusted" in found.message
    assert 'does not match host name "127.0.0.1"' in found.message
    assert "sslmode=verify-ca" in found.hint


def test_a_database_that_does_not_speak_tls_is_not_read_where_it_should(postgres: Postgres, tmp_path: Path) -> None:
    secret = secret_files(tmp_path / "secret", url=postgres.url())
    found = error("SELECT 1", secret=secret, volume=tmp_path, ca=ca_files(tmp_path / "ca", AUTHORITY.pair.certificate))
    assert (found.reason, found.retryable) == (Reason.SOURCE_UNREACHABLE, False)
    assert "the database does not speak TLS" in found.message


def test_a_wrong_password_behind_a_certificate_that_is_trusted_is_still_that(
    certified: Postgres, tmp_path: Path
) -> None:
    secret = secret_files(tmp_path / "secret", url=certified.url(host="localhost", password="wr0ng-password"))
    found = error("SELECT 1", secret=secret, volume=tmp_path, ca=ca_files(tmp_path / "ca", AUTHORITY.pair.certificate))
    assert found.reason is Reason.ACCESS_DENIED
    assert "wr0ng" not in found.detail


# The user that the handbook gives Chorus

READER = "chorus_reader"
HARM = {
    "ends the connections of others": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "reads files of the server": "SELECT pg_read_file('PG_VERSION')",
    "writes files of the server": "SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/chorus-never')",
    "writes by another connection": "SELECT dblink_exec('dbname=postgres', 'DROP TABLE requests')",
    "reads another table": "SELECT * FROM birds",
}


@pytest.fixture(scope="module")
def guarded(postgres: Postgres) -> str:
    """The address of the handbook's user, in a database with tables and functions that do harm."""
    [granted] = [fence.text for fence in fences("sql") if READER in fence.text]
    postgres.run("CREATE TABLE requests (id int); INSERT INTO requests VALUES (1), (2)")
    postgres.run("CREATE EXTENSION dblink; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
    postgres.run(granted)
    return postgres.url(user=READER, password="change-me")


def test_the_handbooks_user_reads_what_it_was_granted(guarded: str, tmp_path: Path) -> None:
    secret = secret_files(tmp_path / "secret", url=guarded)
    assert len(read("SELECT id FROM requests", secret=secret, volume=tmp_path).train) == 2


@pytest.mark.parametrize("query", HARM.values(), ids=HARM)
def test_the_handbooks_user_can_do_nothing_that_a_reading_transaction_lets_pass(
    postgres: Postgres, guarded: str, tmp_path: Path, query: str
) -> None:
    secret = secret_files(tmp_path / "secret", url=guarded)
    found = error(query, secret=secret, volume=tmp_path)
    assert found.reason is Reason.ACCESS_DENIED, found.message
    postgres.run("SELECT 1 FROM requests")


def test_a_reading_transaction_does_not_bind_a_mighty_user(secret: Path, guarded: str, tmp_path: Path) -> None:
    """Which is why the handbook asks for a user that may do nothing else."""
    [row] = read("SELECT pg_read_file('PG_VERSION') AS version", secret=secret, volume=tmp_path).train
    assert row["version"]
