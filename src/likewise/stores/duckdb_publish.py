"""One fenced publication in DuckDB: vectors, answered log entries, feed and counters together."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.keys import key_text
from likewise.base.types import Applied, Delete, Keep, Park, Put
from likewise.stores.duckdb_rows import rows_in, staged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from likewise.base.types import Action
    from likewise.stores.duckdb_schema import Tables

FEED_KEPT = 50_000
"""Entries of the feed that are kept; an index further behind reads everything again."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store knows of a key when an action comes."""

    newest: int | None
    """Its newest log entry."""
    seq: int | None
    """What is stored was made under this; None when nothing is."""
    fingerprint: bytes | None
    attempts: int


class Publisher:
    """Carries out actions on one connection, inside the caller's transaction.

    `version` is the feed's before; afterwards `self.version` is the one reached.
    """

    def __init__(
        self, db: duckdb.DuckDBPyConnection, tables: Tables, now: float, version: int
    ) -> None:
        self._db = db
        self._tables = tables
        self._now = now
        self.version = version

    def publish(self, actions: Sequence[Action]) -> Applied:
        """Carry out each action that the fence lets through."""
        done: Counter[str] = Counter()
        for part in _without_repeats(actions):
            done += self._publish(part)
        return Applied(**done)

    def is_superseded(self, action: Action, known: _Known) -> bool:
        """The fence: whether something newer than what `action` was computed from is known."""
        if known.newest is not None and known.newest > action.seq:
            return True
        if isinstance(action, Keep):
            return known.seq is None or known.fingerprint != action.fingerprint
        return known.seq is not None and known.seq > action.seq

    def _publish(self, part: dict[str, Action]) -> Counter[str]:
        known = self._known(part)
        passed: dict[str, Action] = {}
        answered: dict[str, int] = {}
        done: Counter[str] = Counter()
        for key, action in part.items():
            is_superseded = self.is_superseded(action, known[key])
            done["superseded" if is_superseded else _NAMES[type(action)]] += 1
            # A newer entry stays and brings the row round again; a Keep that no longer holds
            # leaves all of them.
            if not (is_superseded and isinstance(action, Keep)):
                answered[key] = action.seq
            if not is_superseded and not isinstance(action, Keep):
                passed[key] = action
        self._answer(answered)
        self._replace(passed, known)
        self._tell(list(passed))
        return done

    def _known(self, part: dict[str, Action]) -> dict[str, _Known]:
        source = staged(self._db, key=list(part))
        found = self._db.execute(
            f"SELECT s.key, (SELECT max(l.seq) FROM {self._tables.log} AS l WHERE l.key = s.key),"
            f" r.seq, r.fingerprint, r.attempts FROM {source} AS s"
            f" LEFT JOIN {self._tables.row} AS r ON r.key = s.key"
        ).fetchall()
        return {
            key: _Known(newest, seq, digest, attempts or 0)
            for key, newest, seq, digest, attempts in found
        }

    def _answer(self, answered: dict[str, int]) -> None:
        if answered:
            source = staged(self._db, key=list(answered), seq=list(answered.values()))
            log = self._tables.log
            self._db.execute(
                f"DELETE FROM {log} USING {source} AS s WHERE {log}.key = s.key"
                f" AND {log}.seq <= s.seq"
            )

    def _replace(self, passed: dict[str, Action], known: dict[str, _Known]) -> None:
        if not passed:
            return
        source = staged(self._db, key=list(passed))
        for table in (self._tables.chunk, self._tables.row):
            self._db.execute(f"DELETE FROM {table} WHERE key IN (SELECT key FROM {source})")
        lines: list[tuple[Any, ...]] = []
        puts: list[tuple[str, Put]] = []
        for key, action in passed.items():
            if isinstance(action, Put):
                size = len(action.chunks)
                lines.append((key, action.fingerprint, "current", size, action.seq, None, 0))
                puts.append((key, action))
            elif isinstance(action, Park):
                tries = known[key].attempts + 1
                lines.append(
                    (key, action.fingerprint, "parked", 0, action.seq, action.error, tries)
                )
        if lines:
            names = ("key", "fingerprint", "status", "chunks", "seq", "error", "attempts")
            columns = dict(zip(names, zip(*lines, strict=True), strict=True))
            rows_in(self._db, self._tables.row, **columns, at=[self._now] * len(lines))
        self._insert([each for each in puts if each[1].chunks])

    def _insert(self, puts: Sequence[tuple[str, Put]]) -> None:
        if not puts:
            return
        chunks = [chunk for _, put in puts for chunk in put.chunks]
        rows_in(
            self._db,
            self._tables.chunk,
            key=[key for key, put in puts for _ in put.chunks],
            chunk=[chunk.ordinal for chunk in chunks],
            start=[chunk.start for chunk in chunks],
            end=[chunk.end for chunk in chunks],
            text=[text for _, put in puts for text in put.texts],
            hash=[digest for _, put in puts for digest in put.hashes],
            vector=np.concatenate([put.vectors for _, put in puts]),
        )

    def _tell(self, keys: Sequence[str]) -> None:
        """The feed says what was touched; its oldest entries go."""
        if not keys:
            return
        reached = self.version + len(keys)
        rows_in(
            self._db,
            self._tables.feed,
            version=range(self.version + 1, reached + 1),
            key=keys,
            stamp=[secrets.randbits(62)] * len(keys),
        )
        if reached // FEED_KEPT != self.version // FEED_KEPT:
            # Not at every publication: each would read the whole column.
            self._db.execute(
                f"DELETE FROM {self._tables.feed} WHERE version <= ?", [reached - FEED_KEPT]
            )
        self.version = reached


_NAMES: dict[type[Action], str] = {Put: "put", Delete: "deleted", Park: "parked", Keep: "kept"}


def _without_repeats(actions: Sequence[Action]) -> Iterator[dict[str, Action]]:
    """Runs of actions in which each key stands once, by the key's text."""
    part: dict[str, Action] = {}
    for action in actions:
        key = key_text(action.key)
        if key in part:
            yield part
            part = {}
        part[key] = action
    if part:
        yield part
