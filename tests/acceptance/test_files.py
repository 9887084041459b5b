"""What folders do to those who follow them: renames, torn writes, mounts that are gone."""

from __future__ import annotations

import csv
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from likewise.base.errors import MassDelete, RootMissing
from likewise.base.spec import BindingSpec
from likewise.binding.status import status
from tests.acceptance.rigs import RIGS, Rig
from tests.binding_kit import Fake, running
from tests.support import wait_until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = RIGS["files"](tmp_path, lambda name: None)
    yield made
    made.close()


def test_an_edit_of_the_same_size_whose_time_was_set_back(rig: Rig) -> None:
    rig.app.write({1: "green"})
    path = Path(rig.where) / "1.txt"
    os.utime(path, (1_000_000_000, 1_000_000_000))
    rig.drain()
    rig.drain()
    with path.open("r+", encoding="utf-8") as file:  # in place: the inode stays
        file.write("black")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert rig.drain().texts == ["black"]
    rig.assert_right()


@pytest.mark.parametrize("count", [10_000])
def test_a_folder_that_is_renamed_costs_nothing(rig: Rig, count: int) -> None:
    folder = Path(rig.where) / "old"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"text {number}", encoding="utf-8")
    assert len(rig.drain().texts) == count
    folder.rename(Path(rig.where) / "new")
    rig.table.allow_deletes(True)  # 10,000 paths are gone at once, and it is meant
    assert rig.drain().texts == []
    assert {key[0] for key in rig.table.fingerprints()} == {f"new/{n}.txt" for n in range(count)}
    assert rig.table.pending() == set()


def test_many_files_at_once_while_it_runs(rig: Rig) -> None:
    """More events than the system keeps; they are hints, and a scan sees what is there."""
    worker = rig.worker()
    with running(worker):
        wait_until(lambda: worker.intake.scans > 0)
        rig.app.write({number: f"text {number}" for number in range(3000)})
        wait_until(lambda: len(rig.table.fingerprints()) == 3000, 60)
        rig.app.remove(1, 2, 3)
        wait_until(lambda: len(rig.table.fingerprints()) == 2997, 60)
    rig.assert_right()


def test_a_folder_that_is_gone_loses_nothing(rig: Rig) -> None:
    rig.app.write({number: f"text {number}" for number in range(40)})
    rig.drain()
    away = Path(rig.where).with_name("away")
    Path(rig.where).rename(away)
    worker = rig.worker()
    with pytest.raises(RootMissing, match="mount it"):
        worker.step()
    Path(rig.where).mkdir()  # what is left when a disk isn't mounted
    with pytest.raises(MassDelete, match="40 of 40 are gone"):
        worker.step()
    worker.close()
    assert len(rig.table.fingerprints()) == 40
    Path(rig.where).rmdir()
    away.rename(rig.where)
    rig.app.write({1: "changed"})
    assert rig.drain().texts == ["changed"]
    rig.assert_right()


def test_many_deletes_are_done_when_somebody_says_that_they_are_meant(rig: Rig) -> None:
    rig.app.write({number: f"text {number}" for number in range(60)})
    rig.drain()
    rig.app.remove(*range(50))
    worker = rig.worker()
    with pytest.raises(MassDelete, match="--accept-deletes"):
        worker.step()
    worker.close()
    assert len(rig.table.fingerprints()) == 60
    rig.table.allow_deletes(True)
    rig.drain()
    rig.assert_right()
    assert len(rig.table.fingerprints()) == 10


def test_the_sweep_doubts_deletes_too(rig: Rig) -> None:
    rig.app.write({number: f"text {number}" for number in range(60)})
    rig.drain()
    rig.app.clear()
    rig.table.want_reconcile()
    worker = rig.worker()
    with pytest.raises(MassDelete):
        worker.step()
    assert len(rig.table.fingerprints()) == 60


def test_a_part_that_cant_be_seen_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(rig.where) / "private"
    folder.mkdir()
    (folder / "a.txt").write_text("secret", encoding="utf-8")
    rig.app.write({1: "one"})
    rig.drain()
    shutil.rmtree(folder)
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path).rstrip("/").endswith("private"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    folder.mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    rig.drain()
    assert set(rig.table.fingerprints()) == {("1.txt", ""), ("private/a.txt", "")}


def test_a_file_that_is_removed_while_the_model_is_at_it_and_comes_back(rig: Rig) -> None:
    """Between two scans it was there, gone and there again: what is stored follows all the same."""

    def before(texts: Sequence[str]) -> None:
        if "first" in texts:
            rig.app.remove(1)
            rig.app.write({1: "first"})

    rig.app.write({1: "first"})
    worker = rig.worker(Fake(before))
    worker.drain()
    rig.drain()
    rig.assert_right()


def test_an_unreadable_file_is_parked_with_its_reason(rig: Rig) -> None:
    (Path(rig.where) / "scan.pdf").write_bytes(b"%PDF-1.7 not really")
    rig.app.write({1: "one"})
    rig.drain()
    (parked,) = rig.table.parked()
    assert parked.key == ("scan.pdf", "")
    assert parked.error.startswith("file_unreadable: scan.pdf: ")
    assert status(rig.source, rig.table).current == 1


def test_a_file_that_is_being_written_keeps_its_vectors_until_it_can_be_read(rig: Rig) -> None:
    path = Path(rig.where) / "rows.csv"
    path.write_text("id,text\n1,one\n2,two\n", encoding="utf-8")
    assert sorted(rig.drain().texts) == ["one", "two"]
    path.write_bytes(b"id,te\x00\x00")
    worker = rig.worker()
    worker.step()
    assert len(rig.table.fingerprints()) == 2
    path.write_text("id,text\n1,one\n2,too\n", encoding="utf-8")
    worker.drain()
    assert len(rig.table.fingerprints()) == 2
    assert rig.table.parked() == []


def test_rows_of_a_csv_file(tmp_path: Path) -> None:
    """Only rows that changed are embedded; moving rows about costs nothing."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "goods.csv"

    def write(rows: Sequence[tuple[str, str]]) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("sku", "title"), *rows])

    rows = [(f"s{number}", f"thing {number}") for number in range(200)]
    write(rows)
    spec = BindingSpec(
        "docs", f"files:{folder}", "", "{title}", ("sku",), store=f"sqlite:{tmp_path / 'v.db'}"
    )
    rig = Rig("files", str(folder), spec)
    try:
        assert rig.record.spec.row_key == ("sku",)
        assert len(rig.drain().texts) == 200
        rows[7] = ("s7", "another thing")
        write(rows[::-1])
        assert rig.drain().texts == ["another thing"]
        write([row for row in rows if row[0] != "s9"])
        assert rig.drain().texts == []
        assert len(rig.table.fingerprints()) == 199
        assert status(rig.source, rig.table).current == 199
    finally:
        rig.close()


def test_patterns_that_exclude(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    (folder / "drafts").mkdir(parents=True)
    for name in ("a.md", "b.txt", "drafts/c.md"):
        (folder / name).write_text(name, encoding="utf-8")
    spec = BindingSpec(
        "docs",
        f"files:{folder}",
        "",
        "{text}",
        store=f"sqlite:{tmp_path / 'v.db'}",
        glob="**/*.md, !drafts/",
    )
    rig = Rig("files", str(folder), spec)
    try:
        assert rig.drain().texts == ["a.md"]
    finally:
        rig.close()


def test_watching_stops_with_the_source(rig: Rig) -> None:
    rig.source.stamp()
    rig.source.close()
    assert not [each for each in threading.enumerate() if each.name == "likewise-files"]
