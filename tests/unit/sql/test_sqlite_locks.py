"""How long a connection to a SQLite file waits for a lock: as long as whoever it is lent to may."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from likewise.base import locks
from likewise.base.errors import DatabaseLocked
from likewise.base.locks import BRIEF_SECONDS, LOCK_SECONDS, briefly
from likewise.sql.sqlite import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "app.db"
    with closing(apsw.Connection(str(made))) as db:
        db.execute("CREATE TABLE seen (n INTEGER)")
    return made


def waits_ms(database: Database) -> int:
    with database.read() as db:
        return int(db.pragma("busy_timeout"))


def test_the_same_connection_is_patient_here_and_brief_there(path: Path) -> None:
    with closing(Database(path)) as database:
        assert waits_ms(database) == 1000 * LOCK_SECONDS
        with briefly():
            assert waits_ms(database) == 1000 * BRIEF_SECONDS
        assert waits_ms(database) == 1000 * LOCK_SECONDS
    with closing(Database(path, busy_seconds=0.05)) as database, briefly():
        assert waits_ms(database) == 50


def test_at_the_end_it_is_said_what_sets_how_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_set", 0.01)
    with closing(apsw.Connection(str(path))) as other, closing(Database(path)) as database:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(DatabaseLocked, match="another program.*LIKEWISE_LOCK_TIMEOUT"),
            database.write(),
        ):
            pass
        other.execute("ROLLBACK")
