"""Which database a command means where nobody says: the one in this folder that has bindings."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from likewise.base.errors import SettingsError
from likewise.base.space import Space
from likewise.base.spec import BindingSpec
from likewise.cli import here, main
from likewise.server import databases

SPACE = Space("m", "0" * 64, "mean", 4, True, chunker="tokens:32/4")
CONFIG = Path("likewise.toml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path) -> None:
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    db.close()


def bound(path: Path, name: str = "t", scheme: str = "sqlite") -> str:
    if scheme == "sqlite":
        table(path)
    else:
        import duckdb

        with duckdb.connect(str(path)) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    address = f"{scheme}:{path.resolve()}"
    spec = BindingSpec(name, address, "t", "{body}", chunk="tokens:32/4")
    databases.create(spec, SPACE)
    return address


def test_the_only_one_with_bindings_is_taken_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        SettingsError, match=r"which database\? No .* has a binding \(there is none"
    ):
        here.addresses(None, CONFIG)
    table(folder / "plain.db")
    (folder / "notes.txt").write_text("no database")
    (folder / "empty.db").touch()
    (folder / "folder.db").mkdir()
    with pytest.raises(SettingsError, match=r"No .* has a binding \(plain\.db\)"):
        here.addresses(None, CONFIG)
    # The name says nothing: how the file begins does.
    address = bound(folder / "app.sqlite3")
    capsys.readouterr()
    assert here.addresses(None, CONFIG) == [address]
    assert capsys.readouterr() == ("", "database: app.sqlite3\n")


def test_of_several_none_is_guessed(folder: Path) -> None:
    bound(folder / "one.db")
    bound(folder / "demo.db")
    with pytest.raises(SettingsError, match=r"Several files .*\(demo\.db, one\.db\).*--db"):
        here.addresses(None, CONFIG)
    assert here.addresses("one.db", CONFIG) == [f"sqlite:{folder.resolve()}/one.db"]
    CONFIG.write_text(
        "[[binding]]\nname = 't'\nsource = 'sqlite:demo.db'\ntable = 't'\ntext = '{body}'\n"
    )
    assert here.addresses(None, CONFIG) == [f"sqlite:{folder.resolve()}/demo.db"]


def test_duckdb_is_told_by_its_first_bytes(folder: Path) -> None:
    address = bound(folder / "vectors.db", scheme="duckdb")
    assert here.addresses(None, CONFIG) == [address]


def test_one_that_cant_be_read_now_is_taken_where_it_is_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    assert main.run(["bind", "status"]) == 2
    assert "broken.db: " in capsys.readouterr().err
    address = bound(folder / "app.db")
    assert here.addresses(None, CONFIG) == [address]


def test_commands_find_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bound(folder / "app.db", "docs")
    for argv in (["bind", "status"], ["bind", "status", "docs"], ["bind", "verify", "docs"]):
        capsys.readouterr()
        assert main.run(argv) == 0
        assert "database: app.db\n" in capsys.readouterr().err
    assert main.run(["bind", "drop", "docs", "--yes"]) == 0
    assert main.run(["bind", "status"]) == 2
