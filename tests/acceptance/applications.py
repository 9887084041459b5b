"""Applications that own the rows: one interface over every source; they know no Likewise.

Each has rows of a number and a text, and a column that no binding looks at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import apsw

from tests.support import BUSY_MS


class Application(Protocol):
    """What tests do to rows. Each call is a transaction of its own."""

    def write(self, rows: Mapping[int, str]) -> None:
        """Insert or update."""

    def remove(self, *keys: int) -> None: ...

    def move(self, key: int, to: int) -> None:
        """Give a row another key; nothing happens when it isn't there or `to` is taken."""

    def touch(self) -> None:
        """Change what no binding looks at, in every row."""

    def undo(self, rows: Mapping[int, str]) -> None:
        """Write, and roll back."""

    def clear(self) -> None:
        """Remove every row at once."""

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """Write and remove behind the back of whatever captures changes."""

    def rows(self) -> dict[int, str]: ...

    def close(self) -> None: ...


class SqliteApplication:
    """Over apsw, as this process may have Likewise in it."""

    TABLE = "CREATE TABLE IF NOT EXISTS docs (id INTEGER PRIMARY KEY, body TEXT, other INTEGER)"

    def __init__(self, where: str) -> None:
        self.db = apsw.Connection(where)
        self.db.set_busy_timeout(BUSY_MS)
        self.db.pragma("journal_mode", "wal")
        self.db.execute(self.TABLE)

    def write(self, rows: Mapping[int, str]) -> None:
        with self.db:
            self.db.executemany(
                "INSERT INTO docs VALUES (?, ?, 0) ON CONFLICT (id) DO UPDATE SET"
                " body = excluded.body",
                rows.items(),
            )

    def remove(self, *keys: int) -> None:
        with self.db:
            self.db.executemany("DELETE FROM docs WHERE id = ?", [(key,) for key in keys])

    def move(self, key: int, to: int) -> None:
        self.db.execute("UPDATE OR IGNORE docs SET id = ? WHERE id = ?", (to, key))

    def touch(self) -> None:
        self.db.execute("UPDATE docs SET other = other + 1")

    def undo(self, rows: Mapping[int, str]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT OR REPLACE INTO docs VALUES (?, ?, 0)", rows.items())
        self.db.execute("ROLLBACK")

    def clear(self) -> None:
        self.db.execute("DELETE FROM docs")

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """A table rebuilt as migrations do it: with it go the triggers."""
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("CREATE TABLE anew AS SELECT * FROM docs")
        self.db.execute("DROP TABLE docs")
        self.db.execute(self.TABLE)
        self.db.execute("INSERT INTO docs SELECT * FROM anew WHERE id <> ?", (removed,))
        self.db.executemany("INSERT OR REPLACE INTO docs VALUES (?, ?, 0)", rows.items())
        self.db.execute("DROP TABLE anew")
        self.db.execute("COMMIT")

    def rows(self) -> dict[int, str]:
        found: list[Any] = self.db.execute("SELECT id, body FROM docs").fetchall()
        return dict(found)

    def close(self) -> None:
        self.db.close()


class SqliteViewApplication(SqliteApplication):
    """The same, bound through a view."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.db.execute("CREATE VIEW IF NOT EXISTS shown AS SELECT id, body FROM docs")


class FilesApplication:
    """A folder of text files, one a row; each is written beside its place and moved into it."""

    def __init__(self, where: str) -> None:
        self.folder = Path(where)
        self.folder.mkdir(exist_ok=True)

    def write(self, rows: Mapping[int, str]) -> None:
        for number, text in rows.items():
            self._put(self._path(number), text)

    def remove(self, *keys: int) -> None:
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def move(self, key: int, to: int) -> None:
        if not self._path(to).exists():
            with suppress(FileNotFoundError):
                self._path(key).rename(self._path(to))

    def touch(self) -> None:
        for path in self.folder.glob("*.txt"):
            with suppress(FileNotFoundError):
                path.touch()

    def undo(self, rows: Mapping[int, str]) -> None:
        for number, text in rows.items():
            left = self.folder / f"{number}.txt.{os.getpid()}.tmp"
            left.write_text(text, encoding="utf-8")
            left.unlink()

    def clear(self) -> None:
        for path in self.folder.glob("*.txt"):
            path.unlink(missing_ok=True)

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """Times set back, as `cp -p` and `rsync -t` do."""
        self.remove(removed)
        for number, text in rows.items():
            self._put(self._path(number), text)
            os.utime(self._path(number), (1_000_000_000, 1_000_000_000))

    def rows(self) -> dict[int, str]:
        return {
            int(path.stem): path.read_text(encoding="utf-8") for path in self.folder.glob("*.txt")
        }

    def close(self) -> None:
        pass

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.txt"

    def _put(self, path: Path, text: str) -> None:
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)


_HERE = "tests.acceptance."
APPLICATIONS = {
    "sqlite": f"{_HERE}applications:SqliteApplication",
    "sqlite-view": f"{_HERE}applications:SqliteViewApplication",
    "postgres": f"{_HERE}postgres_applications:PostgresApplication",
    "postgres-partitioned": f"{_HERE}postgres_applications:PartitionedApplication",
    "duckdb": f"{_HERE}duckdb_applications:DuckdbApplication",
    "files": f"{_HERE}applications:FilesApplication",
}
"""By name, as hundreds of processes are started that need one driver or none."""


def open_application(kind: str, where: str | Path) -> Application:
    """The application of that kind over its rows at `where`."""
    module, _, name = APPLICATIONS[kind].partition(":")
    made: Application = getattr(import_module(module), name)(str(where))
    return made
