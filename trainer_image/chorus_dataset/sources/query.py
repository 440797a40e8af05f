"""Whether `spec.dataset.query` is one SELECT, and what is said when its table is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import sqlglot
from sqlglot import exp

from chorus_api.nearest import nearest
from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError, listing

Dialect = Literal["sqlite", "postgres"]
QUERY_HINT = "write one SELECT in spec.dataset.query"


def check_query(query: str | None, *, dialect: Dialect, where: str) -> str:
    """Return the query if it is exactly one SELECT (also WITH … SELECT, VALUES, UNION); else raise `QueryInvalid`.

    `where` says why there must be one, such as "a.db is a SQLite database".
    """
    if query is None or not query.strip():
        raise DataError(Reason.QUERY_INVALID, f"spec.dataset.query is missing: {where}", hint=QUERY_HINT)
    try:
        statements = [each for each in sqlglot.parse(query, dialect=dialect) if each is not None]
    except sqlglot.errors.SqlglotError:
        # Its grammar is not the database's own, which decides: it is only given one statement, which may only read.
        return query
    statements = [each for each in statements if not isinstance(each, exp.Semicolon)]
    if len(statements) != 1:
        raise DataError(
            Reason.QUERY_INVALID, f"spec.dataset.query holds {len(statements)} statements, not one", hint=QUERY_HINT
        )
    if not isinstance(statements[0], exp.Select | exp.SetOperation | exp.Values | exp.Subquery):
        kind = query.split(maxsplit=1)[0].upper()[:20]
        raise DataError(Reason.QUERY_INVALID, f"spec.dataset.query is a {kind}, not a SELECT", hint=QUERY_HINT)
    return query


def table_missing(table: str, tables: Sequence[str], *, where: str) -> DataError:
    """Say that a table is not there, which are, and which was most likely meant."""
    meant = nearest(table, tables)
    return DataError(
        Reason.TABLE_NOT_FOUND,
        f"spec.dataset.query: {where} has no table {table!r}; it has: {listing(tables)}",
        hint=f"did you mean {meant!r}?" if meant else "check the name of the table",
    )
