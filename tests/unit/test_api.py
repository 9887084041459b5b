"""The front door for programs, on the real model and a real file."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import likewise
from likewise.base.errors import (
    BindingError,
    BindingExists,
    BindingNotFound,
    DatabaseError,
    DatabaseMissing,
    EngineError,
    ModelNotFound,
    SettingsError,
)
from likewise.runtime.service import Service

pytestmark = pytest.mark.model

ROWS = [
    ("cats", "They purr and sleep all day"),
    ("cars", "Engines, wheels and brakes"),
    ("bread", "Flour, water, salt, and time"),
]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Iterator[Service]:
    service = likewise.load(model_folder)
    yield service
    service.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE Docs (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    db.executemany("INSERT INTO Docs (title, body) VALUES (?, ?)", ROWS)
    db.close()
    return path


def write(path: Path, statement: str) -> None:
    """As an application would: another process, Python's own sqlite3, nothing of ours."""
    program = (
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute(sys.argv[2]); d.commit()"
    )
    subprocess.run([sys.executable, "-c", program, str(path), statement], check=True)


def test_a_model_is_closed_at_the_end_of_its_block(model_folder: Path) -> None:
    with likewise.load(str(model_folder)) as loaded:
        assert loaded.embed(["a"]).shape == (1, 384)
    with pytest.raises(EngineError):
        loaded.embed(["a"])


def test_bind_search_change_search(database: Path, model: Service) -> None:
    with likewise.bind(database, "Docs", text="{title}\n{body}", model=model) as docs:
        docs.sync()
        assert docs.name == "docs"
        assert docs.search("a kitten", k=1)[0].row.values["title"] == "cats"
        write(database, "UPDATE Docs SET body = 'A kitten at the wheel' WHERE title = 'cars'")
        write(database, "DELETE FROM Docs WHERE title = 'cats'")
        docs.sync()
        best, *others = docs.search("a kitten")
        assert best.row.values["title"] == "cars"
        assert best.fresh
        assert [other.row.values["title"] for other in others] == ["bread"]
        assert docs.status().pending == 0
        assert docs.verify().is_clean
        docs.close()
        docs.close()


def test_open_finds_what_was_bound(database: Path, model: Service) -> None:
    likewise.bind(database, "Docs", text="{title}", model=model).close()
    write(database, "INSERT INTO Docs (title) VALUES ('submarines')")
    with likewise.open(database, model=model) as docs:
        docs.sync()
        assert docs.search("under the sea", k=1)[0].row.values["title"] == "submarines"
    with pytest.raises(BindingNotFound, match="docs"):
        likewise.open(database, "dogs", model=model)


def test_binding_again_reuses_and_another_definition_is_refused(
    database: Path, model: Service
) -> None:
    likewise.bind(database, "Docs", text="{title}", model=model).close()
    likewise.bind(database, "Docs", text="{title}", model=model).close()
    with pytest.raises(BindingExists):
        likewise.bind(database, "Docs", text="{body}", model=model)


def test_what_cannot_be(tmp_path: Path, database: Path, model: Service) -> None:
    with pytest.raises(DatabaseMissing):
        likewise.bind(tmp_path / "absent.db", "Docs", text="{title}", model=model)
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(BindingNotFound, match="none"):
        likewise.open(database, model=model)
    with pytest.raises(ModelNotFound):
        likewise.load(str(tmp_path))


def test_sync_says_what_is_in_the_way(database: Path, model: Service) -> None:
    with likewise.bind(database, "Docs", text="{title}", model=model) as docs:
        docs.sync()
        with pytest.raises(BindingError, match="1 changes still wait"):
            blocker = apsw.Connection(str(database))
            blocker.execute("BEGIN IMMEDIATE")
            blocker.execute("INSERT INTO likewise_docs_log (key_id, op) VALUES (1, 'upsert')")
            blocker.execute("COMMIT; BEGIN IMMEDIATE")
            docs.sync(0.3)
        blocker.close()
        docs.sync()


def test_a_file_open_in_the_other_sqlite_is_refused(database: Path, model: Service) -> None:
    import sqlite3

    other = sqlite3.connect(database)
    other.execute("SELECT count(*) FROM Docs")
    with pytest.raises(DatabaseError, match="sqlite3"):
        likewise.bind(database, "Docs", text="{title}", model=model)
    other.close()
    likewise.bind(database, "Docs", text="{title}", model=model).close()


def test_swapping_and_going_back(database: Path, model: Service) -> None:
    with likewise.bind(database, "Docs", text="{title}", model=model) as docs:
        docs.sync()
        audit = docs.swap(text="{title}: {body}")
        assert (audit.is_clean, docs.record.generation) == (True, 2)
        assert docs.search("a kitten", k=1)[0].row.text == "cats: They purr and sleep all day"
        with pytest.raises(SettingsError, match="nothing to change"):
            docs.swap(model)
        write(database, "UPDATE Docs SET title = 'kittens' WHERE title = 'cats'")
        docs.rollback()
        assert docs.record.generation == 1
        assert docs.search("a kitten", k=1)[0].row.text == "kittens"
        docs.finish()
        assert docs.retry() == 0
        docs.pause()
        assert docs.status().state == "paused"
        docs.resume()
        docs.sync()
        assert docs.verify().is_clean


def test_addresses(database: Path, tmp_path: Path, model: Service) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "cats.txt").write_text("They purr and sleep all day", encoding="utf-8")
    store = f"sqlite:{tmp_path / 'vectors.db'}"
    files = f"files:{folder}"
    with pytest.raises(SettingsError, match="name the binding"):
        likewise.bind(files, text="{text}", store=store, model=model)
    with likewise.bind(
        files, text="{text}", name="notes", glob="*.txt", store=store, model=model
    ) as notes:
        notes.sync()
        assert notes.search("a kitten", k=1)[0].row.key[0] == "cats.txt"
    with likewise.bind(
        f"sqlite:{database}",
        text="{body}",
        name="bodies",
        query="SELECT id, body FROM Docs",
        key=("id",),
        store=tmp_path / "vectors.db",
        model=model,
    ) as bodies:
        bodies.sync()
        assert bodies.search("brakes", k=1)[0].row.key == (2,)
    with likewise.open(store, "notes", model=model) as notes:
        assert notes.record.spec.source == files
