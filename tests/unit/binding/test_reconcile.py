"""Comparing source and store while others write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from likewise.binding.reconcile import sweep, verify
from tests.binding_kit import DOCS, App, Bound


@pytest.mark.parametrize(("is_exact", "found"), [(True, []), (False, [((1,), "missing")])])
def test_a_row_that_goes_between_the_two_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_exact: bool, found: list[Any]
) -> None:
    """It is there when the rows are read, gone and answered when what is stored is read again."""
    app = App(tmp_path / "app.db", "wal", DOCS)
    bound = Bound(app)
    bound.drain()
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    app("DELETE FROM likewise_docs_log")  # as after changes that no trigger saw
    fingerprints, calls = bound.table.fingerprints, 0

    def reading(keys: Any = None) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            app("DELETE FROM docs")
            worker = bound.another()
            worker.drain()
            worker.close()
        return fingerprints(keys)

    monkeypatch.setattr(bound.table, "fingerprints", reading)
    pages = [
        [(each.key, each.state) for each in page]
        for page in sweep(bound.source, bound.table, is_exact=is_exact)
    ]
    assert sum(pages, []) == found
    monkeypatch.undo()
    # For a worker it is a row to look at, which it finds gone.
    bound.table.enqueue([key for key, _ in found])
    bound.drain()
    assert verify(bound.source, bound.table, repair=False).is_clean
    bound.close()
    app.close()


@pytest.mark.parametrize("is_exact", [True, False])
def test_rows_without_vectors_or_with_others_are_found(tmp_path: Path, is_exact: bool) -> None:
    app = App(tmp_path / "app.db", "wal", DOCS)
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (2, 'c', 't', 'b'), (3, 'd', 't', 'b')")
    bound = Bound(app)
    bound.drain()
    app("UPDATE docs SET body = 'other' WHERE id = 2")
    app("INSERT INTO docs VALUES (4, 'e', 't', 'b')")
    app("DELETE FROM docs WHERE id = 3")
    app("DELETE FROM likewise_docs_log")
    found = {
        each.key: each.state
        for page in sweep(bound.source, bound.table, is_exact=is_exact)
        for each in page
    }
    assert found == {(1,): "current", (2,): "stale", (3,): "orphan", (4,): "missing"}
    bound.close()
    app.close()
