"""Vectors that are kept in a SQLite file, which several processes and later ones may share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.clock import Clock, monotonic, wall
from likewise.base.log import fields, logger
from likewise.runtime.cache import Size
from likewise.sql.kept import BESIDE, KeptFile

if TYPE_CHECKING:
    from likewise.base.types import Vectors

_log = logger("runtime")

_GATHER_SECONDS = 0.2
"""How long rows are gathered before they are written, in one transaction."""
_MOST_WAITING = 1 << 25
"""Bytes of rows that may wait to be written; what comes beyond them isn't kept."""
_MOST_STAMPS = 1 << 16
_PAUSE_SECONDS = 5.0
"""How long a file that failed is left alone: requests don't wait for it again and again."""


class SqliteCache:
    """In a SQLite file; what was used least recently makes room.

    A file that is damaged, locked or gone is told once in the log. It is then a cache that knows
    nothing, until it can be read again.
    """

    kind = "file"

    def __init__(
        self, path: Path, max_bytes: int, *, clock: Clock = wall, elapsed: Clock = monotonic
    ) -> None:
        """Hold at most `max_bytes` in `path`, which is made where it isn't there.

        What SQLite takes for each vector counts too. `clock` dates their use, `elapsed` counts how
        long a file is left alone.
        """
        self._file = KeptFile(path)
        self._trouble = _Trouble(path, elapsed)
        self._writer = _Writer(self._file, self._trouble, max_bytes, clock)
        with self._trouble.noted():
            self._file.open()
        self._closing = weakref.finalize(self, _close, self._writer, self._file)

    @staticmethod
    def cost(row: Vectors) -> int:
        """Bytes that `row` counts."""
        return row.nbytes + BESIDE

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Those of `keys` that are kept, or wait to be; they are the last that were used."""
        found = self._writer.waiting(keys)
        missing = [key for key in keys if key not in found]
        if missing and self._closing.alive and not self._trouble.is_on:
            with self._trouble.noted():
                kept = self._file.find(missing)
                self._writer.stamp([kept[key].id for key in missing if key in kept])
                found |= {key: one.vector for key, one in kept.items()}
        return {key: np.frombuffer(held, "<f4") for key, held in found.items()}

    def keep(self, key: bytes, row: Vectors) -> None:
        """Remember a vector, in a moment; one that is larger than the whole cache isn't."""
        if not self._trouble.is_on:
            self._writer.keep(key, np.asarray(row, "<f4").tobytes())

    def flush(self) -> None:
        """Wait until what was kept so far is written, or couldn't be."""
        self._writer.flush()

    def size(self) -> Size:
        """How much is in the file; nothing where that can't be read."""
        if self._closing.alive and not self._trouble.is_on:
            with self._trouble.noted():
                return Size(*self._file.totals())
        return Size(0, 0)

    def close(self) -> None:
        """Write what is still to be written, and let go. Closing twice does nothing more."""
        self._closing()


def _close(writer: _Writer, file: KeptFile) -> None:
    writer.close()
    file.close()


class _Trouble:
    """What went wrong with the file: each kind is told once, and the file left alone a while."""

    def __init__(self, path: Path, elapsed: Clock) -> None:
        self._path = path
        self._elapsed = elapsed
        self._until = -1.0
        self._told: set[str] = set()

    @property
    def is_on(self) -> bool:
        """Whether the file is left alone just now."""
        return self._elapsed() < self._until

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Whatever is raised inside is told and ends here."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a cache never fails a request
            self._until = self._elapsed() + _PAUSE_SECONDS
            kind = type(error).__name__
            if kind not in self._told:
                self._told.add(kind)
                _log.warning(fields("no vectors are kept", path=self._path, why=error))


@dataclass(slots=True)
class _Row:
    """A vector that waits to be written."""

    held: bytes
    used: int


class _Writer:
    """Gathers rows and when vectors were used; a thread writes them, many in one transaction."""

    def __init__(self, file: KeptFile, trouble: _Trouble, most: int, clock: Clock) -> None:
        self._file = file
        self._trouble = trouble
        self._most = most
        self._clock = clock
        self._changed = threading.Condition()
        self._rows: dict[bytes, _Row] = {}
        self._writing: dict[bytes, _Row] = {}
        self._stamps: dict[int, int] = {}
        self._is_writing = self._is_hurried = self._is_closed = self._is_full = False
        self._bytes = 0
        self._last = 0
        self._thread = threading.Thread(target=self._run, name="likewise-kept", daemon=True)
        self._thread.start()

    def waiting(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of `keys` that wait to be written."""
        found: dict[bytes, bytes] = {}
        with self._changed:
            for key in keys:
                row = self._rows.get(key) or self._writing.get(key)
                if row is not None:
                    found[key] = row.held
                    row.used = self._now()
        return found

    def keep(self, key: bytes, held: bytes) -> None:
        """Queue a row, where there is room."""
        cost = len(held) + BESIDE
        if cost > self._most:
            return
        with self._changed:
            if self._is_closed:
                return
            if self._bytes + cost > _MOST_WAITING:
                if not self._is_full:
                    _log.info(fields("vectors come faster than they can be kept"))
                self._is_full = True
                return
            if key not in self._rows:
                self._bytes += cost
            self._rows[key] = _Row(held, self._now())
            self._changed.notify_all()

    def stamp(self, ids: Sequence[int]) -> None:
        """These rows of the file were used just now."""
        with self._changed:
            if self._is_closed or len(self._stamps) >= _MOST_STAMPS:
                return
            self._stamps |= {one: self._now() for one in ids}
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until nothing waits."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._has_work() or self._is_writing))

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (stamps := self._gathered()) is not None:
            rows = [(key, row.held, row.used) for key, row in self._writing.items()]
            with self._trouble.noted():
                self._file.write(rows, stamps, self._most)
            with self._changed:
                self._writing = {}
                self._is_writing = False
                self._changed.notify_all()

    def _gathered(self) -> list[tuple[int, int]] | None:
        """Wait for work: `_writing` has its rows, and these are its stamps; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_work() or self._is_closed)
            self._changed.wait_for(lambda: self._is_hurried or self._is_closed, _GATHER_SECONDS)
            self._writing, self._rows = self._rows, {}
            stamps, self._stamps = list(self._stamps.items()), {}
            self._bytes = 0
            self._is_hurried = self._is_full = False
            self._is_writing = bool(self._writing or stamps)
            return stamps if self._is_writing or not self._is_closed else None

    def _has_work(self) -> bool:
        return bool(self._rows or self._stamps)

    def _now(self) -> int:
        """Microseconds since 1970, and never the same twice."""
        self._last = max(self._last + 1, int(self._clock() * 1e6))
        return self._last
