"""One fenced transaction in Postgres: vectors, answered log entries, feed and cursor together.

Order of locks, the same for every worker: log entries by their number, lines of rows, and last the
binding's line in the registry, which puts the versions of the feed in the order of commits.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import BindingNotFound, SpaceMismatch
from likewise.base.types import Action, Applied, Delete, Keep, Key, Park, Put
from likewise.sql.pgvector import VectorArray
from likewise.sql.postgres_arrays import Array
from likewise.sql.postgres_keys import arrays, given, key_from
from likewise.stores.postgres_schema import BINDING

if TYPE_CHECKING:
    from likewise.sql.postgres import Connection
    from likewise.stores.postgres_queue import PostgresQueue

FEED_KEPT = 50_000
"""Entries of the feed that are kept; an index further behind reads everything again."""

LEAST_KNOWN = 512
"""So much must have been published before the planner's statistics are looked after."""


class Publisher:
    """Carries out actions on one connection, inside the caller's transaction."""

    def __init__(self, db: Connection, queue: PostgresQueue) -> None:
        self._db = db
        self._tables = queue._tables
        self._kinds = queue._kinds
        self._matches = queue._matches
        self._own_keys = queue._own_keys()
        self._id = queue._id
        self.has_doubled = False
        """Whether twice as much had been published afterwards as at the last such moment."""

    def publish(self, actions: Sequence[Action], *, fingerprint: str, cursor: int) -> Applied:
        """Carry out each action that the fence lets through."""
        seqs = {action.key: action.seq for action in actions}
        mine = self._lock_mine(seqs)
        newer = self._superseded(seqs)
        kept = self._keeps(actions)
        answered: list[int] = []
        released: list[int] = []
        through: list[Action] = []
        counts = dict.fromkeys(("put", "deleted", "parked", "kept", "superseded"), 0)
        for action in actions:
            entries = mine.get(action.key)
            is_kept = isinstance(action, Keep)
            if entries is None or action.key in newer or (is_kept and action.key not in kept):
                counts["superseded"] += 1
                # A Keep that no longer holds leaves its entries to the next claim.
                (released if is_kept else answered).extend(entries or ())
                continue
            answered += entries
            if is_kept:
                counts["kept"] += 1
            else:
                through.append(action)
        self._answer(answered, released)
        done = self._carry_out(through)
        for action in through:
            counts[_name(action) if action.key in done else "superseded"] += 1
        self._finish([a for a in through if a.key in done], fingerprint, counts["put"], cursor)
        return Applied(**counts)

    def _lock_mine(self, seqs: dict[Key, int]) -> dict[Key, list[int]]:
        """Entries that were claimed by the time of each action's claim, and wait still."""
        rows: list[Any] = self._db.execute(
            f"SELECT l.seq, l.claim = m1, {self._tables.shown('l.')} FROM"
            f" {given(self._kinds, 'bigint[]')} JOIN {self._tables.log} l ON {self._matches('l')}"
            " AND l.claim <= m1 ORDER BY l.seq FOR UPDATE OF l",
            (*arrays(list(seqs), self._kinds), Array("bigint", list(seqs.values()))),
        ).fetchall()
        found: dict[Key, list[int]] = {}
        own: set[Key] = set()
        for seq, is_own, *parts in rows:
            key = key_from(parts, self._kinds)
            found.setdefault(key, []).append(seq)
            if is_own:
                own.add(key)
        # Where the very claim is gone, another worker has answered it or taken it over.
        return {key: entries for key, entries in found.items() if key in own}

    def _superseded(self, seqs: dict[Key, int]) -> set[Key]:
        """Keys with an entry that came later: that nobody has claimed, or a later claim has."""
        rows = self._db.execute(
            f"SELECT DISTINCT {self._tables.shown('l.')} FROM {given(self._kinds, 'bigint[]')}"
            f" JOIN {self._tables.log} l ON {self._matches('l')} AND (l.claim IS NULL OR l.claim >"
            " m1)",
            (*arrays(list(seqs), self._kinds), Array("bigint", list(seqs.values()))),
        )
        return {key_from(row, self._kinds) for row in rows}

    def _keeps(self, actions: Sequence[Action]) -> set[Key]:
        """Keys of which what is stored is of the text that a Keep says."""
        keeps = [action for action in actions if isinstance(action, Keep)]
        if not keeps:
            return set()
        rows = self._db.execute(
            f"SELECT {self._tables.shown('r.')} FROM {given(self._kinds, 'bytea[]')} JOIN"
            f" {self._tables.row} r ON {self._matches('r')} AND r.fingerprint = m1",
            (
                *arrays([a.key for a in keeps], self._kinds),
                Array("bytea", [a.fingerprint for a in keeps]),
            ),
        )
        return {key_from(row, self._kinds) for row in rows}

    def _answer(self, answered: Sequence[int], released: Sequence[int]) -> None:
        log = self._tables.log
        self._db.execute(
            f"DELETE FROM {log} WHERE seq = ANY(%s::bigint[])", (Array("bigint", answered),)
        )
        if released:
            self._db.execute(
                f"UPDATE {log} SET claim = NULL, holder = NULL WHERE seq = ANY(%s::bigint[])",
                (Array("bigint", released),),
            )

    def _carry_out(self, actions: Sequence[Action]) -> set[Key]:
        """Rows and passages; gives the keys that it was done for."""
        if not actions:
            return set()
        written = self._write_rows([a for a in actions if not isinstance(a, Delete)])
        deleted = {action.key for action in actions if isinstance(action, Delete)}
        done = written | deleted
        values = arrays(sorted(done, key=repr), self._kinds)
        for table in (self._tables.chunk, *((self._tables.row,) if deleted else ())):
            if table == self._tables.row:
                values = arrays(sorted(deleted, key=repr), self._kinds)
            self._db.execute(
                f"DELETE FROM {table} t USING {given(self._kinds)} WHERE {self._matches('t')}",
                values,
            )
        self._write_chunks([a for a in actions if isinstance(a, Put) and a.key in written])
        return done

    def _write_rows(self, actions: Sequence[Action]) -> set[Key]:
        if not actions:
            return set()
        tables = self._tables
        puts = [action for action in actions if isinstance(action, (Put, Park))]
        more = ("bytea[]", "text[]", "int[]", "bigint[]", "text[]", "int[]")
        rows = self._db.execute(
            f"INSERT INTO {tables.row} AS r ({tables.key_list()}, fingerprint, status, chunks, seq,"
            f" error, attempts) SELECT {self._own_keys}, m1, m2, m3, m4, m5, m6 FROM"
            f" {given(self._kinds, *more)} ON CONFLICT ({tables.key_list()}) DO UPDATE SET"
            " fingerprint = excluded.fingerprint, status = excluded.status, chunks ="
            " excluded.chunks, seq = excluded.seq, error = excluded.error, attempts = CASE"
            " excluded.attempts WHEN 0 THEN 0 ELSE r.attempts + 1 END, at = now()"
            f" WHERE r.seq <= excluded.seq RETURNING {tables.shown('r.')}",
            (
                *arrays([a.key for a in puts], self._kinds),
                Array("bytea", [a.fingerprint for a in puts]),
                Array("text", ["parked" if isinstance(a, Park) else "current" for a in puts]),
                Array("int", [len(getattr(a, "chunks", ())) for a in puts]),
                Array("bigint", [a.seq for a in puts]),
                Array("text", [_storable(a.error) if isinstance(a, Park) else None for a in puts]),
                Array("int", [int(isinstance(a, Park)) for a in puts]),
            ),
        )
        return {key_from(row, self._kinds) for row in rows}

    def _write_chunks(self, puts: Sequence[Put]) -> None:
        keys = [put.key for put in puts for _ in put.chunks]
        if not keys:
            return
        chunks = [chunk for put in puts for chunk in put.chunks]
        more = ("int[]", "int[]", "int[]", "text[]", "bytea[]", "vector[]")
        self._db.execute(
            f'INSERT INTO {self._tables.chunk} ({self._tables.key_list()}, chunk, "start", "end",'
            f" text, hash, vector) SELECT {self._own_keys}, m1, m2, m3, m4, m5, m6 FROM"
            f" {given(self._kinds, *more)}",
            (
                *arrays(keys, self._kinds),
                Array("int", [chunk.ordinal for chunk in chunks]),
                Array("int", [chunk.start for chunk in chunks]),
                Array("int", [chunk.end for chunk in chunks]),
                Array("text", [_storable(text) for put in puts for text in put.texts]),
                Array("bytea", [digest for put in puts for digest in put.hashes]),
                VectorArray(np.concatenate([put.vectors for put in puts]), self._db),
            ),
        )

    def _finish(self, published: Sequence[Action], fingerprint: str, put: int, cursor: int) -> None:
        row = self._db.execute(
            f"UPDATE {BINDING} SET version = version + %s, published = published + %s, cursor ="
            " greatest(cursor, %s) WHERE name = %s AND generation = %s RETURNING version,"
            " fingerprint",
            (len(published), put, cursor, *self._id),
        ).fetchone()
        if row is None:
            raise BindingNotFound(f"the database no longer has a binding {self._id[0]!r}")
        if row[1] != fingerprint:
            raise SpaceMismatch(
                f"binding {self._id[0]} was made anew for another model or setting; restart"
            )
        if not published:
            return
        top, tables = int(row[0]), self._tables
        first = top - len(published) + 1
        self.has_doubled = top >= LEAST_KNOWN and top.bit_length() > (first - 1).bit_length()
        self._db.execute(
            f"INSERT INTO {tables.feed} (version, {tables.key_list()}, stamp)"
            f" SELECT m1, {self._own_keys}, %s FROM {given(self._kinds, 'bigint[]')}",
            (
                secrets.randbits(62),
                *arrays([action.key for action in published], self._kinds),
                Array("bigint", range(first, top + 1)),
            ),
        )
        if top // 1000 != (first - 1) // 1000:
            self._db.execute(f"DELETE FROM {tables.feed} WHERE version <= %s", (top - FEED_KEPT,))


def _storable(text: str) -> str:
    """Postgres holds no NUL in a text."""
    return text.replace("\0", "\ufffd")


def _name(action: Action) -> str:
    return {Put: "put", Delete: "deleted", Park: "parked"}[type(action)]
