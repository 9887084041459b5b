"""What a test leaves behind is ended, and told of where it was left."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil

from tests.support import LIMIT

LEAVING = """
import logging, subprocess, sys

WAITS = [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"]

def started():
    made = subprocess.Popen(WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert made.stdout.readline()
    print("number", made.pid, file=sys.__stderr__, flush=True)
    return made

def test_that_leaves_one():
    started()

def test_that_fails_and_leaves_one():
    made = started()
    raise AssertionError("its own fault")

def test_that_logs_where_pytest_reads():
    logging.basicConfig(handlers=[logging.StreamHandler(sys.stderr)], force=True)

def test_that_comes_after():
    assert not [each for each in logging.getLogger().handlers
                if type(each) is logging.StreamHandler]

def test_that_ends_what_it_starts():
    made = started()
    made.communicate()
"""


def test_what_is_left_is_ended_and_told_of(repo: Path, tmp_path: Path) -> None:
    file = tmp_path / "test_leaving.py"
    file.write_text(LEAVING, encoding="utf-8")
    options = ["-q", "-s", "-p", "tests.hygiene", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", "/dev/null", "--rootdir", tmp_path, file],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert re.search(r"1 failed, 4 passed, 1 error", done.stdout), done.stdout
    assert "ERROR at teardown of test_that_leaves_one" in done.stdout
    assert "the test left processes running: [[" in done.stdout
    assert "its own fault" in done.stdout
    numbers = [int(found) for found in re.findall(r"number (\d+)", done.stderr)]
    assert len(numbers) == 3
    assert not any(psutil.pid_exists(number) for number in numbers)
