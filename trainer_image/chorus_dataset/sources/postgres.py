"""Read the result of one SELECT from PostgreSQL, in a transaction that may only read.

A cursor of the server gives the rows in batches, so that they never are in memory together.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.readers.columns import Cell, ColumnType, check_names
from chorus_dataset.readers.reader import Reader
from chorus_dataset.readers.rejects import Reject
from chorus_dataset.sources.database_tls import distrust, tls_options
from chorus_dataset.sources.egress import Egress
from chorus_dataset.sources.query import QUERY_HINT, check_query, table_missing
from chorus_dataset.sources.secret import SourceSecret

T = TypeVar("T")
CONNECT_SECONDS = 15
_PORT = 5432
_FIRST_ROWS = 50
_BATCH_ROWS = 1000
_BATCH_BYTES = 4 << 20
_CELL_BYTES = 64 << 20
_OPTIONS = frozenset({"sslmode", "sslnegotiation", "application_name", "channel_binding", "gssencmode"})
"""Parameters of the address that are handed on. The others name files of the pod, or other servers."""
_TYPES: dict[int, ColumnType] = {
    16: "boolean",
    **dict.fromkeys((20, 21, 23, 26), "integer"),
    **dict.fromkeys((700, 701, 1700), "number"),
    **dict.fromkeys((1082, 1114), "timestamp"),
    1184: "timestamp_utc",
}
"""By the object identifiers of PostgreSQL's types, which never change; every other type becomes text."""
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_NO_LOGIN = ("password", "authentication", "pg_hba.conf", "role ", "no pg_hba")
_TABLES = """
SELECT CASE WHEN table_schema = 'public' THEN table_name ELSE table_schema || '.' || table_name END
FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 200
"""


class PostgresReader(Reader):
    """The rows of a query.

    `seconds` limits the time that the database takes, by its own clock for one statement and by ours for all of them.
    `check` may raise to stop between two batches. `ca`: certificates that the server is known by. Errors tell the name
    of the Secret, never the address in it.
    """

    def __init__(
        self,
        url: URL,
        *,
        where: str,
        query: str | None,
        seconds: float,
        secret: SourceSecret,
        egress: Egress,
        check: Callable[[], None],
        ca: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(where)
        self._query = check_query(query, dialect="postgres", where=f"{where} is a PostgreSQL database")
        self._seconds = seconds
        self._secret = secret
        self._password = str(url.password or "")
        self._check = check
        self._monotonic = monotonic
        self._spent = 0.0
        self._result: CursorResult[Any] | None = None
        self._connection = self._connect(url, egress, ca)
        try:
            self._execute()
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[tuple[int, list[Cell] | Reject]]:
        """Yield the rows of the result."""
        assert self._result is not None
        number, size = 0, _FIRST_ROWS
        while True:
            self._check()
            batch = self._timed(partial(self._result.fetchmany, size))
            if not batch:
                return
            cost = 0
            for row in batch:
                number += 1
                cells = [_cell(value) for value in row]
                cost += sum(len(cell) if isinstance(cell, str) else 8 for cell in cells)
                yield number, cells
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * len(batch) // max(cost, 1)))

    def close(self) -> None:
        """End the transaction and close the connection, which may be broken."""
        try:
            if self._result is not None:
                self._result.close()
            self._connection.close()
        except SQLAlchemyError:
            self._connection.invalidate()

    def _connect(self, url: URL, egress: Egress, ca: Path | None) -> Connection:
        host, port = url.host, url.port or _PORT
        unknown = sorted(set(url.query) - _OPTIONS)
        if not host or unknown:
            raise DataError(
                Reason.BAD_CONFIGURATION,
                f"{self.where}: " + (f"the parameter {unknown[0]!r} is not taken" if unknown else "it names no host"),
                hint="write postgresql://user:password@host:5432/database; parameters that are taken: "
                + ", ".join(sorted(_OPTIONS)),
            )
        protected = tls_options(url, ca=ca, where=self.where)
        try:
            addresses = egress.resolve(host, port)
        except OSError as error:
            raise self._unreachable(f"the name of its host cannot be resolved: {error.strerror}") from error
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            hide_parameters=True,
            json_deserializer=_json_text,
            connect_args={
                # libpq opens its own sockets: it is given the addresses that were looked at, and the name for TLS.
                "host": ",".join([host] * len(addresses)),
                "hostaddr": ",".join(addresses),
                "port": ",".join([str(port)] * len(addresses)),
                "connect_timeout": CONNECT_SECONDS,
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 60_000,
                "application_name": url.query.get("application_name", "chorus-prepare"),
                **protected,
            },
        )
        try:
            return engine.connect()
        except DBAPIError as error:
            raise self._no_connection(error) from None

    def _execute(self) -> None:
        self._timed(lambda: self._connection.exec_driver_sql("SET TRANSACTION READ ONLY"))
        milliseconds = max(1, int(self._seconds * 1000))
        self._timed(lambda: self._connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}"))
        # Without parameters, so that a percent sign is one; as a cursor, which takes one SELECT and nothing else.
        options = {"stream_results": True, "no_parameters": True}
        result = self._timed(lambda: self._connection.exec_driver_sql(self._query, execution_options=options))
        self._result = result
        description: Sequence[Any] = result.cursor.description if result.cursor is not None else ()
        self.columns = [column[0] for column in description]
        check_names(self.columns, where=f"spec.dataset.query over {self.where}")
        self.declared = {column[0]: _TYPES.get(int(column[1]), "string") for column in description}

    def _timed(self, work: Callable[[], T]) -> T:
        since = self._monotonic()
        try:
            done = work()
        except DBAPIError as error:
            raise self._translate(error) from None
        self._spent += self._monotonic() - since
        if self._spent > self._seconds:
            raise self._timeout()
        return done

    def _translate(self, error: DBAPIError) -> DataError:
        state = getattr(error.orig, "sqlstate", None) or ""
        said = self._words(error)
        if state == "57014":
            return self._timeout()
        if state == "42P01":
            return self._table_missing(said)
        if state == "42501":
            return DataError(
                Reason.ACCESS_DENIED,
                f"spec.dataset.query over {self.where}: {said}",
                hint="grant SELECT to the user of the address, or use another user",
            )
        if state == "25006":
            return DataError(
                Reason.QUERY_INVALID,
                f"spec.dataset.query may only read: {said}",
                hint="write one SELECT that changes nothing",
            )
        if state[:2] in ("08", "53", "57", "58", "40") or (not state and error.connection_invalidated):
            return self._unreachable(f"the connection was lost: {said}")
        return DataError(Reason.QUERY_INVALID, f"spec.dataset.query over {self.where}: {said}", hint=QUERY_HINT)

    def _table_missing(self, said: str) -> DataError:
        table = said.split('"')[1] if said.count('"') > 1 else said
        try:
            self._connection.rollback()
            tables = [str(name) for (name,) in self._connection.exec_driver_sql(_TABLES)]
        except SQLAlchemyError:
            tables = []
        return table_missing(table, tables, where=self.where)

    def _no_connection(self, error: DBAPIError) -> DataError:
        if (found := distrust(str(error.orig), where=self.where, words=self._hide)) is not None:
            return found
        said = self._words(error)
        lowered = said.casefold()
        if "fatal" in lowered and any(word in lowered for word in _NO_LOGIN):
            return DataError(
                Reason.ACCESS_DENIED,
                f"{self.where}: the database does not let the user in: {said}",
                hint="correct user and password of the address in the Secret",
            )
        if "does not exist" in lowered:
            return DataError(
                Reason.BAD_CONFIGURATION,
                f"{self.where}: {said}",
                hint="correct the database of the address in the Secret",
            )
        return self._unreachable(said)

    def _unreachable(self, said: str) -> DataError:
        return DataError(
            Reason.SOURCE_UNREACHABLE,
            f"{self.where}: the database cannot be reached: {said}",
            hint="see whether it runs, whether host and port of the address are right, and whether pods of this "
            "namespace may reach it",
            retryable=True,
        )

    def _timeout(self) -> DataError:
        return DataError(
            Reason.QUERY_TIMEOUT,
            f"spec.dataset.query took more than {self._seconds:g} s over {self.where}",
            hint="select fewer rows, or give the database an index that the query can use",
        )

    def _words(self, error: DBAPIError) -> str:
        """What the driver says, in one line, without what the Secret holds."""
        lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
        kept = [line for line in lines if not line.startswith(("LINE ", "^", "Multiple connection attempts"))]
        return self._hide((kept or [type(error.orig).__name__])[-1])

    def _hide(self, said: str) -> str:
        said = self._secret.hide(said)
        return said.replace(self._password, "***")[:400] if len(self._password) > 2 else said[:400]


def _json_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _cell(value: Any) -> Cell:
    """Turn what the driver gives into a value of the source; times into microseconds since 1970."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return None if math.isnan(value) else value
        case Decimal():
            return None if value.is_nan() else float(value)
        case datetime():
            moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
            return (moment - _EPOCH) // _MICROSECOND
        case date():
            return (datetime(value.year, value.month, value.day) - _EPOCH) // _MICROSECOND
        case bytes() | memoryview():
            return bytes(value).decode("utf-8", "surrogateescape")
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)
