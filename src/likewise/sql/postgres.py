"""How a Postgres database is opened, lent to threads, and how its errors become ours."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from likewise.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseFull,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseUnavailable,
    LikewiseError,
    SchemaDrift,
)
from likewise.base.extras import needed
from likewise.base.spec import without_password
from likewise.sql import pgvector, postgres_arrays
from likewise.sql.postgres_settings import AT_FIRST, LOCK_SECONDS, PARAMETERS, SCHEMA

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

try:
    import psycopg as _psycopg
except ImportError as _missing:  # said when a database is opened
    _absent: ImportError | None = _missing
else:
    _absent = None

LEAST_PGVECTOR = (0, 8, 4)
"""Older ones can damage an index while rows are written and vacuumed (its changelog, 0.8.3)."""
_KEPT_IDLE = 8
LEAST_SERVER = 160_000

# By SQLSTATE, the longest prefix that fits (https://www.postgresql.org/docs/18/errcodes-appendix).
ERRORS: dict[str, tuple[type[LikewiseError], str]] = {
    "42501": (
        DatabaseReadOnly,
        "this role may not do that; have its owner GRANT what the message names",
    ),
    "25006": (
        DatabaseReadOnly,
        "it only reads (a standby, or default_transaction_read_only); connect to the primary",
    ),
    "42P01": (SchemaDrift, "a table isn't there; was it dropped or renamed?"),
    "42703": (SchemaDrift, "a column isn't there; was it dropped or renamed?"),
    "42704": (SchemaDrift, "a type or other object isn't there"),
    "3F000": (SchemaDrift, "a schema isn't there"),
    "40": (DatabaseLocked, "another transaction was in the way; try again"),
    "55P03": (DatabaseLocked, f"a lock wasn't to be had in {LOCK_SECONDS} s; try again"),
    "57014": (DatabaseLocked, "the statement was cancelled; try again"),
    "53100": (DatabaseFull, "the server's disk is full; make room"),
    "53": (DatabaseUnavailable, "the server is out of connections or memory; try again"),
    "57P": (DatabaseUnavailable, "the server is starting or stopping; try again"),
    "08": (DatabaseUnavailable, "the connection was lost; try again"),
    "25P03": (DatabaseUnavailable, "the server ended the session; try again"),
    "28": (DatabaseError, "the login was refused; check user, password and pg_hba.conf"),
    "3D000": (DatabaseMissing, "there is no such database"),
    "XX001": (DatabaseCorrupt, "it is damaged; restore it from a backup"),
    "XX002": (DatabaseCorrupt, "an index is damaged; REINDEX it"),
    "58": (DatabaseError, "the server could not read or write a file"),
}


# A failed login brings no SQLSTATE, only words (English ones, unless the server speaks another).
_AT_LOGIN = {
    r'database ".*" does not exist': "3D000",
    r'authentication failed|no password supplied|no pg_hba\.conf entry|role ".*" does not': "28",
}


def mapped(error: Exception, address: str) -> LikewiseError:
    """Our error for one of psycopg's, naming the database and what to do."""
    text = " ".join(str(error).split())
    state: str = getattr(error, "sqlstate", None) or next(
        (state for words, state in _AT_LOGIN.items() if re.search(words, text)), ""
    )
    if state == "0A000" and "during recovery" in text:
        state = "25006"  # a standby, asked to begin a transaction that writes
    shown = without_password(address)
    for length in range(len(state), 1, -1):
        if state[:length] in ERRORS:
            kind, words = ERRORS[state[:length]]
            return kind(f"{shown}: {words} ({text})")
    if not state and isinstance(error, _psycopg.OperationalError):
        return DatabaseUnavailable(f"{shown}: it can't be reached; is it running? ({text})")
    return DatabaseError(f"{shown}: Postgres refused ({text})")


@contextmanager
def errors_of(address: str) -> Iterator[None]:
    """Turn psycopg's errors into ours inside the block."""
    try:
        yield
    except _psycopg.Error as error:
        raise mapped(error, address) from error


def connect(address: str) -> Connection:
    """A connection in autocommit mode, with settings of ours where `address` says nothing.

    When the other end falls silent, statements fail within about `SILENT_SECONDS`.

    Raises:
        MissingExtra: psycopg isn't installed.
        DatabaseUnavailable: the server can't be reached.
        DatabaseMissing: it has no such database.
        DatabaseError: the server is too old.
    """
    if _absent is not None:
        with needed("Postgres", extra="postgres"):
            raise _absent
    with errors_of(address):
        parameters: dict[str, Any] = {**PARAMETERS, **_psycopg.conninfo.conninfo_to_dict(address)}
        # A transaction-pooling proxy in between doesn't keep prepared statements.
        made = _psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
        pgvector.register(made)
        postgres_arrays.register(made)
        try:
            _require_server(made, address)
            made.execute(AT_FIRST)
        except BaseException:
            made.close()
            raise
        return made


def _require_server(db: Connection, address: str) -> None:
    version = db.info.server_version
    if version < LEAST_SERVER:
        raise DatabaseError(
            f"{without_password(address)}: Postgres {version // 10_000} is too old; at least "
            f"{LEAST_SERVER // 10_000} is needed"
        )


class Database:
    """One Postgres database. Connections are made when needed and lent to one thread at a time."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a read-only transaction: all statements see one state."""
        with self._lent() as db:
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield db
            finally:
                _rollback(db)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a transaction; committed at the end, rolled back on an error."""
        with self._lent() as db:
            db.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                _rollback(db)

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection in which each statement is a transaction of its own."""
        with self._lent() as db:
            yield db

    def close(self) -> None:
        """Close idle connections; those lent out close when given back."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._closed = True
        for db in idle:
            db.close()

    @contextmanager
    def _lent(self) -> Iterator[Connection]:
        db = self._taken()
        try:
            with errors_of(self.address):
                yield db
        finally:
            self._give_back(db)

    def _taken(self) -> Connection:
        while True:
            with self._lock:
                db = self._idle.pop() if self._idle else None
                self._closed = False
            if db is None:
                return connect(self.address)
            if not db.closed and _is_alive(db):
                return db
            db.close()

    def _give_back(self, db: Connection) -> None:
        with self._lock:
            is_well = db.info.transaction_status == _psycopg.pq.TransactionStatus.IDLE
            keep = is_well and not self._closed and len(self._idle) < _KEPT_IDLE
            if keep:
                self._idle.append(db)
        if not keep:
            db.close()


def _is_alive(db: Connection) -> bool:
    """Whether the server hasn't hung up meanwhile; costs no round trip."""
    import select

    try:
        # An idle connection has nothing to say but that it is being closed.
        ready, _, _ = select.select([db.fileno()], [], [], 0)
    except (OSError, ValueError, _psycopg.Error):
        return False
    return not ready


def _rollback(db: Connection) -> None:
    if db.info.transaction_status != _psycopg.pq.TransactionStatus.IDLE:
        with suppress(_psycopg.Error):
            db.execute("ROLLBACK")


def quoted(name: str) -> str:
    """`name` as an identifier in a statement that is given parameters."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def ours(name: str) -> str:
    """An object in our schema."""
    return f"{SCHEMA}.{quoted(name)}"


def literal(text: str) -> str:
    """`text` as a string constant in a statement that is given parameters."""
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"


def require_schema(db: Connection, address: str) -> bool:
    """Whether the schema that all our objects lie in is there; if not, that it can be made.

    Raises:
        DatabaseReadOnly: this role may not write in it or make it; the message has the statement
            that mends it.
    """
    row = db.execute(
        "SELECT current_user, current_database(), to_regnamespace(%s) IS NOT NULL,"
        " CASE WHEN to_regnamespace(%s) IS NULL"
        " THEN has_database_privilege(current_database(), 'CREATE')"
        " ELSE has_schema_privilege(%s, 'CREATE') AND has_schema_privilege(%s, 'USAGE') END",
        (SCHEMA, SCHEMA, SCHEMA, SCHEMA),
    ).fetchone()
    user, database, is_there, may = row or ("?", "?", True, True)
    if may:
        return bool(is_there)
    shown = without_password(address)
    if is_there:
        raise DatabaseReadOnly(
            f"{shown}: role {user} may not make tables in the schema {SCHEMA}; let its owner run: "
            f'GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO "{user}";'
        )
    raise DatabaseReadOnly(
        f"{shown}: role {user} may not make the schema {SCHEMA}; let the owner run: GRANT CREATE "
        f'ON DATABASE "{database}" TO "{user}"; or: CREATE SCHEMA {SCHEMA} AUTHORIZATION "{user}";'
    )


def make_schema(db: Connection, address: str) -> None:
    """Make the schema that all our objects lie in; until the transaction ends nobody else does.

    Raises:
        DatabaseReadOnly: see `require_schema`.
    """
    # Even IF NOT EXISTS fails when two do it at once.
    db.execute("SELECT pg_advisory_xact_lock(hashtext('likewise.schema'))")
    if not require_schema(db, address):
        db.execute(f"CREATE SCHEMA {SCHEMA}")


def drop_schema_if_empty(db: Connection) -> None:
    """Remove our schema when nothing is left in it; one that somebody made for us stays."""
    done = db.execute(
        "SELECT pg_has_role(n.nspowner, 'USAGE')"
        " AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid)"
        " AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid)"
        " FROM pg_namespace n WHERE n.nspname = %s",
        (SCHEMA,),
    ).fetchone()
    if done is not None and done[0]:
        db.execute(f"DROP SCHEMA {SCHEMA}")


def require_pgvector(db: Connection, address: str) -> None:
    """Have pgvector, of a version that doesn't damage its indexes.

    Raises:
        DatabaseError: it isn't there, or too old; the message says what to run.
    """
    shown = without_password(address)
    found = db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    if found is None:
        offered = db.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
        ).fetchone()
        if offered is None:
            raise DatabaseError(
                f"{shown}: pgvector isn't installed on the server; install its package "
                "(such as postgresql-18-pgvector), then: CREATE EXTENSION vector;"
            )
        _require_version(shown, str(offered[0]))
        try:
            db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except _psycopg.errors.InsufficientPrivilege as refused:
            raise DatabaseReadOnly(
                f"{shown}: this role may not add pgvector; let a superuser run: "
                "CREATE EXTENSION vector;"
            ) from refused
        return
    _require_version(shown, str(found[0]))


def _require_version(shown: str, version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if numbers < LEAST_PGVECTOR:
        least = ".".join(map(str, LEAST_PGVECTOR))
        raise DatabaseError(
            f"{shown}: pgvector is {version}; at least {least} is needed (older ones can damage an "
            "index while rows are written). Update its package, then: ALTER EXTENSION vector "
            "UPDATE;"
        )
