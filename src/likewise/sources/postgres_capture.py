"""What lies in a Postgres source for one binding: triggers, their function, the outbox, a line."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.base.errors import SchemaDrift
from likewise.sources.postgres_triggers import Names, function, outbox_table, triggers
from likewise.sql.postgres import drop_schema_if_empty, make_schema
from likewise.sql.postgres_settings import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from likewise.sources.postgres_rows import Reading
    from likewise.sql.postgres import Connection
    from likewise.sql.postgres_schema import Relation

SOURCE = "likewise.source"
"""One line a binding: its place, and what it was installed for."""
LOCK_SECONDS = 2
"""How long it is waited for a table's lock: those who write to it queue behind us meanwhile."""

_SOURCE_TABLE = f"""
CREATE TABLE IF NOT EXISTS {SOURCE} (name text, generation int, place text NOT NULL,
    signature text, wanted text, relation oid, columns jsonb, kinds text[],
    PRIMARY KEY (name, generation))
"""
# All that could make what was installed wrong, as the catalogue has it now. Each partition has its
# copy of the row trigger, so partitions that come, go or are tampered with show in the triggers.
_STATE = f"""
WITH r AS (SELECT * FROM pg_class WHERE oid = %s)
SELECT s.signature, md5(concat_ws('|', r.oid, r.relname, r.relnamespace, r.relkind,
    r.relispartition, r.relowner, row_security_active(r.oid),
    EXISTS (SELECT FROM pg_subscription_rel u WHERE u.srrelid = r.oid),
    EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = r.oid AND r.relkind = 'r'),
    (SELECT string_agg(concat_ws(' ', g.tgrelid, g.tgname, g.tgenabled,
                                 md5(pg_get_triggerdef(g.oid)), md5(p.prosrc), p.proconfig,
                                 p.prosecdef, p.proowner), ',' ORDER BY g.tgrelid, g.tgname)
     FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid WHERE p.oid = to_regproc(%s)::oid),
    (SELECT string_agg(concat_ws(' ', i.indexrelid, i.indkey, i.indisvalid), ','
                       ORDER BY i.indexrelid)
     FROM pg_index i WHERE i.indrelid = r.oid AND i.indisunique),
    (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.attcollation,
                                 a.attgenerated, a.attnotnull), ',' ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped))),
    s.wanted
FROM {SOURCE} s, r WHERE s.name = %s AND s.generation = %s
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What reading and capturing need to know of the table."""

    relation: Relation
    reading: Reading


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the table was when triggers were installed."""

    relation: int
    columns: Mapping[str, int]
    """Columns of key and template, and the numbers that they keep when they are renamed."""
    kinds: tuple[str, ...]


class Capture:
    """The installation of one generation of a binding."""

    def __init__(self, name: str, generation: int, *, notify: bool) -> None:
        self.names = Names(name, generation)
        self.id = (name, generation)
        self._notify = notify

    def is_whole(self, db: Connection, known: Known) -> bool:
        """Whether all is as it was installed, and as this version would install it."""
        if not (is_there(db, SOURCE) and is_there(db, self.names.outbox)):
            return False
        found = self._state(db, known)
        return found is not None and found[0] == found[1] and found[2] == self._wanted(known)

    def remembered(self, db: Connection) -> Remembered | None:
        """What it was installed for; None when it isn't."""
        if not is_there(db, SOURCE):
            return None
        sql = f"SELECT relation, columns, kinds FROM {SOURCE} WHERE name = %s AND generation = %s"
        found: Any = db.execute(sql, self.id).fetchone()
        if found is None or found[0] is None:
            return None
        return Remembered(int(found[0]), found[1], tuple(found[2]))

    def lock(self, db: Connection, address: str) -> None:
        """Be the only one who installs anything, until the transaction ends."""
        db.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        make_schema(db, address)

    def install(self, db: Connection, known: Known) -> None:
        """Make everything anew, and note that changes may have been missed."""
        reading, relation = known.reading, known.relation
        db.execute(_SOURCE_TABLE)
        db.execute(outbox_table(self.names, reading.kinds), ())
        # Not DROP TRIGGER: only the table's owner may say that.
        db.execute(f"DROP FUNCTION IF EXISTS {self.names.function}() CASCADE", ())
        by_row = relation.is_by_row
        db.execute(function(self.names, reading, by_row=by_row, notify=self._notify), ())
        for statement in triggers(self.names, relation):
            db.execute(statement, ())
        columns = {c.name: c.number for c in (*reading.key, *reading.watched.values())}
        db.execute(
            f"INSERT INTO {SOURCE} (name, generation, place) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (*self.id, secrets.token_hex(8)),
        )
        db.execute(
            f"UPDATE {SOURCE} SET signature = %s, wanted = %s, relation = %s, columns = %s,"
            " kinds = %s WHERE name = %s AND generation = %s",
            (
                self._state(db, known)[1],
                self._wanted(known),
                relation.oid,
                json.dumps(columns),
                list(reading.kinds),
                *self.id,
            ),
        )
        db.execute(f"INSERT INTO {self.names.outbox} (op) VALUES ('all')", ())

    def remove(self, db: Connection) -> None:
        """Drop all of it; with the last binding everything of ours."""
        db.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        if not is_there(db, SOURCE):
            return
        db.execute(f"DROP FUNCTION IF EXISTS {self.names.function}() CASCADE", ())
        db.execute(f"DROP TABLE IF EXISTS {self.names.outbox}", ())
        db.execute(f"DELETE FROM {SOURCE} WHERE name = %s AND generation = %s", self.id)
        if db.execute(f"SELECT FROM {SOURCE} LIMIT 1").fetchone() is None:
            db.execute(f"DROP TABLE {SOURCE}")
            drop_schema_if_empty(db)

    def require_same(self, relation: Relation, was: Remembered) -> None:
        """No column of key or template was renamed.

        Raises:
            SchemaDrift: one was.
        """
        names = {column.name: column.number for column in relation.columns}
        numbers = {column.number: column.name for column in relation.columns}
        for name, number in was.columns.items():
            if relation.oid == was.relation and name not in names and number in numbers:
                raise SchemaDrift(
                    f"column {name} of {relation.name} was renamed to {numbers[number]}; rename it "
                    f"back, or drop binding {self.names.name} and bind again"
                )

    def require_same_key(self, kinds: tuple[str, ...], was: Remembered) -> None:
        """The key columns are of the types for which the binding was made.

        Raises:
            SchemaDrift: they aren't.
        """
        if kinds != was.kinds:
            raise SchemaDrift(
                f"the key of binding {self.names.name} is now of {', '.join(kinds)}; it was of "
                f"{', '.join(was.kinds)} when it was made. Drop the binding and bind again."
            )

    def _state(self, db: Connection, known: Known) -> Any:
        return db.execute(_STATE, (known.relation.oid, self.names.function, *self.id)).fetchone()

    def _wanted(self, known: Known) -> str:
        by_row = known.relation.is_by_row
        text = function(self.names, known.reading, by_row=by_row, notify=self._notify)
        whole = "\n".join([text, *triggers(self.names, known.relation)])
        return hashlib.sha256(whole.encode()).hexdigest()


def is_there(db: Connection, name: str) -> bool:
    """Whether there is a table of that name in our schema, and this role can see into that."""
    found = db.execute(
        "SELECT CASE WHEN to_regnamespace(%s) IS NULL THEN false"
        " WHEN NOT has_schema_privilege(%s, 'USAGE') THEN false"
        " ELSE to_regclass(%s) IS NOT NULL END",
        (SCHEMA, SCHEMA, name),
    ).fetchone()
    return found is not None and bool(found[0])
