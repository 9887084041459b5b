"""Settings become a registry: where vectors are kept, and that what is kept is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from likewise.cli import catalogue
from likewise.cli.resolve import Keeping, Place
from likewise.runtime import metrics
from tests.conformance.tiny import write_bert
from tests.support import wait_until


def place(tmp_path: Path) -> Place:
    return Place(cache=tmp_path / "home", offline=True, precision="exact", threads=1)


def embedded(tmp_path: Path, setting: str) -> tuple[np.ndarray, float]:
    """The vectors of two texts, asked for twice, and how many of those were kept ones."""
    folder = tmp_path / "model"
    if not folder.exists():
        write_bert(folder)
    hits = metrics.CACHE_HITS.labels("model")
    before = hits._value.get()
    with catalogue.opened(place(tmp_path), Keeping(vector_cache=setting)) as models:
        models.serve(str(folder))
        models.start()
        with models.registry.lease("model").result() as model:
            first = model.embed(["w1 w2", "w3"])
            second = model.embed(["w3", "w1 w2"])
    np.testing.assert_array_equal(first, second[::-1])
    return first, hits._value.get() - before


def test_off_keeps_nothing(tmp_path: Path) -> None:
    assert embedded(tmp_path, "off")[1] == 0


def test_memory_keeps_for_as_long_as_the_server_runs(tmp_path: Path) -> None:
    assert embedded(tmp_path, "memory")[1] == 2
    assert embedded(tmp_path, "memory")[1] == 2


def test_a_file_keeps_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    first, hits = embedded(tmp_path, str(path))
    assert hits == 2
    wait_until(path.is_file)
    again, hits = embedded(tmp_path, str(path))
    assert hits == 4, "what an earlier process computed isn't computed again"
    np.testing.assert_array_equal(first, again)


def test_a_file_that_is_something_else_is_left_alone_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "notes.txt"
    written = "not a database, and longer than a page " * 200
    path.write_text(written)
    assert embedded(tmp_path, str(path))[1] == 0
    assert path.read_text() == written
    assert "no vectors are kept" in caplog.text and "isn't a SQLite database" in caplog.text


def test_a_model_that_no_binding_uses_any_more_is_let_go(tmp_path: Path) -> None:
    one, two = str(write_bert(tmp_path / "one")), str(write_bert(tmp_path / "two"))
    with catalogue.opened(place(tmp_path), Keeping()) as models:
        models.serve(two)
        for name in (one, two):
            models.bound(name, "pages")
            models.bound(name, "notes")

        def loaded() -> list[str]:
            there = models.registry.models()
            return sorted(each.name for each in there if each.state == "loaded")

        models.unbound(one, "pages")
        assert loaded() == ["one", "two"], "another binding uses it"
        for name in (one, two):
            models.unbound(name, "notes")
            models.unbound(name, "pages")
        models.unbound("never heard of", "pages")
        assert loaded() == ["two"], "it is to be served in any case"


def test_what_a_killed_start_left_is_removed_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tmp_path / "home" / ".loading-abc"
    left.mkdir(parents=True)
    (left / ".in-use").touch()
    (left / "weights").write_bytes(bytes(3 * 2**20))
    with catalogue.opened(place(tmp_path), Keeping()):
        assert not left.exists()
    assert "removed 1 copy that a killed process left" in capsys.readouterr().err
    with catalogue.opened(place(tmp_path), Keeping()):
        pass
    assert capsys.readouterr().err == ""
