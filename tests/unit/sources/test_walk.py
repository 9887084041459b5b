"""Which files are listed, what is passed over and said, and when a listing isn't complete."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import RootMissing
from likewise.sources.walk import Listing, is_passed_over, walk


def fill(root: Path, *paths: str) -> None:
    for path in paths:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(path)


def listed(root: Path, *patterns: str, excludes: tuple[str, ...] = ()) -> list[str]:
    listing = walk(str(root), patterns, excludes=excludes)
    assert listing.complete
    assert listing.problems == ()
    return list(listing.files)


def reasons(listing: Listing) -> dict[str, str]:
    return {problem.path: problem.reason for problem in listing.problems}


def test_files_that_a_reader_knows_are_listed_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "b.md", "a.PDF", "x/y/c.csv", "x/d.bin", "Makefile", "e.docx")
    assert listed(tmp_path) == ["Makefile", "a.PDF", "b.md", "x/y/c.csv"]
    assert listed(tmp_path, "*.bin", "e.*") == ["e.docx", "x/d.bin"]
    assert listed(tmp_path, "**", excludes=("x/",)) == ["Makefile", "a.PDF", "b.md", "e.docx"]
    assert listed(tmp_path, excludes=("*.md", "y")) == ["Makefile", "a.PDF"]


def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    fill(tmp_path, "x/a.md")
    listing = walk(str(tmp_path) + "/")
    status = os.stat(tmp_path / "x/a.md")
    stat = listing.files["x/a.md"]
    assert (stat.size, stat.ino, stat.dev) == (6, status.st_ino, status.st_dev)
    assert (stat.mtime_ns, stat.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
    assert listing.path_on_disk("x/a.md") == "x/a.md"


@pytest.mark.parametrize(
    "name",
    [".git", ".a.md.swp", "a.md~", "a.swp", "a.TMP", "#a.md#", ".#a.md", "a.pdf.crdownload", "4913",
     "node_modules", "__pycache__", "lost+found", "~$a.csv", "a.part"],
)  # fmt: skip
def test_leavings_and_hidden_names_are_passed_over(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name, f"f/{name}/a.md", "f/keep.md")
    assert is_passed_over(name)
    assert listed(tmp_path, "**") == ["f/keep.md"]


def test_an_empty_folder_is_a_complete_listing_of_nothing(tmp_path: Path) -> None:
    listing = walk(str(tmp_path))
    assert (dict(listing.files), listing.complete) == ({}, True)


def test_a_root_that_is_not_there_or_no_folder_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.md")
    for root in ("none", "a.md"):
        with pytest.raises(RootMissing, match="can't be listed") as refused:
            walk(str(tmp_path / root))
        assert refused.value.retryable


def test_pipes_and_sockets_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.md")
    assert listed(tmp_path) == []


def test_links_to_files_are_followed_inside_the_root_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(tmp_path, "root/x/a.md", "root/.hidden/b.md", "secret.md", "root2/c.md")
    (root / "l.md").symlink_to("x/a.md")
    (root / "h.md").symlink_to(root / ".hidden/b.md")
    (root / "out.md").symlink_to(tmp_path / "secret.md")
    (root / "out2.md").symlink_to(tmp_path / "root2/c.md")
    (root / "broken.md").symlink_to("nowhere.md")
    (root / "broken.bin").symlink_to("nowhere.bin")
    (root / "self.md").symlink_to("self.md")
    listing = walk(str(root))
    assert list(listing.files) == ["h.md", "l.md", "x/a.md"]
    assert listing.files["l.md"] == listing.files["x/a.md"]
    assert listing.complete
    found = reasons(listing)
    assert list(found) == ["broken.md", "out.md", "out2.md", "self.md"]
    assert found["out.md"] == "leads out of the folder; it isn't followed"
    assert found["broken.md"].startswith("leads nowhere")


def test_a_folder_is_listed_once_and_loops_end(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(tmp_path, "root/z/a.md", "root/.h/b.md", "out/c.md")
    (root / "a").symlink_to("z")
    (root / "z" / "up").symlink_to("..")
    (root / "z" / "me").symlink_to(".")
    (root / "p").symlink_to(".h")
    (root / "q").symlink_to(".h")
    (root / ".h" / "loop").symlink_to("../.h")
    (root / "o").symlink_to(tmp_path / "out")
    listing = walk(str(root))
    # By its own path where it has one; else by the first of the links, whatever order they lie in.
    assert list(listing.files) == ["p/b.md", "z/a.md"]
    assert reasons(listing) == {"o": "leads out of the folder; it isn't followed"}
    assert listing.complete


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    fill(tmp_path, "real/a.md")
    (tmp_path / "real/b.md").symlink_to("a.md")
    (tmp_path / "root").symlink_to("real")
    assert listed(tmp_path / "root") == ["a.md", "b.md"]


def test_names_are_in_nfc_and_open_as_they_are_on_disk(tmp_path: Path) -> None:
    decomposed = "Cafe\u0301/Zu\u0308rich.md"
    fill(tmp_path, decomposed)
    listing = walk(str(tmp_path), ["Café/*.md"])
    assert list(listing.files) == ["Caf\xe9/Z\xfcrich.md"]
    assert listing.path_on_disk("Caf\xe9/Z\xfcrich.md") == decomposed
    assert walk(str(tmp_path), excludes=["café/"]).files == {}


@pytest.mark.parametrize("order", [1, -1])
def test_names_that_are_one_in_nfc_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    fill(tmp_path, "e\u0301.md", "\xe9.md", "E.md")
    in_order(monkeypatch, order)
    listing = walk(str(tmp_path))
    assert list(listing.files) == ["E.md", "\xe9.md"]
    assert listing.files["\xe9.md"].ino == (tmp_path / "\xe9.md").stat().st_ino
    assert list(reasons(listing)) == ["e\u0301.md"]
    assert dict(listing.on_disk) == {}


def test_names_that_are_not_utf8_are_said(tmp_path: Path) -> None:
    fill(tmp_path, "a.md")
    raw = os.fsencode(tmp_path)
    with open(raw + b"/\xff.md", "w"):
        pass
    os.mkdir(raw + b"/d\xfe")
    with open(raw + b"/d\xfe/b.md", "w"):
        pass
    listing = walk(str(tmp_path))
    assert list(listing.files) == ["a.md"]
    assert reasons(listing) == dict.fromkeys(
        ["\\xff.md", "d\\xfe"], "its name isn't UTF-8; rename it"
    )
    assert listing.complete


class Entries:
    """A folder's entries, handed out by `each`."""

    def __init__(self, entries: Iterator[Any]) -> None:
        self.entries = entries

    def __enter__(self) -> Iterator[Any]:
        return self.entries

    def __exit__(self, *error: object) -> None:
        pass


def scanned(monkeypatch: pytest.MonkeyPatch, each: Callable[[str, list[Any]], list[Any]]) -> None:
    real = os.scandir

    def scandir(place: str) -> Entries:
        with real(place) as entries:
            return Entries(iter(each(str(place), list(entries))))

    monkeypatch.setattr(os, "scandir", scandir)


def in_order(monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    def each(place: str, entries: list[Any]) -> list[Any]:
        return sorted(entries, key=lambda entry: str(entry.name), reverse=order < 0)

    scanned(monkeypatch, each)


def test_a_folder_that_vanishes_makes_the_listing_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.md", "x/b.md", "x/c/d.md")

    def each(place: str, entries: list[Any]) -> list[Any]:
        if place.endswith("/x/"):
            shutil.rmtree(place)
        return entries

    scanned(monkeypatch, each)
    listing = walk(str(tmp_path))
    assert list(listing.files) == ["a.md"]
    assert not listing.complete
    assert "x" in reasons(listing)


def test_a_file_that_vanishes_is_only_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.md", "x/b.md")

    def each(place: str, entries: list[Any]) -> list[Any]:
        (tmp_path / "x/b.md").unlink(missing_ok=True)
        return entries

    scanned(monkeypatch, each)
    listing = walk(str(tmp_path))
    assert (list(listing.files), listing.complete) == (["a.md"], True)


def test_a_root_that_is_replaced_meanwhile_makes_it_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    fill(root, "a.md", "x/b.md")

    def each(place: str, entries: list[Any]) -> list[Any]:
        if place.endswith("/x/"):
            root.rename(tmp_path / "old")
            root.mkdir()
        return entries

    scanned(monkeypatch, each)
    listing = walk(str(root))
    assert not listing.complete
    assert "replaced" in reasons(listing).get("", "")


def test_a_folder_that_may_not_be_read_makes_it_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.md", "x/b.md")

    def each(place: str, entries: list[Any]) -> list[Any]:
        # As root, tests may read everything.
        if place.endswith("/x/"):
            raise PermissionError(13, "Permission denied", place)
        return entries

    scanned(monkeypatch, each)
    listing = walk(str(tmp_path))
    assert (list(listing.files), listing.complete) == (["a.md"], False)
    assert reasons(listing) == {"x": "the folder can't be listed (Permission denied)"}
    # What is excluded needn't be readable.
    assert walk(str(tmp_path), excludes=["x/"]).complete


def test_a_deep_folder_is_listed(tmp_path: Path) -> None:
    deep = "d/" * 300 + "a.md"
    fill(tmp_path, deep)
    assert listed(tmp_path) == [deep]


@given(name=st.text(min_size=1))
def test_any_name_is_judged(name: str) -> None:
    assert is_passed_over(name) in (True, False)
