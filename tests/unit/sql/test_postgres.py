"""Connections to Postgres: lent, lost and made again; each of its errors becomes one of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

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
from likewise.sql import postgres
from likewise.sql.postgres import Database, connect, mapped, require_pgvector
from likewise.sql.postgres_settings import AT_FIRST, LOCK_SECONDS
from tests.postgres_kit import PgApp

ADDRESS = "postgresql://me:secret@db.example/app?sslpassword=secret"
OURS: dict[type[psycopg.Error], type[LikewiseError]] = {
    psycopg.errors.InsufficientPrivilege: DatabaseReadOnly,
    psycopg.errors.ReadOnlySqlTransaction: DatabaseReadOnly,
    psycopg.errors.UndefinedTable: SchemaDrift,
    psycopg.errors.UndefinedColumn: SchemaDrift,
    psycopg.errors.UndefinedObject: SchemaDrift,
    psycopg.errors.InvalidSchemaName: SchemaDrift,
    psycopg.errors.DeadlockDetected: DatabaseLocked,
    psycopg.errors.SerializationFailure: DatabaseLocked,
    psycopg.errors.LockNotAvailable: DatabaseLocked,
    psycopg.errors.QueryCanceled: DatabaseLocked,
    psycopg.errors.DiskFull: DatabaseFull,
    psycopg.errors.TooManyConnections: DatabaseUnavailable,
    psycopg.errors.OutOfMemory: DatabaseUnavailable,
    psycopg.errors.AdminShutdown: DatabaseUnavailable,
    psycopg.errors.CannotConnectNow: DatabaseUnavailable,
    psycopg.errors.ConnectionFailure: DatabaseUnavailable,
    psycopg.errors.IdleInTransactionSessionTimeout: DatabaseUnavailable,
    psycopg.errors.InvalidPassword: DatabaseError,
    psycopg.errors.InvalidCatalogName: DatabaseMissing,
    psycopg.errors.DataCorrupted: DatabaseCorrupt,
    psycopg.errors.IndexCorrupted: DatabaseCorrupt,
    psycopg.errors.SyntaxError: DatabaseError,
    psycopg.errors.UniqueViolation: DatabaseError,
    psycopg.OperationalError: DatabaseUnavailable,
    psycopg.InterfaceError: DatabaseError,
}


def every_error() -> list[type[psycopg.Error]]:
    found: list[type[psycopg.Error]] = [psycopg.Error]
    for kind in found:
        found += [each for each in kind.__subclasses__() if each not in found]
    return found


@pytest.fixture
def database_(database: str) -> Iterator[Database]:
    made = Database(database)
    yield made
    made.close()


def test_every_error_of_the_driver_is_mapped_and_says_no_password() -> None:
    kinds = every_error()
    assert len(kinds) > 200
    for kind in kinds:
        ours = mapped(kind("words"), ADDRESS)
        assert isinstance(ours, DatabaseError | SchemaDrift), kind
        assert "secret" not in str(ours)
        assert "db.example" in str(ours) and "words" in str(ours)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_each_becomes_the_right_one(kind: type[psycopg.Error]) -> None:
    assert type(mapped(kind("words"), ADDRESS)) is OURS[kind]


def test_a_read_sees_one_state_and_writes_nothing(database_: Database) -> None:
    with closing(PgApp(database_.address, "CREATE TABLE t (n int)")) as app:
        with database_.read() as db:
            assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
            app("INSERT INTO t VALUES (1)")
            assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with pytest.raises(DatabaseReadOnly), database_.read() as db:
            db.execute("INSERT INTO t VALUES (2)")


def test_a_write_commits_or_leaves_nothing(database_: Database) -> None:
    with closing(PgApp(database_.address, "CREATE TABLE t (n int)")) as app:
        with database_.write() as db:
            db.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ZeroDivisionError), database_.write() as db:
            db.execute("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
        assert app("SELECT n FROM t") == [(1,)]


def test_values_have_one_text_whatever_the_servers_defaults(database: str) -> None:
    with closing(PgApp(database)) as app:
        [(name,)] = app("SELECT current_database()")
        for setting in (
            "DateStyle = 'SQL, DMY'",
            "TimeZone = 'Asia/Tokyo'",
            "bytea_output = 'escape'",
        ):
            app(f"ALTER DATABASE {name} SET {setting}")
    with closing(connect(database)) as db:
        shown = db.execute(
            r"SELECT timestamptz '2024-02-01 12:00Z' || ' ' || bytea '\xff'::text"
            " || current_setting('application_name')"
        ).fetchone()
    assert shown == (r"2024-02-01 12:00:00+00 \xfflikewise",)


def test_a_connection_that_the_server_closed_is_replaced(database_: Database) -> None:
    with closing(PgApp(database_.address)) as app:
        with database_.session() as db:
            first = db.info.backend_pid
        app("SELECT pg_terminate_backend(%s, 5000)", (first,))
        with database_.write() as db:
            assert db.info.backend_pid != first
        # In the middle of a transaction it can't be hidden, and may be tried again.
        with pytest.raises(DatabaseUnavailable) as lost, database_.write() as db:
            app("SELECT pg_terminate_backend(%s, 5000)", (db.info.backend_pid,))
            db.execute("SELECT 1")
        assert lost.value.retryable
        with database_.read() as db:
            db.execute("SELECT 1")


def test_threads_have_connections_of_their_own(database_: Database) -> None:
    with database_.read() as one, database_.read() as two:
        assert one is not two
    with database_.read() as again:
        assert again in (one, two)


def test_nobody_waits_for_us_for_long(database_: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AT_FIRST.replace(f"'{LOCK_SECONDS}s'", "'50ms'")
    monkeypatch.setattr(postgres, "AT_FIRST", settings)
    with closing(PgApp(database_.address, "CREATE TABLE t (n int)")) as app:
        app("BEGIN; LOCK TABLE t")
        with pytest.raises(DatabaseLocked), database_.write() as db:
            db.execute("INSERT INTO t VALUES (1)")
        app("ROLLBACK")


def test_servers_and_databases_that_are_not_there(postgres: str) -> None:
    with pytest.raises(DatabaseMissing):
        connect(postgres.replace("/postgres?", "/nothing?"))
    with pytest.raises(DatabaseError, match="login was refused") as refused:
        connect(postgres.replace("//postgres:", "//nobody:"))
    assert not refused.value.retryable
    with pytest.raises(DatabaseUnavailable, match="is it running"):
        connect("postgresql://me:secret@/app?host=/nowhere")


def test_an_old_server_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LEAST_SERVER", 990_000)
    with pytest.raises(DatabaseError, match="at least 99 is needed"):
        connect(database)


def test_pgvector_is_added_where_it_may_be(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(PgApp(database)) as app:
        [(name,)] = app("SELECT current_database()")
        role = f"plain_{name}"
        app(f"CREATE ROLE {role} LOGIN")
        theirs = database.replace("//postgres:", f"//{role}:")
        with (
            closing(connect(theirs)) as db,
            pytest.raises(DatabaseReadOnly, match="superuser run: CREATE EXTENSION vector;"),
        ):
            require_pgvector(db, database)
        with closing(connect(database)) as db:
            require_pgvector(db, database)
            require_pgvector(db, database)
            monkeypatch.setattr(postgres, "LEAST_PGVECTOR", (99, 0, 0))
            with pytest.raises(DatabaseError, match="ALTER EXTENSION vector UPDATE"):
                require_pgvector(db, database)
            app("DROP EXTENSION vector")
            with pytest.raises(DatabaseError, match="at least 99.0.0 is needed"):
                require_pgvector(db, database)
        app(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ('"$user", public', "public"),
        ("likewise, public", "public"),
        ('public, "Odd one", "$user"', 'public, "Odd one"'),
        ("''", '""'),
    ],
)
def test_our_own_schema_is_not_looked_in(database: str, path: str, left: str) -> None:
    """A role called like it would find a binding's view where the table of that name is meant."""
    with closing(PgApp(database)) as app:
        app("CREATE ROLE likewise LOGIN; CREATE SCHEMA likewise AUTHORIZATION likewise")
        try:
            app(f"ALTER ROLE likewise SET search_path = {path}")
            with closing(connect(database.replace("//postgres:", "//likewise:"))) as db:
                assert db.execute("SHOW search_path").fetchone() == (left,)
        finally:
            app("DROP SCHEMA likewise; DROP ROLE likewise")
        # Of other roles nothing is changed.
        with closing(connect(database)) as db:
            assert db.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_pgvector_in_our_schema_is_found(database: str) -> None:
    with closing(PgApp(database)) as app:
        app("CREATE SCHEMA likewise; CREATE EXTENSION vector SCHEMA likewise")
        with closing(connect(database)) as db:
            assert db.execute("SELECT '[1,2]'::vector::text").fetchone() == ("[1,2]",)


def test_a_server_with_an_old_pgvector_or_none(database: str) -> None:
    with closing(PgApp(database)) as app:
        [(name,)] = app("SELECT current_database()")
        app("CREATE EXTENSION vector")
        # As after a package's update whose ALTER EXTENSION nobody ran.
        app("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
        with (
            closing(connect(database)) as db,
            pytest.raises(DatabaseError, match=r"pgvector is 0\.8\.3; at least 0\.8\.4 is needed"),
        ):
            require_pgvector(db, database)
        app("ALTER EXTENSION vector UPDATE")
        with closing(connect(database)) as db:
            require_pgvector(db, database)
        app("DROP EXTENSION vector")
        app(f"ALTER DATABASE {name} SET extension_control_path = '/nowhere'")
        with (
            closing(connect(database)) as db,
            pytest.raises(
                DatabaseError, match="isn't installed on the server; install its package"
            ),
        ):
            require_pgvector(db, database)


def test_two_that_make_the_schema_at_once(database: str) -> None:
    failed: list[Exception] = []

    def make() -> None:
        made = Database(database)
        try:
            with made.write() as db:
                postgres.make_schema(db, database)
        except LikewiseError as error:
            failed.append(error)
        finally:
            made.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
