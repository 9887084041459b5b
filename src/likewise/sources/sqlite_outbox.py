"""The outbox of a SQLite file whose vectors lie elsewhere: written by triggers, emptied by workers.

`likewise_source` has a line a generation with the place token, `likewise_<name>_outbox` the changes
(docs/format.md).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from likewise.base.types import Captured, Change
from likewise.sql.names import Layout

if TYPE_CHECKING:
    import apsw

    from likewise.base.types import Op

SOURCE = "likewise_source"


class Outbox:
    """One generation's outbox, worked on through connections of the caller's."""

    def __init__(self, name: str, generation: int) -> None:
        self._name = (name, generation)
        self._table = Layout(name, (), generation).outbox

    def make(self, db: apsw.Connection, layout: Layout) -> None:
        """Make the tables that aren't there."""
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {SOURCE} (name TEXT NOT NULL, generation INTEGER NOT NULL,"
            " place TEXT NOT NULL, PRIMARY KEY (name, generation)) WITHOUT ROWID"
        )
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (self._table,)).get:
            db.execute(layout.log_table(self._table))
        db.execute(
            f"INSERT OR IGNORE INTO {SOURCE} VALUES (?, ?, ?)", (*self._name, secrets.token_hex(8))
        )

    def note_all(self, db: apsw.Connection) -> None:
        """Log that any row may have changed."""
        db.execute(f"INSERT INTO {self._table} (op) VALUES ('all')")

    def read(self, db: apsw.Connection, layout: Layout, limit: int) -> Captured:
        """The oldest entries, and the place to leave behind when they are taken off."""
        place = self._place(db)
        sql = f"SELECT seq, op, at, {layout.key_list} FROM {self._table} ORDER BY seq LIMIT ?"
        try:
            found: list[Any] = db.execute(sql, (limit,)).fetchall()
        except UnicodeDecodeError:
            # A key that isn't UTF-8 can't be named by any program: the comparison tells the rest.
            sql = f"SELECT seq, 'all', at FROM {self._table} ORDER BY seq LIMIT ?"
            found = db.execute(sql, (limit,)).fetchall()
        changes = tuple(
            Change(row[0], () if row[1] == "all" else tuple(row[3:]), cast("Op", row[1]), row[2])
            for row in found
        )
        return Captured(changes, place, secrets.token_hex(8) if changes else place)

    def take_off(self, db: apsw.Connection, taken: Captured) -> None:
        """Take exactly these entries off, and move on to the next place."""
        sql = f"DELETE FROM {self._table} WHERE seq = ?"
        db.executemany(sql, [(change.seq,) for change in taken.changes])
        db.execute(
            f"UPDATE {SOURCE} SET place = ? WHERE name = ? AND generation = ?",
            (taken.after, *self._name),
        )

    def waiting(self, db: apsw.Connection) -> tuple[int, float | None]:
        """How many entries, and when the oldest was written."""
        if not self._is_there(db):
            return 0, None
        sql = f"SELECT count(*), min(at) FROM {self._table}"
        found: Any = db.execute(sql).fetchone()
        return int(found[0]), found[1]

    def tail(self, db: apsw.Connection) -> int:
        """The newest entry; 0 when there is none, or no outbox yet."""
        if not self._is_there(db):
            return 0
        return int(cast("Any", db.execute(f"SELECT max(seq) FROM {self._table}").get) or 0)

    def is_past(self, db: apsw.Connection, seq: int) -> bool:
        """Whether no entry up to `seq` is left."""
        sql = f"SELECT 1 FROM {self._table} WHERE seq <= ? LIMIT 1"
        return db.execute(sql, (seq,)).get is None

    def drop(self, db: apsw.Connection) -> None:
        """Remove it; with the last one everything of ours goes."""
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (SOURCE,)).get:
            return
        db.execute(f"DROP TABLE IF EXISTS {self._table}")
        db.execute(f"DELETE FROM {SOURCE} WHERE name = ? AND generation = ?", self._name)
        if not db.execute(f"SELECT 1 FROM {SOURCE}").get:
            db.execute(f"DROP TABLE {SOURCE}")

    def _is_there(self, db: apsw.Connection) -> bool:
        sql = "SELECT 1 FROM sqlite_schema WHERE name = ?"
        return db.execute(sql, (self._table,)).get is not None

    def _place(self, db: apsw.Connection) -> str:
        sql = f"SELECT place FROM {SOURCE} WHERE name = ? AND generation = ?"
        return str(db.execute(sql, self._name).get or "")
