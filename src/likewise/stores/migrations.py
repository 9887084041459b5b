"""The schema of Likewise's tables in a SQLite file, as numbered steps; old ones never change."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from likewise.sql.names import BINDING, META, Layout
from likewise.stores.steps import steps_left

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw


def m001_registry(db: apsw.Connection) -> None:
    """The file's own facts, and one line a binding."""
    db.execute(f"CREATE TABLE {META} (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute(f"INSERT INTO {META} VALUES ('epoch', ?)", (secrets.token_hex(16),))
    db.execute(
        f"CREATE TABLE {BINDING} (name TEXT PRIMARY KEY, spec TEXT NOT NULL, space TEXT NOT NULL,"
        " fingerprint TEXT NOT NULL, created REAL NOT NULL, cursor INTEGER NOT NULL DEFAULT 0,"
        " published INTEGER NOT NULL DEFAULT 0, lease_holder TEXT, lease_until REAL,"
        " reconcile_wanted INTEGER NOT NULL DEFAULT 0,"
        " reconcile_done INTEGER NOT NULL DEFAULT 0, error TEXT) WITHOUT ROWID"
    )


def m002_generations(db: apsw.Connection) -> None:
    """One line a generation; passages with their text and its hash; marks of scanned sources."""
    db.execute(f"ALTER TABLE {BINDING} RENAME TO likewise_binding_1")
    db.execute(
        f"CREATE TABLE {BINDING} (name TEXT NOT NULL, generation INTEGER NOT NULL, state TEXT NOT"
        " NULL, spec TEXT NOT NULL, space TEXT NOT NULL, kinds TEXT NOT NULL, fingerprint TEXT NOT"
        " NULL, created REAL NOT NULL, cursor INTEGER NOT NULL DEFAULT 0, published INTEGER NOT"
        " NULL DEFAULT 0, lease_holder TEXT, lease_until REAL, reconcile_wanted INTEGER NOT NULL"
        " DEFAULT 0, reconcile_done INTEGER NOT NULL DEFAULT 0, error TEXT, paused INTEGER NOT NULL"
        " DEFAULT 0, accept_deletes INTEGER NOT NULL DEFAULT 0, place TEXT, canary BLOB,"
        " PRIMARY KEY (name, generation)) WITHOUT ROWID"
    )
    old = db.execute(
        "SELECT name, spec, space, fingerprint, created, cursor, published, reconcile_wanted,"
        " reconcile_done FROM likewise_binding_1"
    ).fetchall()
    for name, spec, *rest in old:
        key = [str(column) for column in json.loads(str(spec))["key"]]
        db.execute(
            f"INSERT INTO {BINDING} (name, generation, state, spec, space, fingerprint, created,"
            " cursor, published, reconcile_wanted, reconcile_done, kinds)"
            " VALUES (?, 1, 'current', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, spec, *rest, json.dumps(["any" for _ in key])),
        )
        chunk, seen = f"likewise_{name}_chunk", f"likewise_{name}_seen"
        db.execute(f"ALTER TABLE {chunk} ADD COLUMN hash BLOB")
        db.execute(f"ALTER TABLE {chunk} ADD COLUMN text TEXT")
        db.execute(f"CREATE INDEX {chunk}hash ON {chunk} (hash) WHERE hash IS NOT NULL")
        db.execute(f"CREATE TABLE {seen} (unit TEXT PRIMARY KEY, mark BLOB NOT NULL) WITHOUT ROWID")
    db.execute("DROP TABLE likewise_binding_1")


def m003_views(db: apsw.Connection) -> None:
    """A view a binding, over its current generation."""
    found = db.execute(
        f"SELECT name, generation, spec FROM {BINDING} WHERE state = 'current'"
    ).fetchall()
    for name, generation, spec in found:
        key = tuple(str(column) for column in json.loads(str(spec))["key"])
        db.execute(Layout(str(name), key, int(str(generation))).view_statement())


STEPS: tuple[Callable[[apsw.Connection], None], ...] = (
    m001_registry,
    m002_generations,
    m003_views,
)


def version_of(db: apsw.Connection) -> int:
    """How many steps the file has taken; 0 when it holds nothing of ours."""
    found = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (META,)).get
    if not found:
        return 0
    return int(db.execute(f"SELECT value FROM {META} WHERE name = 'schema'").get)


def migrate(db: apsw.Connection) -> None:
    """Take the steps that are left, inside the caller's write transaction.

    Raises:
        BindingError: a newer Likewise made the file.
    """
    for number, step in steps_left(STEPS, version_of(db), "the file's"):
        step(db)
        db.execute(f"INSERT OR REPLACE INTO {META} VALUES ('schema', ?)", (str(number),))
