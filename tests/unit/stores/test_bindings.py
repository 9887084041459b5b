"""Making, finding and dropping bindings; a file of a newer Likewise."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from likewise.base.errors import BindingError, BindingExists, BindingNotFound, SpaceMismatch
from likewise.base.spec import BindingSpec
from likewise.server import databases
from tests.binding_kit import (
    DOCS,
    SPACE,
    App,
    Bound,
    create_binding,
    drop_binding,
    get_binding,
    list_bindings,
    table_of,
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App(tmp_path / "app.db", "wal", DOCS)
    yield made
    made.close()


def spec(app: App, **changes: object) -> BindingSpec:
    made = BindingSpec("docs", f"sqlite:{app.path}", "docs", "{title}")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_made_twice_is_made_once(app: App) -> None:
    first = create_binding(spec(app), SPACE)
    app(
        "INSERT INTO likewise_docs_row (key_id, fingerprint, status, chunks, seq, at)"
        " VALUES (1, x'', 'current', 0, 0, 0)"
    )
    again = create_binding(spec(app, key=("ID",), model="a label", table="DOCS"), SPACE)
    assert again.created == first.created
    assert again.spec.key == ("id",)
    assert app("SELECT count(*) FROM likewise_docs_row") == [(1,)]
    assert [record.spec for record in list_bindings(app.path)] == [first.spec]
    assert get_binding(app.path, "docs") == first


def test_another_definition_is_refused_and_told(app: App) -> None:
    create_binding(spec(app), SPACE)
    with pytest.raises(BindingExists, match=r"text: '\{title\}' there, '\{body\}' here"):
        create_binding(spec(app, text="{body}"), SPACE)


def test_another_space_is_refused_and_told(app: App) -> None:
    create_binding(spec(app), SPACE)
    other = dataclasses.replace(SPACE, weights="11")
    with pytest.raises(SpaceMismatch, match="weights: '00' there, '11' here"):
        create_binding(spec(app), other)


def test_no_such_binding(app: App) -> None:
    assert list_bindings(app.path) == []
    with pytest.raises(BindingNotFound, match="none"):
        get_binding(app.path, "docs")
    create_binding(spec(app), SPACE)
    with pytest.raises(BindingNotFound, match="did you mean 'docs'"):
        table_of(app.path, "doc")


def test_the_last_one_dropped_leaves_nothing(app: App) -> None:
    before = app("SELECT name FROM sqlite_schema WHERE name <> 'sqlite_sequence'")
    create_binding(spec(app), SPACE)
    create_binding(spec(app, name="more"), SPACE)
    drop_binding(app.path, "docs")
    assert [record.spec.name for record in list_bindings(app.path)] == ["more"]
    drop_binding(app.path, "more")
    assert app("SELECT name FROM sqlite_schema WHERE name <> 'sqlite_sequence'") == before


def test_a_file_of_a_newer_likewise(app: App) -> None:
    create_binding(spec(app), SPACE)
    app("UPDATE likewise_meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(BindingError, match="newer version"):
        create_binding(spec(app, name="other"), SPACE)


def test_the_feed_is_trimmed_and_says_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.base.types import Delete

    monkeypatch.setattr("likewise.stores.publish.FEED_KEPT", 3)
    create_binding(spec(app), SPACE)
    table = table_of(app.path)
    start = table.published(-1).version
    table.apply([Delete((at,), 0) for at in range(3)], cursor=0)
    assert table.published(start).keys == ((0,), (1,), (2,))
    table.apply([Delete((9,), 0)], cursor=0)
    assert table.published(start).reset
    assert app("SELECT count(*) FROM likewise_docs_feed") == [(3,)]
    table.close()


def test_the_view_shows_the_current_generation(app: App) -> None:
    """Keys by their own names but where the view has a column of that name; changes that wait."""
    app('CREATE TABLE odd (id, "Text" TEXT, body TEXT, PRIMARY KEY (id, "Text"))')
    app("INSERT INTO odd VALUES (1, 'a', 'one|uno'), ('1', 'a', 'two')")
    bound = Bound(app, table="odd", text="{body}", name="odd")
    bound.drain()
    columns = 'id, "key_Text", chunk, "start", "end", text, length(vector), fresh'
    rows = app(f"SELECT {columns} FROM likewise_odd_view ORDER BY typeof(id), chunk")
    assert rows == [
        (1, "a", 0, 0, 3, "one", 32, 1),
        (1, "a", 1, 4, 7, "uno", 32, 1),
        ("1", "a", 0, 0, 3, "two", 32, 1),
    ]
    app("UPDATE odd SET body = 'three' WHERE typeof(id) = 'text'")
    assert app("SELECT id, fresh FROM likewise_odd_view GROUP BY 1 ORDER BY 2") == [
        ("1", 0),
        (1, 1),
    ]
    with databases.bindings_of(f"sqlite:{app.path}") as bindings:
        shape = bound.source.resolve()
        made = bindings.add_generation(dataclasses.replace(bound.spec, text="{id}"), shape, SPACE)
        bindings.cut_over("odd", made.generation)
        assert app("SELECT * FROM likewise_odd_view") == []
        bindings.drop_generation("odd", 1)
        assert app("SELECT * FROM likewise_odd_view") == []
    bound.close()
    drop_binding(app.path, "odd")
    assert app("SELECT name FROM sqlite_schema WHERE type = 'view'") == []
