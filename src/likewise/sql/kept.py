"""The file in which vectors are kept between requests and starts: its tables, read and written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import DatabaseCorrupt, DatabaseReadOnly, LikewiseError
from likewise.sql.sqlite import Database, connect, errors_of

if TYPE_CHECKING:
    import apsw

BESIDE = 512
"""Bytes that a vector counts beside its numbers: key, digest, entries in indexes, and the rest of a
page that it shares with few others."""

_SCHEMA = 1
_READ_BUSY_SECONDS = 0.05
_WRITE_BUSY_SECONDS = 5.0
_DIGEST_BYTES = 8
_AT_ONCE = 32

_TABLES = f"""
CREATE TABLE likewise_kept (
    schema INTEGER NOT NULL, vectors INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO likewise_kept VALUES ({_SCHEMA}, 0, 0);
CREATE TABLE likewise_kept_vector (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, vector BLOB NOT NULL);
CREATE TABLE likewise_kept_use (
    id INTEGER PRIMARY KEY, used INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE INDEX likewise_kept_use_order ON likewise_kept_use (used, id);
CREATE TRIGGER likewise_kept_ai AFTER INSERT ON likewise_kept_use BEGIN
    UPDATE likewise_kept SET vectors = vectors + 1, bytes = bytes + NEW.bytes; END;
CREATE TRIGGER likewise_kept_ad AFTER DELETE ON likewise_kept_use BEGIN
    UPDATE likewise_kept SET vectors = vectors - 1, bytes = bytes - OLD.bytes; END;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A vector that was found."""

    id: int
    vector: bytes
    """float32, little-endian."""


class KeptFile:
    """One file of kept vectors. Safe to use from several threads.

    Every method raises `DatabaseError` when the file is damaged, locked, full or gone; after that,
    the next one opens it anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._reading = Database(self._path, busy_seconds=_READ_BUSY_SECONDS)
        self._writing = Database(self._path, busy_seconds=_WRITE_BUSY_SECONDS)
        self._is_open = False

    def open(self) -> None:
        """Make the file and its tables where they aren't there yet."""
        if self._is_open:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as refused:
            raise DatabaseReadOnly(
                f"{self._path}: it can't be made ({refused.strerror}); check the path and its "
                "permissions"
            ) from refused
        if not self._is_made():
            self._make()
        with self._reading.read() as db:
            found = [*db.execute("SELECT schema FROM likewise_kept")]
        if found != [(_SCHEMA,)]:
            raise DatabaseCorrupt(
                f"{self._path} holds vectors in another form than this version of Likewise reads "
                f"(schema {_SCHEMA}); delete it"
            )
        self._is_open = True

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """Those of `keys` that are there, and whole."""
        found: dict[bytes, Kept] = {}
        with self._opened(), self._reading.read() as db:
            for key in keys:
                for one, digest, vector in db.execute(
                    "SELECT id, digest, vector FROM likewise_kept_vector WHERE key = ?", (key,)
                ):
                    if _is_whole(key, digest, vector):
                        found[key] = Kept(one, vector)
        return found

    def write(
        self, rows: Sequence[tuple[bytes, bytes, int]], stamps: Sequence[tuple[int, int]], most: int
    ) -> None:
        """Add `rows` (key, vector, when used), date what was used, and keep to `most` bytes.

        `stamps` are ids and when they were used; what was used least recently is taken away.
        """
        with self._opened(), self._writing.write() as db:
            db.executemany(
                "UPDATE likewise_kept_use SET used = max(used, ?2) WHERE id = ?1", stamps
            )
            # Room is made as it goes: the file would grow by a whole batch, and never shrink again.
            for start in range(0, len(rows), _AT_ONCE):
                for key, vector, used in rows[start : start + _AT_ONCE]:
                    _replace(db, key, vector, used)
                _evict(db, most)
            _evict(db, most)

    def totals(self) -> tuple[int, int]:
        """How many vectors there are, and the bytes that they count."""
        with self._opened(), self._reading.read() as db:
            ((vectors, size),) = db.execute("SELECT vectors, bytes FROM likewise_kept")
        return vectors, size

    def close(self) -> None:
        """Let go of the file."""
        self._reading.close()
        self._writing.close()

    def _is_made(self) -> bool:
        with self._reading.read() as db:
            return _has_tables(db)

    def _make(self) -> None:
        db = connect(self._path, busy_seconds=_WRITE_BUSY_SECONDS)
        try:
            with errors_of(self._path):
                db.pragma("journal_mode", "wal")
        finally:
            db.close()
        with self._writing.write() as db:
            if not _has_tables(db):
                db.execute(_TABLES)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        try:
            self.open()
            yield
        except LikewiseError:
            self._is_open = False
            raise


def _has_tables(db: apsw.Connection) -> bool:
    return bool([*db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'likewise_kept_use'")])


def _replace(db: apsw.Connection, key: bytes, vector: bytes, used: int) -> None:
    for (known,) in [*db.execute("SELECT id FROM likewise_kept_vector WHERE key = ?", (key,))]:
        _remove(db, [known])
    ((made,),) = db.execute(
        "INSERT INTO likewise_kept_vector (key, digest, vector) VALUES (?, ?, ?) RETURNING id",
        (key, digest(key, vector), vector),
    )
    db.execute(
        "INSERT OR REPLACE INTO likewise_kept_use VALUES (?, ?, ?)",
        (made, used, len(vector) + BESIDE),
    )


def _evict(db: apsw.Connection, most: int) -> None:
    ((size,),) = db.execute("SELECT bytes FROM likewise_kept")
    over = size - most
    if over <= 0:
        return
    gone = []
    for one, cost in [
        *db.execute(
            "SELECT id, bytes FROM likewise_kept_use ORDER BY used, id LIMIT ?",
            (over // BESIDE + 1,),
        )
    ]:
        if over <= 0:
            break
        gone.append(one)
        over -= cost
    _remove(db, gone)


def _remove(db: apsw.Connection, ids: Sequence[int]) -> None:
    for table in ("likewise_kept_use", "likewise_kept_vector"):
        db.executemany(f"DELETE FROM {table} WHERE id = ?", [(one,) for one in ids])


def digest(key: bytes, vector: bytes) -> bytes:
    """What is stored beside a vector, so that a page gone bad is noticed: BLAKE2b, 8 bytes."""
    return hashlib.blake2b(key + vector, digest_size=_DIGEST_BYTES).digest()


def _is_whole(key: bytes, written: object, vector: object) -> bool:
    if not isinstance(vector, bytes) or not vector or len(vector) % 4:
        return False
    return written == digest(key, vector) and bool(np.isfinite(np.frombuffer(vector, "<f4")).all())
