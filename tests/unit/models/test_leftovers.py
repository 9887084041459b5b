"""What killed processes leave in the cache is removed; what others use stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from likewise.base.clock import wall
from likewise.models import shelf
from likewise.models.leftovers import Freed, own_folder, sweep

MIB = 2**20

_HOLDS = """
import sys
from pathlib import Path
from likewise.models import shelf
from likewise.models.leftovers import own_folder
cache = Path(sys.argv[1])
made = own_folder(cache) if sys.argv[2] == "load" else shelf.staging(cache, "acme/tiny")
with made as folder:
    (folder / "weights").write_bytes(bytes(2**20))
    print(folder, flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process with a folder of its own in the cache."""

    def __init__(self, cache: Path, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOLDS, str(cache), how],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.folder = Path(self.process.stdout.readline().strip())

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.communicate()


@pytest.mark.parametrize("how", ["load", "fetch"])
def test_what_a_killed_process_left_is_removed_and_what_a_live_one_holds_stays(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    holder = Holder(tmp_path, how)
    try:
        assert (holder.folder / "weights").is_file()
        assert sweep(tmp_path) == Freed()
        assert (holder.folder / "weights").is_file()
    finally:
        holder.end(signal.SIGKILL)
    assert holder.folder.is_dir(), "a kill leaves it"
    freed = sweep(tmp_path)
    assert freed.count == 1
    assert freed.size_bytes >= MIB
    assert not holder.folder.exists()
    assert "leftovers of a crash removed" in caplog.text
    assert sweep(tmp_path) == Freed()


def test_our_own_is_left_alone_too_and_gone_with_its_block(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder, shelf.staging(tmp_path, "acme/tiny") as part:
        assert sweep(tmp_path) == Freed()
        assert folder.is_dir() and part.is_dir()
    assert not folder.exists() and not part.exists()


def _aged(path: Path, seconds: float) -> None:
    for each in (*path.rglob("*"), path):
        os.utime(each, (wall() - seconds, wall() - seconds))


def test_without_a_lock_age_tells(tmp_path: Path) -> None:
    old, new = tmp_path / ".loading-old", tmp_path / ".loading-new"
    part = tmp_path / "models" / ".part-acme--tiny-x1y2z3w4"
    for folder in (old, new, part):
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "weights").write_bytes(bytes(MIB))
    _aged(old, 48 * 3600)
    _aged(part, 48 * 3600)
    freed = sweep(tmp_path)
    assert freed.count == 2
    assert [path.exists() for path in (old, new, part)] == [False, True, False]


def test_files_on_their_way_to_a_name_are_removed_once_they_are_old(tmp_path: Path) -> None:
    names = (
        "digests.jsonab12cd34",
        "digests.json",
        "selfchecks.jsonab12_d34",
        "x.jsonab12cd34",
    )
    for name in names:
        (tmp_path / name).write_text("{}")
    assert sweep(tmp_path).count == 0
    for name in names:
        _aged(tmp_path / name, 2 * 3600)
    assert sweep(tmp_path).count == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "digests.json",
        "x.jsonab12cd34",
    ]


def test_models_are_never_touched(tmp_path: Path) -> None:
    kept = tmp_path / "models" / "acme--tiny" / "abc" / "config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    (tmp_path / ".loading-link").symlink_to(tmp_path / "elsewhere")
    _aged(tmp_path / "models", 10**7)
    sweep(tmp_path)
    assert kept.is_file()
    assert (tmp_path / "elsewhere" / "file").is_file()


def test_a_cache_that_isnt_there_or_cant_be_written_is_no_trouble(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none") == Freed()
