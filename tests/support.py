"""What several tests need: waiting on a condition instead of sleeping, and a free port."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], timeout: float = 30.0, *, what: str = "the condition"
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
