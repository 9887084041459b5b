"""Vectors into files: each form read back by its own library, and nothing half written."""

import errno
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from likewise.base.errors import DatabaseFull, MissingExtra, SettingsError
from likewise.cli import vector_output
from likewise.cli.vector_output import Form

TEXTS = [f"text {at} ü" for at in range(5)]
VECTORS = np.arange(15, dtype=np.float32).reshape(5, 3)


def written(path: Path, form: Form) -> Path:
    with vector_output.to_file(path, form, 3) as writer:
        writer.write(TEXTS[:2], VECTORS[:2], [1])
        writer.write(TEXTS[2:], VECTORS[2:], [])
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path


def test_json_lines(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.jsonl", "jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [each["index"] for each in records] == [0, 1, 2, 3, 4]
    assert [each["text"] for each in records] == TEXTS
    np.testing.assert_array_equal([each["embedding"] for each in records], VECTORS)
    assert [each.get("truncated") for each in records] == [None, True, None, None, None]


def test_numpy(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npy", "npy")
    loaded = np.load(path)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, VECTORS)
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), VECTORS)


def test_numpy_leaves_room_for_any_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with vector_output.to_file(path, "npy", 1) as writer:
        for _ in range(120):
            writer.write([""] * 1000, np.ones((1000, 1), np.float32), [])
    assert np.load(path).shape == (120_000, 1)


def test_parquet(tmp_path: Path) -> None:
    table = pq.read_table(written(tmp_path / "a.parquet", "parquet"))
    assert table.column_names == ["text", "embedding", "truncated"]
    assert table["text"].to_pylist() == TEXTS
    np.testing.assert_array_equal(table["embedding"].to_pylist(), VECTORS)
    assert table["truncated"].to_pylist() == [False, True, False, False, False]


@pytest.mark.parametrize("form", vector_output.FORMS)
def test_a_failure_leaves_what_was_there(tmp_path: Path, form: Form) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), vector_output.to_file(path, form, 3) as writer:
        writer.write(TEXTS, VECTORS, [])
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseFull, match="the disk is full; nothing was left behind"),
        vector_output.to_file(tmp_path / "out", "npy", 3),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_cant_work_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="the folder .* isn't there"):
        vector_output.check(str(tmp_path / "no" / "out.npy"), "npy")
    with pytest.raises(SettingsError, match="npy needs a file"):
        vector_output.form_of("-", "npy")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'likewise\[parquet\]'"):
        vector_output.check("out.parquet", "parquet")


def test_the_suffix_says_the_form() -> None:
    assert vector_output.form_of("a.NPY", None) == "npy"
    assert vector_output.form_of("a.parquet", None) == "parquet"
    assert vector_output.form_of("a.txt", None) == "jsonl"
    assert vector_output.form_of("-", None) == "jsonl"
