"""Vectors in tables of a DuckDB file, as `FLOAT[n]` (docs/format.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.clock import Clock, wall
from likewise.base.keys import key_of, key_text
from likewise.base.space import Space
from likewise.base.types import Applied, Block, Chunk, Feed, Key
from likewise.sql.duckdb import Database, value
from likewise.stores.check import require_storable
from likewise.stores.duckdb_lease import DuckdbLease
from likewise.stores.duckdb_publish import Publisher
from likewise.stores.duckdb_queue import ONE
from likewise.stores.duckdb_rows import vectors_of
from likewise.stores.duckdb_schema import BINDING, Tables
from likewise.stores.stamps import Stamps

if TYPE_CHECKING:
    import duckdb

    from likewise.base.bound import BindingRecord
    from likewise.base.types import Action, Vectors


class DuckdbTable(DuckdbLease):
    """The vectors of one generation of a binding. Safe to use from several threads."""

    def __init__(self, record: BindingRecord, path: Path | str, *, clock: Clock = wall) -> None:
        super().__init__(record, Database(path), clock=clock)
        self._stamps = Stamps()

    @property
    def space(self) -> Space:
        """The only space whose vectors it takes."""
        return self.record.space

    def apply(self, actions: Sequence[Action], *, cursor: int) -> Applied:
        """Publish in one transaction: rows, log entries answered, and `cursor` move together.

        Raises:
            SpaceMismatch: vectors of another width, or the binding was made anew.
            LeaseLost: another worker owns the binding now.
            DatabaseError: nothing was changed.
        """
        require_storable(actions, self.space)
        with self._write() as db:
            self._require_mine(db)
            publisher = Publisher(db, self._tables, self._clock(), self._get(db, "version"))
            applied = publisher.publish(actions)
            db.execute(
                f"UPDATE {BINDING} SET cursor = greatest(cursor, ?), published = published + ?,"
                f" version = ? WHERE {ONE}",
                [cursor, applied.put, publisher.version, *self._id],
            )
            self._write_lease(db)
        return applied

    def fingerprints(self, keys: Sequence[Key] | None = None) -> Mapping[Key, bytes]:
        """What text each key's vectors are of; all keys when None. Parked rows too."""
        sql = f"SELECT key, fingerprint FROM {self._tables.row}"
        with self._read() as db:
            rows = self._of_keys(db, sql, keys).fetchall()
        return {key_of(key): fingerprint for key, fingerprint in rows}

    def known(self, hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors that are stored for passages with these hashes, here or in a like space."""
        found: dict[bytes, Vectors] = {}
        with self._read() as db:
            for table in self._alike(db):
                missing = [each for each in hashes if each not in found]
                if not missing:
                    break
                rows = db.execute(
                    f"SELECT hash, vector FROM {table} WHERE hash IN (SELECT unnest(?::BLOB[]))",
                    [missing],
                ).fetchnumpy()
                vectors = vectors_of(rows["vector"], self.space.dimensions)
                for at in np.flatnonzero(np.isfinite(vectors).all(axis=1)):
                    found[bytes(rows["hash"][at])] = vectors[at]
        return found

    def scan(self, block: int = 4096, *, keys: Sequence[Key] | None = None) -> Iterator[Block]:
        """All vectors (or those of `keys`) in blocks of about `block` chunks, by key.

        Each block is read in a transaction of its own.
        """
        sql = f'SELECT key, chunk, "start", "end", vector FROM {self._tables.chunk}'
        if keys is not None:
            for at in range(0, len(keys), block):
                with self._read() as db:
                    found = self._of_keys(db, sql, keys[at : at + block]).fetchnumpy()
                if len(found["key"]):
                    yield self._block(found)
            return
        last: tuple[str, int] = ("", -1)
        while True:
            with self._read() as db:
                found = db.execute(
                    f"{sql} WHERE (key, chunk) > (?, ?) ORDER BY key, chunk LIMIT ?",
                    [*last, max(block, 1)],
                ).fetchnumpy()
            if not len(found["key"]):
                return
            yield self._block(found)
            last = str(found["key"][-1]), int(found["chunk"][-1])

    def published(self, after: int, *, limit: int = 10_000) -> Feed:
        """Keys put or deleted since version `after`, for indexes that follow.

        A version also carries which file it was read from, so that a restored one is noticed.
        """
        self._database.check()
        what = ("published", after, limit, self._database.generation + self._stamps.histories)
        return self._memo.get(what, lambda: self._published(after, limit))

    def _published(self, after: int, limit: int) -> Feed:
        feed = self._tables.feed
        with self._read() as db:
            top = int(self._get(db, "version"))
            place = self._stamps.place(
                after,
                file=self._database.generation,
                top=top,
                oldest=value(db, f"SELECT min(version) FROM {feed}"),
                stamp_of=lambda version: self._stamp_of(db, version),
            )
            rows: list[Any] = []
            if not place.is_lost:
                rows = db.execute(
                    f"SELECT version, key FROM {feed} WHERE version > ? ORDER BY version LIMIT ?",
                    [place.version, limit],
                ).fetchall()
            reached: int = top if place.is_lost else rows[-1][0] if rows else place.version
            self._stamps.remember(reached, self._stamp_of(db, reached))
        keys = dict.fromkeys(key_of(row[1]) for row in rows)
        return Feed(place.base + reached, tuple(keys), place.is_lost)

    def flaws(self) -> Iterator[tuple[Key, str]]:
        """Keys whose stored chunks are damaged or left over, each with what is wrong."""
        row, chunk = self._tables.row, self._tables.chunk
        with self._read() as db:
            counted = db.execute(
                f"SELECT r.key, r.chunks, count(c.key) FROM {row} AS r LEFT JOIN {chunk} AS c"
                " ON c.key = r.key GROUP BY r.key, r.chunks HAVING count(c.key) <> r.chunks"
            ).fetchall()
            orphans = db.execute(
                f"SELECT DISTINCT c.key FROM {chunk} AS c ANTI JOIN {row} AS r ON r.key = c.key"
            ).fetchall()
        for key, wanted, there in counted:
            yield key_of(key), f"{there} chunks of {wanted}"
        for (key,) in orphans:
            yield key_of(key), "chunks without a row"
        for block in self.scan():
            bad = ~np.isfinite(block.vectors).all(axis=1)
            for each in dict.fromkeys(block.keys[at] for at in np.flatnonzero(bad)):
                yield each, "a vector with NaN or Inf"

    def forget(self, keys: Sequence[Key]) -> None:
        """No longer take what is stored for `keys` to be of any text, nor give its vectors away."""
        texts = [[key_text(key) for key in keys]]
        where = "WHERE key IN (SELECT unnest(?::VARCHAR[]))"
        with self._write() as db:
            db.execute(f"UPDATE {self._tables.row} SET fingerprint = ''::BLOB {where}", texts)
            db.execute(f"UPDATE {self._tables.chunk} SET hash = NULL {where}", texts)

    def _of_keys(
        self, db: duckdb.DuckDBPyConnection, sql: str, keys: Sequence[Key] | None
    ) -> duckdb.DuckDBPyConnection:
        if keys is None:
            return db.execute(sql)
        where = " WHERE key IN (SELECT unnest(?::VARCHAR[])) ORDER BY ALL"
        return db.execute(sql + where, [[key_text(key) for key in keys]])

    def _block(self, found: Mapping[str, Any]) -> Block:
        return Block(
            tuple(key_of(key) for key in found["key"]),
            tuple(
                Chunk(int(ordinal), int(start), int(end))
                for ordinal, start, end in zip(
                    found["chunk"], found["start"], found["end"], strict=True
                )
            ),
            vectors_of(found["vector"], self.space.dimensions),
        )

    def _alike(self, db: duckdb.DuckDBPyConnection) -> list[str]:
        """The passages of every generation whose vectors mean the same, this one's first."""
        wanted = self.space.with_chunker("").fingerprint
        tables = {self._tables.chunk: None}
        for name, generation, space in db.execute(
            f"SELECT name, generation, space FROM {BINDING}"
        ).fetchall():
            if Space.from_json(space).with_chunker("").fingerprint == wanted:
                tables[Tables(name, generation, (), (), True).chunk] = None
        return list(tables)

    def _stamp_of(self, db: duckdb.DuckDBPyConnection, version: int) -> int | None:
        sql = f"SELECT stamp FROM {self._tables.feed} WHERE version = ?"
        found: int | None = value(db, sql, [version])
        return found
