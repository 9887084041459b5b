"""No test leaves anything running: processes, threads, handlers of the log.

What one left over would disturb those that come after it, where nobody would look for the cause: a
`ResourceWarning` about a process, a line that is logged into a file that is closed by then.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.support import LIMIT, end, wait_until

_started: list[subprocess.Popen[Any]] = []
"""All that were started by this process and may be running still."""
_start = subprocess.Popen.__init__


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test failed, for those who clean up after it."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


def _noted(self: subprocess.Popen[Any], *values: Any, **options: Any) -> None:
    _start(self, *values, **options)
    _started.append(self)


subprocess.Popen.__init__ = _noted  # type: ignore[method-assign]


def _left_processes(before: set[int]) -> list[subprocess.Popen[Any]]:
    _started[:] = [each for each in _started if each.returncode is None]
    return [each for each in _started if id(each) not in before]


_OF_POOLS = ("asyncio_", "uvloop_", "ThreadPoolExecutor-", "litellm-")
"""How threads are called that an event loop, or a client of the tests, hands work to: they wait for
more of it until the loop or the program ends. Ours have other names."""


def _left_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that are still there; not those that a server of several tests has for its work."""
    return [
        each
        for each in threading.enumerate()
        if each not in before
        and not each.daemon
        and each.is_alive()
        and not each.name.startswith(_OF_POOLS)
    ]


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends what the test has left running, and fails it for that unless it has failed already."""
    _left_processes(set())
    processes, threads = {id(each) for each in _started}, set(threading.enumerate())
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        # Such as what a command of ours logs to: pytest closes that file.
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    left = _left_processes(processes)
    for process in left:
        end(process)
    wait_until(
        lambda: not _left_threads(threads),
        what=f"the end of the threads that the test started ({_left_threads(threads)})",
    )
    # Those that have ended unseen were ended by somebody, though nobody looked.
    running = [each for each in left if each.returncode is not None and each.returncode < 0]
    assert not running or request.node.stash.get(_FAILED, False), (
        f"the test left processes running: {[each.args for each in running]}"
    )


__all__ = ["LIMIT", "nothing_left"]
