"""What several tests need: the one limit of time, waiting on a condition, processes that are ended.

A limit is there so that a test which hangs fails; it says nothing about how fast anything is. On a
machine with much else to do everything takes many times as long, so there is one, and it is long.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT = 240.0
"""Seconds that whatever a test waits for may take. Less than pytest's own limit, which ends the
whole process."""
BUSY_MS = int(1000 * LIMIT)
"""The same for SQLite's busy time-out."""


def wait_until(
    condition: Callable[[], T], timeout: float = LIMIT, *, what: str = "the condition"
) -> T:
    """The first truthy value of `condition()`; fails the test after `timeout` seconds.

    An AssertionError inside `condition` counts as "not yet" and is shown if time runs out.
    """
    deadline = time.monotonic() + timeout
    last: AssertionError | None = None
    while True:
        try:
            value = condition()
        except AssertionError as not_yet:
            last = not_yet
        else:
            if value:
                return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} didn't come true within {timeout:g} s") from last
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port on the loopback that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process, as `subprocess.Popen` starts it; whatever happens, it is gone after the block."""
    process = subprocess.Popen(argv, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill it, unless it has ended, take its exit code and close its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait(LIMIT)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            # What a killed process left unread, and what it never read, is of no use.
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def joined(thread: threading.Thread) -> None:
    """Wait until the thread has ended; fails the test if it doesn't."""
    thread.join(LIMIT)
    assert not thread.is_alive(), f"the thread {thread.name} didn't end within {LIMIT:g} s"
