"""Files that older versions made are taken along step by step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from likewise.server import databases
from tests.binding_kit import App, Bound, assert_right, bars, fake_vector

OLD = Path(__file__).parents[2] / "fixtures" / "sqlite-schema-1.db"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Three rows, one of them parked, and a change that waits."""
    return Path(shutil.copy(OLD, tmp_path / "app.db"))


def test_schema_1(old: Path) -> None:
    (record,) = databases.records(f"sqlite:{old}")
    assert (record.generation, record.state, record.kinds) == (1, "current", ("any",))
    with databases.ends(record) as (_, table):
        assert table.pending() == {(2,)}
        assert [each.key for each in table.parked()] == [(3,)]
        vectors = {
            (key, chunk.ordinal): vector.tolist()
            for block in table.scan()
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
        }
        text = "tea|green|black"
        for chunk in bars([text])[0]:
            wanted = fake_vector(text[chunk.start : chunk.end]).tolist()
            assert vectors[(1,), chunk.ordinal] == wanted
    app = App(old, "delete")
    bound = Bound(app)
    app("UPDATE docs SET title = 'tea!' WHERE id = 1")
    bound.drain()
    assert bound.app("SELECT value FROM likewise_meta WHERE name = 'schema'") == [("3",)]
    assert_right(bound)
    bound.close()
    app.close()


def test_a_schema_1_file_gets_its_view(old: Path) -> None:
    databases.records(f"sqlite:{old}")
    app = App(old, "delete")
    bound = Bound(app)
    bound.drain()
    shown = app("SELECT id, chunk, text, fresh FROM likewise_docs_view WHERE id = 1 ORDER BY chunk")
    assert [row[:2] for row in shown] == [(1, 0), (1, 1), (1, 2)]
    assert all(row[3] == 1 for row in shown)
    bound.close()
    app.close()
