"""Vectors in plain tables of the user's own SQLite file (docs/format.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from likewise.base.clock import Clock, wall
from likewise.base.errors import LeaseLost, SpaceMismatch
from likewise.base.space import Space
from likewise.base.types import Applied, Block, Chunk, Feed, Key
from likewise.sql.names import BINDING, Layout
from likewise.sql.sqlite import Database
from likewise.stores.publish import Publisher, encoded
from likewise.stores.sqlite_queue import SqliteQueue
from likewise.stores.stamps import Stamps
from likewise.vectors.codec import BYTES_PER_NUMBER, decode

if TYPE_CHECKING:
    import apsw

    from likewise.base.bound import BindingRecord
    from likewise.base.types import Action, Vectors

_ONE = "name = ? AND generation = ?"
_SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = ?"


class SqliteTable(SqliteQueue):
    """The vectors of one generation of a binding. Safe to use from several threads."""

    def __init__(self, record: BindingRecord, path: Path | str, *, clock: Clock = wall) -> None:
        super().__init__(record, Database(path), clock=clock)
        self._holder: str | None = None
        self._lease_seconds = 0.0
        self._lease_of = 0
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
        made = encoded(actions, self.space)
        now = self._clock()
        with self._database.write() as db:
            self._require_mine(db)
            applied = Publisher(db, self._layout, now).publish(made)
            db.execute(
                f"UPDATE {BINDING} SET cursor = max(cursor, ?), published = published + ?,"
                " lease_until = CASE WHEN lease_holder IS NULL THEN NULL ELSE ? END"
                f" WHERE {_ONE}",
                (cursor, applied.put, now + self._lease_seconds, *self._id),
            )
        return applied

    def fingerprints(self, keys: Sequence[Key] | None = None) -> Mapping[Key, bytes]:
        """What text each key's vectors are of; all keys when None. Parked rows too."""
        sql = f"SELECT {self._layout.key_list}, fingerprint FROM {self._layout.row}"
        with self._database.read() as db:
            one = f"{sql} WHERE {self._layout.key_match}"
            found: list[Any] = (
                db.execute(sql).fetchall()
                if keys is None
                else [row for key in keys for row in db.execute(one, key)]
            )
        return {tuple(row[:-1]): row[-1] for row in found}

    def known(self, hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors that are stored for passages with these hashes, here or in a like space."""
        found: dict[bytes, Vectors] = {}
        with self._database.read() as db:
            for table in self._alike(db):
                one = f"SELECT vector FROM {table} WHERE hash = ? LIMIT 1"
                for each in dict.fromkeys(hashes):
                    blob: Any = None if each in found else db.execute(one, (each,)).get
                    if isinstance(blob, bytes) and len(blob) == self._width:
                        vector = decode([blob], self.space.dimensions)[0]
                        if np.isfinite(vector).all():
                            found[each] = vector
        return found

    def scan(self, block: int = 4096, *, keys: Sequence[Key] | None = None) -> Iterator[Block]:
        """All vectors (or those of `keys`) in blocks of about `block` chunks, by key.

        Each block is read in a transaction of its own, so that writers never wait for the reader.
        """
        if keys is None:
            yield from self._scan_all(block)
            return
        sql = f"{self._chunks_of()} WHERE {self._layout.key_match} ORDER BY chunk"
        for at in range(0, len(keys), block):
            with self._database.read() as db:
                rows = [row for key in keys[at : at + block] for row in db.execute(sql, key)]
            if rows:
                yield self._block(rows)

    def published(self, after: int, *, limit: int = 10_000) -> Feed:
        """Keys put or deleted since version `after`, for indexes that follow.

        A version also carries which file it was read from, so that a restored one is noticed.
        """
        layout = self._layout
        with self._database.read() as db:

            def stamp_of(version: int) -> int | None:
                sql = f"SELECT stamp FROM {layout.feed} WHERE version = ?"
                return cast("int | None", db.execute(sql, (version,)).get)

            top = int(cast(Any, db.execute(_SEQUENCE, (layout.feed,)).get) or 0)
            place = self._stamps.place(
                after,
                file=self._database.generation,
                top=top,
                oldest=cast(Any, db.execute(f"SELECT min(version) FROM {layout.feed}").get),
                stamp_of=stamp_of,
            )
            rows: list[Any] = []
            if not place.is_lost:
                sql = (
                    f"SELECT version, {layout.key_list} FROM {layout.feed} WHERE version > ?"
                    " ORDER BY version LIMIT ?"
                )
                rows = db.execute(sql, (place.version, limit)).fetchall()
            reached: int = top if place.is_lost else rows[-1][0] if rows else place.version
            self._stamps.remember(reached, stamp_of(reached))
        keys = dict.fromkeys(tuple(row[1:]) for row in rows)
        return Feed(place.base + reached, tuple(keys), place.is_lost)

    def take_lease(self, holder: str, *, seconds: float, is_dead: Callable[[str], bool]) -> bool:
        """Become the one that publishes, unless another living holder's lease runs."""
        sql = f"SELECT lease_holder, lease_until FROM {BINDING} WHERE {_ONE}"

        def is_free(db: apsw.Connection) -> bool:
            found: Any = db.execute(sql, self._id).fetchone()
            if found is None:
                raise self._gone()
            other, until = found
            return other in (None, holder) or until <= self._clock() or is_dead(other)

        # Look before asking for the write lock, which an application may be waiting for.
        with self._database.read() as db:
            if not is_free(db):
                return False
        with self._database.write() as db:
            if not is_free(db):
                return False
            db.execute(
                f"UPDATE {BINDING} SET lease_holder = ?, lease_until = ? WHERE {_ONE}",
                (holder, self._clock() + seconds, *self._id),
            )
            generation = self._database.generation
        self._holder, self._lease_seconds, self._lease_of = holder, seconds, generation
        return True

    def renew_lease(self) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: another worker took over, or the file was replaced.
        """
        with self._database.write() as db:
            self._require_mine(db)
            until = self._clock() + self._lease_seconds
            db.execute(f"UPDATE {BINDING} SET lease_until = ? WHERE {_ONE}", (until, *self._id))

    def release_lease(self) -> None:
        """Give the lease back, if it is still held."""
        holder, self._holder = self._holder, None
        if holder is not None:
            with self._database.write() as db:
                db.execute(
                    f"UPDATE {BINDING} SET lease_holder = NULL, lease_until = NULL"
                    f" WHERE {_ONE} AND lease_holder = ?",
                    (*self._id, holder),
                )

    def flaws(self) -> Iterator[tuple[Key, str]]:
        """Keys whose stored chunks are damaged or left over, each with what is wrong."""
        layout, width = self._layout, self._width
        columns = layout.columns
        joined = " AND ".join(f'c."{column}" = r."{column}"' for column in columns)
        named = ", ".join(f'r."{column}"' for column in columns)
        # A row of an empty text joins nothing: c.vector is NULL there.
        wrong = (
            f"c.vector IS NOT NULL AND (typeof(c.vector) <> 'blob' OR length(c.vector) <> {width})"
        )
        counted = (
            f"SELECT {named}, r.chunks, count(c.chunk), total({wrong})"
            f" FROM {layout.row} r LEFT JOIN {layout.chunk} c ON {joined}"
            f" GROUP BY {named} HAVING count(c.chunk) <> r.chunks OR total({wrong}) > 0"
        )
        left_over = (
            f"SELECT DISTINCT {layout.key_list} FROM {layout.chunk} c WHERE NOT EXISTS"
            f" (SELECT 1 FROM {layout.row} r WHERE {joined})"
        )
        with self._database.read() as db:
            damaged: list[Any] = db.execute(counted).fetchall()
            orphans: list[Any] = db.execute(left_over).fetchall()
        for row in damaged:
            yield (
                tuple(row[:-3]),
                f"{row[-2]} chunks of {row[-3]}, {int(row[-1])} of a wrong width",
            )
        for row in orphans:
            yield tuple(row), "chunks without a row"
        if not damaged:
            yield from self._not_finite()

    def forget(self, keys: Sequence[Key]) -> None:
        """No longer take what is stored for `keys` to be of any text, nor give its vectors away."""
        layout = self._layout
        with self._database.write() as db:
            db.executemany(
                f"UPDATE {layout.row} SET fingerprint = x'' WHERE {layout.key_match}", keys
            )
            db.executemany(f"UPDATE {layout.chunk} SET hash = NULL WHERE {layout.key_match}", keys)

    @property
    def _width(self) -> int:
        return self.space.dimensions * BYTES_PER_NUMBER

    def _alike(self, db: apsw.Connection) -> list[str]:
        """The passages of every generation whose vectors mean the same, this one's first."""
        wanted = self.space.with_chunker("").fingerprint
        tables = {self._layout.chunk: None}
        for name, generation, space in db.execute(f"SELECT name, generation, space FROM {BINDING}"):
            if Space.from_json(str(space)).with_chunker("").fingerprint == wanted:
                tables[Layout(str(name), (), int(cast(Any, generation))).chunk] = None
        return list(tables)

    def _not_finite(self) -> Iterator[tuple[Key, str]]:
        for block in self.scan():
            bad = ~np.isfinite(block.vectors).all(axis=1)
            for key in dict.fromkeys(block.keys[at] for at in np.flatnonzero(bad)):
                yield key, "a vector with NaN or Inf"

    def _chunks_of(self) -> str:
        layout = self._layout
        return f'SELECT {layout.key_list}, chunk, "start", "end", vector FROM {layout.chunk}'

    def _scan_all(self, block: int) -> Iterator[Block]:
        order = f"{self._layout.key_list}, chunk"
        tail = f" ORDER BY {order} LIMIT {max(block, 1)}"
        last: tuple[Any, ...] | None = None
        while True:
            where = "" if last is None else f" WHERE ({order}) > ({self._layout.key_marks}, ?)"
            with self._database.read() as db:
                rows = db.execute(self._chunks_of() + where + tail, last or ()).fetchall()
            if not rows:
                return
            yield self._block(rows)
            last = tuple(rows[-1][:-3])

    def _block(self, rows: Sequence[Sequence[Any]]) -> Block:
        return Block(
            tuple(tuple(row[:-4]) for row in rows),
            tuple(Chunk(*row[-4:-1]) for row in rows),
            decode([row[-1] for row in rows], self.space.dimensions),
        )

    def _require_mine(self, db: apsw.Connection) -> None:
        """Inside a write transaction: nobody else leads, and it is still this binding."""
        sql = f"SELECT lease_holder, fingerprint, created FROM {BINDING} WHERE {_ONE}"
        found: Any = db.execute(sql, self._id).fetchone()
        if found is None:
            raise self._gone()
        if found[1] != self.space.fingerprint:
            raise SpaceMismatch(
                f"binding {self.name} was made anew for another model or setting; restart"
            )
        if found[2] != self.record.created:
            # A swap given up and begun anew has the same number, and perhaps another text.
            raise self._gone()
        if self._holder is not None and self._lease_of != self._database.generation:
            raise LeaseLost(f"{self._database.path} was replaced by another file")
        if found[0] != self._holder:
            raise LeaseLost(
                f"binding {self.name}: {found[0] or 'nobody'} holds the lease, not "
                f"{self._holder or 'this program'}; nothing of this batch was published"
            )
