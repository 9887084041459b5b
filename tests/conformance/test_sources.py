"""Every source keeps the same promises; SQLite in both journal modes, with every kind of key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from likewise.base.errors import BindingNotFound, NoKey, SchemaDrift
from likewise.base.types import Key
from likewise.text.canon import fingerprint
from tests.binding_kit import DOCS, JOURNALS, App, Bound, assert_right, outside

KEYS: dict[str, tuple[str, str, list[Any]]] = {
    "integer": ("id INTEGER PRIMARY KEY", "id", [1, 2, -3, 2**40]),
    "text": ("id TEXT PRIMARY KEY", "id", ["a", "b", "", "ü\n"]),
    "typeless": ("id PRIMARY KEY", "id", [1, "1", b"1", 1.5]),
    "real": ("id REAL PRIMARY KEY", "id", [1.0, 2.5, -1e300, 1e-9]),
    "nocase": ("id TEXT COLLATE NOCASE PRIMARY KEY", "id", ["a", "B", "c", "Ä"]),
    "blob": ("id BLOB NOT NULL UNIQUE", "id", [b"", b"\x00\xff", b"a", b"b"]),
}


@pytest.fixture(params=JOURNALS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    App(tmp_path / "app.db", request.param).close()
    return tmp_path / "app.db"


@pytest.fixture
def bound(path: Path) -> Iterator[Bound]:
    app = App(path, _journal(path), DOCS)
    made = Bound(app)
    made.source.attach()
    yield made
    made.close()
    app.close()


def _journal(path: Path) -> str:
    db = apsw.Connection(str(path))
    try:
        return str(db.pragma("journal_mode"))
    finally:
        db.close()


def logged(bound: Bound) -> list[tuple[Key, str]]:
    """Entries since the last call, as (key, op)."""
    changes = bound.table.claim(0, limit=1000)
    bound.app(f"DELETE FROM likewise_{bound.spec.name}_log")
    return [(change.key, change.op) for change in changes]


def test_attach_says_once_that_changes_may_have_been_missed(path: Path) -> None:
    app = App(path, _journal(path), DOCS)
    bound = Bound(app)
    assert bound.source.attach()
    assert not bound.source.attach()
    assert bound.table.reconcile_wanted() == 2
    bound.close()
    app.close()


def test_each_write_is_logged(bound: Bound) -> None:
    app = bound.app
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (2, 'b', 't', 'b')")
    assert logged(bound) == [((1,), "upsert"), ((2,), "upsert")]
    app("UPDATE docs SET title = 'new' WHERE id = 1")
    assert logged(bound) == [((1,), "upsert")]
    app("DELETE FROM docs WHERE id = 1")
    assert logged(bound) == [((1,), "delete")]
    app("DELETE FROM docs")  # SQLite could truncate, were there no delete trigger
    assert logged(bound) == [((2,), "delete")]


def test_columns_outside_key_and_template_are_not_watched(bound: Bound) -> None:
    bound.app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    logged(bound)
    bound.app("UPDATE docs SET slug = 'c'")
    bound.app("UPDATE docs SET title = 't'")
    assert logged(bound) == []


def test_a_changed_key_leaves_and_arrives(bound: Bound) -> None:
    bound.app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    logged(bound)
    bound.app("UPDATE docs SET id = 7")
    assert logged(bound) == [((1,), "delete"), ((7,), "upsert")]


@pytest.mark.parametrize("statement", ["INSERT OR REPLACE INTO", "REPLACE INTO"])
def test_replace_through_another_unique_index_logs_the_row_that_went(
    bound: Bound, statement: str
) -> None:
    bound.app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (2, 'b', 't', 'b')")
    logged(bound)
    bound.app(f"{statement} docs VALUES (3, 'a', 't', 'b')")
    assert {((1,), "delete"), ((3,), "upsert")} <= set(logged(bound))
    bound.app("UPDATE OR REPLACE docs SET slug = 'b' WHERE id = 3")
    assert ((2,), "delete") in logged(bound)
    assert [row[0] for row in bound.app("SELECT id FROM docs")] == [3]


def test_replace_through_a_default_that_stands_for_null(path: Path) -> None:
    app = App(
        path,
        _journal(path),
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, slug TEXT NOT NULL DEFAULT 'none' UNIQUE,"
        " title TEXT, body TEXT)",
    )
    bound = Bound(app)
    bound.source.attach()
    app("INSERT INTO docs VALUES (1, 'none', 't', 'b')")
    logged(bound)
    app("INSERT OR REPLACE INTO docs VALUES (2, NULL, 't', 'b')")
    assert app("SELECT id FROM docs") == [(2,)]
    assert ((1,), "delete") in logged(bound)
    bound.close()
    app.close()


def test_replace_through_the_rowid_when_another_key_is_bound(path: Path) -> None:
    app = App(
        path,
        _journal(path),
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE, title, body)",
    )
    bound = Bound(app, key=("slug",))
    bound.source.attach()
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    logged(bound)
    app("INSERT OR REPLACE INTO docs VALUES (1, 'z', 't', 'b')")
    assert set(logged(bound)) == {(("a",), "delete"), (("z",), "upsert")}
    bound.close()
    app.close()


def test_replace_by_a_key_that_only_the_collation_calls_equal(path: Path) -> None:
    app = App(
        path,
        _journal(path),
        "CREATE TABLE docs (id TEXT COLLATE NOCASE PRIMARY KEY, title, body)",
    )
    bound = Bound(app)
    bound.source.attach()
    app("INSERT INTO docs VALUES ('a', 't', 'b')")
    logged(bound)
    app("INSERT OR REPLACE INTO docs VALUES ('A', 't', 'b')")
    assert set(logged(bound)) == {(("a",), "delete"), (("A",), "upsert")}
    app("UPDATE docs SET id = 'a'")
    assert {(("A",), "delete"), (("a",), "upsert")} <= set(logged(bound))
    assert bound.source.read([("A",), ("a",)]).keys() == {("a",)}
    bound.close()
    app.close()


def test_upsert_and_or_ignore(bound: Bound) -> None:
    app = bound.app
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    logged(bound)
    upsert = "INSERT INTO docs VALUES (1, 'a', 'u', 'b') ON CONFLICT (id) DO UPDATE SET title = 'u'"
    app(upsert)
    assert ((1,), "upsert") in logged(bound)
    app("INSERT OR IGNORE INTO docs VALUES (1, 'a', 'v', 'b'), (2, 'c', 'v', 'b')")
    assert ((2,), "upsert") in logged(bound)
    app("UPDATE OR IGNORE docs SET title = 'w'")
    assert set(logged(bound)) == {((1,), "upsert"), ((2,), "upsert")}


def test_rolled_back_changes_leave_no_entry(bound: Bound) -> None:
    app = bound.app
    app("BEGIN; INSERT INTO docs VALUES (1, 'a', 't', 'b'); ROLLBACK")
    assert logged(bound) == []
    app(
        "BEGIN; INSERT INTO docs VALUES (1, 'a', 't', 'b'); SAVEPOINT s;"
        " INSERT INTO docs VALUES (2, 'b', 't', 'b'); ROLLBACK TO s; COMMIT"
    )
    assert logged(bound) == [((1,), "upsert")]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_cascade_from_another_table_is_logged(path: Path, recursive: bool) -> None:
    app = App(
        path,
        _journal(path),
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT UNIQUE);"
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, title, body,"
        " parent REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)",
    )
    app.db.pragma("recursive_triggers", recursive)
    bound = Bound(app, text="{title} {parent}")
    bound.source.attach()
    app("INSERT INTO parent VALUES (1, 'a'), (2, 'b')")
    app("INSERT INTO docs VALUES (1, 't', 'b', 1), (2, 't', 'b', 2), (3, 't', 'b', 1)")
    logged(bound)
    app("UPDATE parent SET id = 5 WHERE id = 1")
    assert set(logged(bound)) == {((1,), "upsert"), ((3,), "upsert")}
    app("DELETE FROM parent WHERE id = 2")
    assert ((2,), "delete") in logged(bound)
    app("INSERT OR REPLACE INTO parent VALUES (9, 'a')")
    assert app("SELECT id FROM docs") == []
    assert {((1,), "delete"), ((3,), "delete")} <= set(logged(bound))
    bound.close()
    app.close()


def test_a_generated_column_is_watched(path: Path) -> None:
    app = App(
        path,
        _journal(path),
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, a TEXT, b TEXT,"
        " whole TEXT GENERATED ALWAYS AS (a || ' ' || b) VIRTUAL)",
    )
    bound = Bound(app, text="{whole}")
    bound.source.attach()
    app("INSERT INTO docs VALUES (1, 'x', 'y')")
    logged(bound)
    app("UPDATE docs SET b = 'z'")
    assert logged(bound) == [((1,), "upsert")]
    assert bound.source.read([(1,)])[(1,)].text == "x z"
    bound.close()
    app.close()


def test_a_change_of_type_alone_is_a_change_of_text(path: Path) -> None:
    app = App(path, _journal(path), "CREATE TABLE docs (id INTEGER PRIMARY KEY, title, body)")
    bound = Bound(app)
    bound.source.attach()
    app("INSERT INTO docs VALUES (1, 1, 'b')")
    logged(bound)
    app("UPDATE docs SET title = 1.0")
    assert logged(bound) == [((1,), "upsert")]
    assert bound.source.read([(1,)])[(1,)].text == "1.0|b"
    bound.close()
    app.close()


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("without_rowid", [False, True])
def test_every_kind_of_key(path: Path, kind: str, without_rowid: bool) -> None:
    column, name, values = KEYS[kind]
    if without_rowid and "PRIMARY" not in column:
        column = column.replace("UNIQUE", "PRIMARY KEY")
    tail = " WITHOUT ROWID" if without_rowid else ""
    app = App(path, _journal(path), f"CREATE TABLE docs ({column}, title, body){tail}")
    bound = Bound(app)
    app("INSERT INTO docs VALUES (?, 'before', 'b')", [values[0]])
    bound.drain()
    for value in values[1:]:
        app("INSERT INTO docs VALUES (?, 'after', 'b')", [value])
    changes = bound.table.claim(0, limit=10)
    assert [type(change.key[0]) for change in changes] == [type(value) for value in values[1:]]
    keys = [(value,) for value in values]
    rows = bound.source.read(keys)
    assert set(rows) == set(keys)
    assert [type(key[0]) for key in rows] == [type(value) for value in values]
    assert {row.key for row in bound.source.snapshot()} == set(keys)
    bound.drain()
    assert_right(bound)
    joined = f"SELECT count(*) FROM docs d JOIN likewise_docs_chunk c ON c.key_{name} = d.{name}"
    assert app(joined) == [(2 * len(values),)]
    app("UPDATE docs SET title = 'third'")
    app("DELETE FROM docs WHERE id = ?", [values[1]])
    bound.drain()
    assert_right(bound)
    bound.close()
    app.close()


def test_a_key_of_several_columns_in_their_declared_order(path: Path) -> None:
    app = App(path, _journal(path), "CREATE TABLE docs (a, b, title, body, PRIMARY KEY (b, a))")
    bound = Bound(app)
    assert bound.record.spec.key == ("b", "a")
    bound.source.attach()
    for a, b in [(1, "x"), (1, "y"), (2, "x"), (b"1", 1.5)]:
        app("INSERT INTO docs VALUES (?, ?, 't', 'b')", [a, b])
    assert [change.key for change in bound.table.claim(0, limit=9)] == [
        ("x", 1),
        ("y", 1),
        ("x", 2),
        (1.5, b"1"),
    ]
    app("UPDATE docs SET a = 9 WHERE b = 'y'")
    bound.drain()
    assert_right(bound)
    bound.close()
    app.close()


def test_rows_with_null_in_the_key_are_reported_and_never_in_the_way(path: Path) -> None:
    app = App(path, _journal(path), "CREATE TABLE docs (id TEXT PRIMARY KEY, title, body)")
    bound = Bound(app)
    app("INSERT INTO docs VALUES (NULL, 't', 'b'), ('a', 't', 'b')")
    bound.drain()
    app("INSERT INTO docs VALUES (NULL, 't', 'b'), ('b', 't', 'b')")
    app("UPDATE docs SET id = NULL WHERE id = 'a'")
    app("UPDATE docs SET title = 'u' WHERE id IS NULL")
    bound.drain()
    assert bound.source.unnamed() == 3
    assert_right(bound)
    assert set(bound.table.fingerprints()) == {("b",)}
    bound.close()
    app.close()


def test_a_row_as_read(bound: Bound) -> None:
    bound.app("INSERT INTO docs VALUES (1, 'a', '  Tea\r\n', NULL)")
    row = bound.source.read([(1,), (2,)])[(1,)]
    assert row.text == "Tea\n|"
    assert row.fingerprint == fingerprint("Tea\n|")
    assert row.values == {"id": 1, "slug": "a", "title": "  Tea\r\n", "body": None}


def test_text_that_is_not_utf8_is_mended_and_a_key_that_is_not_is_left_out(path: Path) -> None:
    app = App(path, _journal(path), "CREATE TABLE docs (id TEXT PRIMARY KEY, title, body)")
    bound = Bound(app)
    wrong = "CAST(x'41ff42' AS TEXT)"
    app(f"INSERT INTO docs VALUES ('a', {wrong}, 'b'), ({wrong}, 't', 'b'), ('z', 't', 'b')")
    bound.drain()
    app(f"INSERT INTO docs VALUES ('b', {wrong}, 'b'), (CAST(x'ff' AS TEXT), 't', 'b')")
    app("INSERT INTO docs VALUES ('c', 't', 'b')")
    bound.drain()
    assert bound.log() == []
    assert bound.source.read([("a",)])[("a",)].text == "A\ufffdB|b"
    assert set(bound.table.fingerprints()) == {("a",), ("b",), ("c",), ("z",)}
    bound.close()
    app.close()


def test_the_snapshot_is_read_in_pages(bound: Bound) -> None:
    bound.app(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1203)"
        " INSERT INTO docs SELECT i, i, 't', 'b' FROM n"
    )
    assert [row.key for row in bound.source.snapshot()] == [(i,) for i in range(1, 1204)]
    assert bound.source.count() == 1203


def test_entries_after_a_place_and_at_most_so_many(bound: Bound) -> None:
    for i in range(5):
        bound.app("INSERT INTO docs VALUES (?, ?, 't', 'b')", [i, i])
    changes = bound.table.claim(0, limit=2)
    assert [change.key for change in changes] == [(0,), (1,)]
    assert [c.key for c in bound.table.claim(changes[-1].seq, limit=9)] == [(2,), (3,), (4,)]


def test_the_log_never_takes_a_place_twice(bound: Bound) -> None:
    bound.app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    first = bound.table.claim(0, limit=1)[0].seq
    logged(bound)
    bound.app("UPDATE docs SET title = 'u'")
    assert bound.table.claim(0, limit=1)[0].seq > first


def test_detach_leaves_no_trigger(bound: Bound) -> None:
    bound.source.detach()
    assert bound.app("SELECT name FROM sqlite_schema WHERE type = 'trigger'") == []
    assert bound.source.attach()


def test_others_are_noticed(bound: Bound) -> None:
    before = bound.source.stamp()
    assert bound.source.stamp() == before
    bound.app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    assert bound.source.stamp() != before


def test_a_writer_needs_nothing_of_ours(bound: Bound) -> None:
    path = bound.app.path
    bound.app.close()
    bound.source.close()
    outside(path, "INSERT INTO docs VALUES (1, 'a', 't', 'b'); UPDATE docs SET id = 2;")
    assert [change.key for change in bound.table.claim(0, limit=9)] == [(1,), (1,), (2,)]


REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("CREATE TABLE docs (title, body)", {}, NoKey, "no primary key"),
    ("CREATE TABLE docs (title UNIQUE, body)", {}, NoKey, "NOT NULL"),
    ("CREATE TABLE docs (id UNIQUE, title, body)", {"key": ("id",)}, NoKey, "NULL"),
    ("CREATE TABLE docs (id, title, body)", {"key": ("id",)}, NoKey, "unique together"),
    (DOCS, {"key": ("nope",)}, SchemaDrift, "nope"),
    (DOCS, {"text": "{titel}"}, SchemaDrift, "did you mean 'title'"),
    (DOCS, {"table": "docz"}, SchemaDrift, "did you mean 'docs'"),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE VIEW docs AS SELECT id, 1 AS title, 2 AS"
        " body FROM t",
        {},
        NoKey,
        "--key; it has id, title, body",
    ),
    ("CREATE VIRTUAL TABLE docs USING fts5(title, body)", {}, NoKey, "--key"),
]


@pytest.mark.parametrize(("schema", "options", "error", "words"), REFUSED)
def test_what_cannot_be_bound_is_refused(
    path: Path, schema: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    app = App(path, _journal(path), schema)
    with pytest.raises(error, match=words):
        Bound(app, **options)
    ours = "SELECT name FROM sqlite_schema WHERE name LIKE 'likewise%'"
    assert app(ours) == []
    app.close()


def test_a_source_without_its_binding(bound: Bound) -> None:
    from likewise.server.databases import drop

    drop(f"sqlite:{bound.app.path}", "docs")
    with pytest.raises(BindingNotFound):
        bound.source.attach()


def test_a_name_in_another_case_and_with_quotes(path: Path) -> None:
    app = App(
        path,
        _journal(path),
        'CREATE TABLE "My ""Docs""" ("The Id" INTEGER PRIMARY KEY, "Ti-tle" TEXT, "select" TEXT)',
    )
    bound = Bound(app, table='my "docs"', text="{ti-tle}|{SELECT}")
    app('INSERT INTO "My ""Docs""" VALUES (1, \'t\', \'s\')')
    bound.drain()
    app('UPDATE "My ""Docs""" SET "select" = \'u\'')
    bound.drain()
    assert_right(bound)
    assert bound.source.read([(1,)])[(1,)].text == "t|u"
    bound.close()
    app.close()
