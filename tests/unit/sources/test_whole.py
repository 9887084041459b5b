"""Reading a file that others may be writing."""

import os
from pathlib import Path

import pytest

from likewise.base.errors import FileUnreadable
from likewise.sources.stats import stat_of
from likewise.sources.whole import Torn, read_whole

LARGE = 100_000


@pytest.mark.parametrize("size", [0, 1, LARGE, (1 << 20) * 2 + 5])
def test_the_content_and_what_was_said_of_it(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    stat = stat_of((tmp_path / "a").stat())
    assert read_whole(str(tmp_path), "a", 1 << 30) == (data, stat)


def between(monkeypatch: pytest.MonkeyPatch, *steps: object) -> list[int]:
    """Do one of `steps` after each read of bytes; counts the opens."""
    waiting, opens = list(steps), []
    read, opened = os.read, os.open

    def reading(handle: int, size: int) -> bytes:
        data = read(handle, size)
        if waiting and callable(step := waiting.pop(0)):
            step()
        return data

    def opening(path: str, flags: int) -> int:
        opens.append(1)
        return opened(path, flags)

    monkeypatch.setattr(os, "read", reading)
    monkeypatch.setattr(os, "open", opening)
    return opens


def test_a_write_meanwhile_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write() -> None:
        path.write_bytes(b"new!")

    opens = between(monkeypatch, write)
    got = read_whole(str(tmp_path), "a", LARGE)
    assert not isinstance(got, Torn)
    assert got[0] == b"new!"
    assert len(opens) == 2


def test_a_write_of_the_same_size_meanwhile_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    # The clock of times ticks: begin in the past, so that the write is in another tick.
    os.utime(path, ns=(times[0], times[1] - 10**9))

    def write() -> None:
        path.write_bytes(b"new")

    opens = between(monkeypatch, None, write)
    got = read_whole(str(tmp_path), "a", LARGE)
    assert not isinstance(got, Torn)
    assert (got[0], len(opens)) == (b"new", 2)


def test_a_file_that_is_always_written_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"y")

    opens = between(monkeypatch, *[grow] * 50)
    got = read_whole(str(tmp_path), "a", LARGE)
    assert isinstance(got, Torn)
    assert "being written" in got.reason
    assert len(opens) == 3


def test_less_than_its_size_is_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    pieces = [b"12345", b"", b"123456789", b"", b"", b"0123456789", b""]
    monkeypatch.setattr(os, "read", lambda handle, size: pieces.pop(0))
    assert isinstance(read_whole(str(tmp_path), "a", LARGE), Torn)
    assert len(pieces) == 2


def test_a_file_that_is_gone_is_torn(tmp_path: Path) -> None:
    assert isinstance(read_whole(str(tmp_path), "a", LARGE), Torn)
    (tmp_path / "a").write_bytes(b"")
    assert isinstance(read_whole(str(tmp_path), "a/b", LARGE), Torn)


def test_what_is_replaced_by_renaming_is_read_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.utime(path, ns=(0, 0))

    def replace() -> None:
        (tmp_path / "b").write_bytes(b"new")
        (tmp_path / "b").rename(path)

    between(monkeypatch, replace)
    got = read_whole(str(tmp_path), "a", LARGE)
    # Either whole content is right; a mark of the old one names an inode that is gone.
    assert not isinstance(got, Torn)
    assert got[0] in (b"old", b"new")
    assert (got[1].ino == path.stat().st_ino) == (got[0] == b"new")


def test_what_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (("a", "has 5 bytes, more than the 4"), ("pipe", "isn't a regular file")):
        with pytest.raises(FileUnreadable, match=rf"{path}: {reason}") as refused:
            read_whole(str(tmp_path), path, 4)
        assert refused.value.path == path

    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(FileUnreadable, match=r"a: can't be read \(Permission denied\); look"):
        read_whole(str(tmp_path), "a", 4)
