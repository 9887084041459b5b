"""Vectors in pgvector columns of a Postgres database (docs/format.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import BindingNotFound, DatabaseError, LeaseLost
from likewise.base.space import Space
from likewise.base.types import Applied, Block, Chunk, Feed, Key
from likewise.sql.postgres import Database, ours
from likewise.sql.postgres_arrays import Array
from likewise.sql.postgres_keys import arrays, back, carried, given, key_from, one
from likewise.stores.check import require_storable
from likewise.stores.postgres_index import Index
from likewise.stores.postgres_publish import Publisher
from likewise.stores.postgres_queue import PostgresQueue
from likewise.stores.postgres_schema import BINDING, WORKER
from likewise.stores.stamps import Stamps

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.base.types import Action, Vectors
    from likewise.sql.postgres import Connection


class PostgresTable(PostgresQueue):
    """The vectors of one generation of a binding. Safe to use from several threads."""

    def __init__(self, record: BindingRecord, address: str) -> None:
        super().__init__(record, Database(address))
        self.index = Index(self._database, self._tables, record.space.dimensions)
        self._stamps = Stamps()

    @property
    def space(self) -> Space:
        """The only space whose vectors it takes."""
        return self.record.space

    def apply(self, actions: Sequence[Action], *, cursor: int) -> Applied:
        """Publish in one transaction: rows, log entries answered, and `cursor` move together.

        Raises:
            SpaceMismatch: vectors of another width, or the binding was made anew.
            LeaseLost: this worker's lease was taken away.
            DatabaseError: nothing was changed.
        """
        require_storable(actions, self.space)
        latest = {action.key: action for action in actions}
        with self._database.write() as db:
            self._require_mine(db)
            publisher = Publisher(db, self)
            applied = publisher.publish(
                list(latest.values()), fingerprint=self.space.fingerprint, cursor=cursor
            )
        if publisher.has_doubled:
            self._analyze()
        return applied

    def fingerprints(self, keys: Sequence[Key] | None = None) -> Mapping[Key, bytes]:
        """What text each key's vectors are of; all keys when None. Parked rows too."""
        tables = self._tables
        shown = f"SELECT r.fingerprint, {tables.shown('r.')} FROM"
        with self._database.session() as db:
            rows: list[Any] = (
                db.execute(f"{shown} {tables.row} r", ()).fetchall()
                if keys is None
                else db.execute(
                    f"{shown} {given(self._kinds)} JOIN {tables.row} r ON {self._matches('r')}",
                    arrays(keys, self._kinds),
                ).fetchall()
            )
        return {key_from(row[1:], self._kinds): row[0] for row in rows}

    def scan(self, block: int = 4096, *, keys: Sequence[Key] | None = None) -> Iterator[Block]:
        """All vectors (or those of `keys`) in blocks of about `block` chunks, by key.

        Each block is read in a transaction of its own, so that none stays open for long.
        """
        if keys is None:
            yield from self._scan_all(max(block, 1))
            return
        tables = self._tables
        sql = (
            f"{self._selected()} FROM {given(self._kinds)} JOIN {tables.chunk} c ON"
            f" {self._matches('c')} ORDER BY {tables.key_list('c.')}, c.chunk"
        )
        for at in range(0, len(keys), block):
            with self._database.read() as db, db.cursor(binary=True) as cursor:
                cursor.execute(sql, arrays(keys[at : at + block], self._kinds))
                rows = cursor.fetchall()
            if rows:
                yield self._block(rows)

    def known(self, hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors that are stored for passages with these hashes, here or in a like space."""
        found: dict[bytes, Vectors] = {}
        with self._database.session() as db:
            for table in self._alike(db):
                missing = [each for each in dict.fromkeys(hashes) if each not in found]
                if not missing:
                    break
                with db.cursor(binary=True) as cursor:
                    cursor.execute(
                        f"SELECT DISTINCT ON (hash) hash, vector FROM {table} WHERE hash ="
                        " ANY(%s::bytea[])",
                        (Array("bytea", missing),),
                    )
                    for digest, blob in cursor:
                        vector = self._vector(blob)
                        if vector.shape == (self.space.dimensions,) and np.isfinite(vector).all():
                            found[bytes(digest)] = vector
        return found

    def published(self, after: int, *, limit: int = 10_000) -> Feed:
        """Keys put or deleted since version `after`, for indexes that follow."""
        tables = self._tables
        with self._database.read() as db:
            top = int(self._get(db, "version"))
            first = db.execute(f"SELECT min(version) FROM {tables.feed}", ()).fetchone()
            place = self._stamps.place(
                after,
                file=0,
                top=top,
                oldest=None if first is None else first[0],
                stamp_of=lambda version: self._stamp(db, version),
            )
            rows: list[Any] = []
            if not place.is_lost:
                rows = db.execute(
                    f"SELECT version, {tables.shown()} FROM {tables.feed} WHERE version > %s"
                    " ORDER BY version LIMIT %s",
                    (place.version, limit),
                ).fetchall()
            reached = top if place.is_lost else rows[-1][0] if rows else place.version
            self._stamps.remember(reached, self._stamp(db, reached))
        keys = dict.fromkeys(key_from(row[1:], self._kinds) for row in rows)
        return Feed(place.base + reached, tuple(keys), place.is_lost)

    def flaws(self) -> Iterator[tuple[Key, str]]:
        """Keys whose stored chunks are damaged or left over, each with what is wrong."""
        tables = self._tables
        joined = " AND ".join(f"c.{column} = r.{column}" for column in tables.columns)
        counted = (
            f"SELECT r.chunks, count(c.chunk), {tables.shown('r.')} FROM {tables.row} r LEFT JOIN"
            f" {tables.chunk} c ON {joined} GROUP BY {tables.key_list('r.')}, r.chunks HAVING"
            " count(c.chunk) <> r.chunks"
        )
        left_over = (
            f"SELECT DISTINCT {tables.shown('c.')} FROM {tables.chunk} c WHERE NOT EXISTS"
            f" (SELECT FROM {tables.row} r WHERE {joined})"
        )
        with self._database.read() as db:
            damaged: list[Any] = db.execute(counted, ()).fetchall()
            orphans: list[Any] = db.execute(left_over, ()).fetchall()
        for wanted, count, *key in damaged:
            yield key_from(key, self._kinds), f"{count} chunks of {wanted}"
        for key in orphans:
            yield key_from(key, self._kinds), "chunks without a row"

    def maintain(self) -> bool:
        """Build the index over vectors when there are enough of them and it isn't there."""
        return self.index.build()

    def close(self) -> None:
        """Cut short what is being built, and close the connections."""
        self.index.stop()
        super().close()

    def _selected(self) -> str:
        shown = self._tables.shown("c.")
        return f'SELECT c.chunk, c."start", c."end", c.vector, {shown}'

    def _scan_all(self, block: int) -> Iterator[Block]:
        tables = self._tables
        order = f"{tables.key_list('c.')}, c.chunk"
        last: tuple[Key, int] | None = None
        marks = ", ".join(back(kind, f"%s::{one(kind)}") for kind in self._kinds)
        while True:
            where = "" if last is None else f" WHERE ({order}) > ({marks}, %s)"
            values: tuple[Any, ...] = ()
            if last is not None:
                parts = zip(self._kinds, last[0], strict=True)
                values = (*(carried(kind, part) for kind, part in parts), last[1])
            sql = f"{self._selected()} FROM {tables.chunk} c{where} ORDER BY {order} LIMIT {block}"
            with self._database.read() as db, db.cursor(binary=True) as cursor:
                rows = cursor.execute(sql, values).fetchall()
            if not rows:
                return
            found = self._block(rows)
            yield found
            last = (found.keys[-1], found.chunks[-1].ordinal)

    def _block(self, rows: Sequence[Any]) -> Block:
        return Block(
            tuple(key_from(row[4:], self._kinds) for row in rows),
            tuple(Chunk(*row[:3]) for row in rows),
            np.stack([self._vector(row[3]) for row in rows]),
        )

    def _vector(self, blob: bytes) -> Vectors:
        """Pgvector's binary form: two int16 (width, nothing), then big-endian numbers."""
        half = self._tables.vector_type(self.space.dimensions).startswith("halfvec")
        return np.frombuffer(blob, dtype=">f2" if half else ">f4", offset=4).astype(np.float32)

    def _alike(self, db: Connection) -> list[str]:
        """The passages of every generation whose vectors mean the same, this one's first."""
        wanted = self.space.with_chunker("").fingerprint
        tables = {self._tables.chunk: None}
        for name, generation, space in db.execute(f"SELECT name, generation, space FROM {BINDING}"):
            if Space.from_json(space).with_chunker("").fingerprint == wanted:
                mark = "" if generation == 1 else f"g{generation}"
                tables[ours(f"{name}_{mark}chunk")] = None
        return list(tables)

    def _stamp(self, db: Connection, version: int) -> int | None:
        sql = f"SELECT stamp FROM {self._tables.feed} WHERE version = %s"
        found = db.execute(sql, (version,)).fetchone()
        return None if found is None else int(found[0])

    def _analyze(self) -> None:
        """Tell the planner what the tables are like.

        A new binding grows faster than autovacuum looks. Until that has looked, Postgres takes keys
        to be as frequent as it takes any unknown column's values to be, and reads whole tables.
        """
        # What it can't have now it gets at the next doubling, or from autovacuum.
        with suppress(DatabaseError), self._database.session() as db:
            # Not waited for either: an index may be being built, which takes minutes.
            db.execute(f"ANALYZE (SKIP_LOCKED) {self._tables.row}, {self._tables.chunk}", ())

    def _require_mine(self, db: Connection) -> None:
        """Inside a transaction: it is still this binding, and this worker isn't declared dead."""
        made = db.execute(
            f"SELECT extract(epoch FROM created)::float8 FROM {BINDING}"
            " WHERE name = %s AND generation = %s",
            self._id,
        ).fetchone()
        if made is None or made[0] != self.record.created:
            # A swap given up and begun anew has the same number, and perhaps another text.
            raise BindingNotFound(f"the database no longer has this binding {self.name!r}")
        if self._holder is None:
            return
        found = db.execute(
            f"SELECT FROM {WORKER} WHERE name = %s AND generation = %s AND holder = %s FOR SHARE",
            (*self._id, self._holder),
        ).fetchone()
        if found is None:
            raise LeaseLost(
                f"binding {self.name}: the lease of {self._holder} was taken away; nothing of this "
                "batch was published"
            )
