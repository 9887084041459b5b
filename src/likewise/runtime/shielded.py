"""Futures for one of several who wait: what one of them gives up goes on for the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def shielded(inner: Future[T], make: Callable[[T], U]) -> Future[U]:
    """What `make` makes of the result of `inner`; cancelling it leaves `inner` alone."""
    outer: Future[U] = Future()

    def carry(done: Future[T]) -> None:
        if not outer.set_running_or_notify_cancel():
            return
        failure = done.exception()
        if failure is not None:
            outer.set_exception(failure)
            return
        outer.set_result(make(done.result()))

    inner.add_done_callback(carry)
    return outer
