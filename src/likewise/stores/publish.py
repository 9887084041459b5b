"""One fenced transaction in SQLite: vectors, answered log entries, feed and cursor together."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

from likewise.base.types import Applied, Delete, Keep, Park, Put
from likewise.stores.check import require_storable
from likewise.vectors.codec import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from likewise.base.space import Space
    from likewise.base.types import Action
    from likewise.sql.names import Layout

FEED_KEPT = 50_000
"""Entries of the feed that are kept; an index further behind reads everything again."""


def encoded(actions: Sequence[Action], space: Space) -> list[tuple[Action, list[bytes]]]:
    """Each action with the stored bytes of its vectors, made before the transaction begins.

    Raises:
        SpaceMismatch: vectors of another width, or not one a chunk.
        NotFinite: a vector holds NaN or Inf.
    """
    require_storable(actions, space)
    return [
        (action, encode(action.vectors) if isinstance(action, Put) else []) for action in actions
    ]


class Publisher:
    """Carries out actions on one connection, inside the caller's write transaction."""

    def __init__(self, db: apsw.Connection, layout: Layout, now: float) -> None:
        self._db = db
        self._now = now
        key, marks, match = layout.key_list, layout.key_marks, layout.key_match
        self._newest = f"SELECT max(seq) FROM {layout.log} WHERE {match}"
        self._stored = f"SELECT seq, fingerprint FROM {layout.row} WHERE {match}"
        self._answer = f"DELETE FROM {layout.log} WHERE {match} AND seq <= ?"
        self._clear = f"DELETE FROM {layout.chunk} WHERE {match}"
        self._forget = f"DELETE FROM {layout.row} WHERE {match}"
        self._row = (
            f"INSERT INTO {layout.row}"
            f" ({key}, fingerprint, status, chunks, seq, error, attempts, at)"
            f" VALUES ({marks}, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT ({key}) DO UPDATE SET"
            " fingerprint = excluded.fingerprint, status = excluded.status,"
            " chunks = excluded.chunks, seq = excluded.seq, error = excluded.error,"
            " attempts = CASE excluded.attempts WHEN 0 THEN 0 ELSE attempts + 1 END,"
            " at = excluded.at"
        )
        self._chunk = (
            f'INSERT INTO {layout.chunk} ({key}, chunk, "start", "end", vector, hash, text)'
            f" VALUES ({marks}, ?, ?, ?, ?, ?, ?)"
        )
        self._feed = f"INSERT INTO {layout.feed} ({key}, stamp) VALUES ({marks}, ?)"
        self._trim = (
            f"DELETE FROM {layout.feed} WHERE version <="
            f" (SELECT max(version) FROM {layout.feed}) - {FEED_KEPT}"
        )

    def publish(self, made: Sequence[tuple[Action, list[bytes]]]) -> Applied:
        """Carry out each action that the fence lets through."""
        done: Counter[str] = Counter()
        touched: list[tuple[Any, ...]] = []
        stamp = secrets.randbits(62)
        for action, blobs in made:
            if self.is_superseded(action):
                done["superseded"] += 1
                # A newer entry stays and brings the row round again; a Keep that no longer holds
                # leaves all of them.
                if not isinstance(action, Keep):
                    self._db.execute(self._answer, (*action.key, action.seq))
                continue
            self._db.execute(self._answer, (*action.key, action.seq))
            done[self._one(action, blobs)] += 1
            if not isinstance(action, Keep):
                touched.append((*action.key, stamp))
        self._db.executemany(self._feed, touched)
        if touched:
            self._db.execute(self._trim)
        return Applied(**done)

    def is_superseded(self, action: Action) -> bool:
        """The fence: whether something newer than what `action` was computed from is known."""
        newest = self._db.execute(self._newest, action.key).get
        if newest is not None and newest > action.seq:
            return True
        stored = self._db.execute(self._stored, action.key).fetchone()
        if isinstance(action, Keep):
            return stored is None or stored[1] != action.fingerprint
        return stored is not None and stored[0] > action.seq

    def _one(self, action: Action, blobs: list[bytes]) -> str:
        if isinstance(action, Keep):
            return "kept"
        self._db.execute(self._clear, action.key)
        if isinstance(action, Delete):
            self._db.execute(self._forget, action.key)
            return "deleted"
        key, seq, now = action.key, action.seq, self._now
        if isinstance(action, Park):
            self._db.execute(
                self._row, (*key, action.fingerprint, "parked", 0, seq, action.error, 1, now)
            )
            return "parked"
        chunks = len(action.chunks)
        self._db.execute(
            self._row, (*key, action.fingerprint, "current", chunks, seq, None, 0, now)
        )
        self._db.executemany(
            self._chunk,
            [
                (*key, chunk.ordinal, chunk.start, chunk.end, blob, digest, text)
                for chunk, blob, digest, text in zip(
                    action.chunks, blobs, action.hashes, action.texts, strict=True
                )
            ],
        )
        return "put"
