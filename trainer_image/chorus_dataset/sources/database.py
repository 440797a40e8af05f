"""Open the database of `spec.dataset.source.sql` by the address in its Secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.reader import Reader
from chorus_dataset.sources.database_tls import CA_FIELD, read_ca
from chorus_dataset.sources.egress import Egress
from chorus_dataset.sources.postgres import PostgresReader
from chorus_dataset.sources.secret import SourceSecret
from chorus_dataset.sources.sqlite_file import SqliteReader

FIELD = "spec.dataset.source.sql.urlSecretKeyRef"
_FORM = (
    "write it as postgresql://user:password@host:5432/database, or sqlite:///file.db for a file on the Project's claim"
)


def open_database(
    key: str,
    *,
    secret: SourceSecret,
    ca_key: str | None,
    ca_secret: SourceSecret,
    where: str,
    volume: Path,
    query: str | None,
    query_seconds: float,
    work_dir: Path,
    egress: Egress,
    check: Callable[[], None],
) -> Reader:
    """Open the database and run the query; `where` is what people call it. `check` may raise to stop.

    `ca_key` of `ca_secret`: the certificates that the database is known by, if the Project names some. Raises
    `DataError`: SecretNotFound, BadConfiguration for an address of no use, and what the readers raise.
    """
    [text] = secret.need(key, field=FIELD)
    url = _read_url(text, where=where)
    kind = url.get_backend_name()
    if kind in ("postgresql", "postgres"):
        ca = read_ca(ca_key, secret=ca_secret) if ca_key is not None else None
        return PostgresReader(
            url, where=where, query=query, seconds=query_seconds, secret=secret, ca=ca, egress=egress, check=check
        )
    if kind == "sqlite":
        if ca_key is not None:
            raise DataError(
                Reason.BAD_CONFIGURATION,
                f"{CA_FIELD} is set, but {where} names a SQLite file",
                hint="remove it: there is no connection to check",
            )
        path = _on_claim(url, volume=volume, where=where)
        name = f"{where} ({path.relative_to(volume)})"
        return SqliteReader(
            path, root=volume, where=name, query=query, seconds=query_seconds, work_dir=work_dir, check=check
        )
    raise DataError(
        Reason.BAD_CONFIGURATION,
        f"{where}: databases of the kind {kind[:40]!r} cannot be read; those that can: postgresql, sqlite",
        hint=_FORM,
    )


def _read_url(text: str, *, where: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        # Neither text is shown nor error: both may hold the password.
        raise DataError(Reason.BAD_CONFIGURATION, f"{where} is not the address of a database", hint=_FORM) from None


def _on_claim(url: URL, *, volume: Path, where: str) -> Path:
    """Where a SQLite file is: on the Project's claim and nowhere else."""
    name = PurePosixPath(url.database or "")
    if not name.name or name.is_absolute() or ".." in name.parts or url.query:
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"{where}: the path of a SQLite file must be relative to the Project's claim, without '..' and parameters",
            hint="write sqlite:///file.db; for a file on another claim use source.volume",
        )
    return volume / name
