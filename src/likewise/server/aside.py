"""Large requests are answered in event loops of their own, so that they hold up nobody else.

A body that takes long to decode, an answer that takes long to write, and whatever a handler does
between them run in another thread. What is read and sent still goes through the loop that has the
connection, a little at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from likewise.server import memory

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SMALL_BYTES = 2048
"""Longest body that is answered where it arrives: it holds some 500 inputs at most."""
HUGE_BYTES = 256 * 1024
"""Longest body that isn't kept apart from those of ordinary batches."""
SENT_BYTES = 256 * 1024
"""Most of an answer that is handed to a connection at a time."""
_IDLE_S = 1.0
_THREADS = 4


class Aside:
    """Hands requests with large bodies to other event loops."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        size = _size(scope)
        if size <= SMALL_BYTES:
            await self._app(scope, receive, send)
            return
        loop = _LARGE if size <= HUGE_BYTES else _HUGE
        here = asyncio.get_running_loop()

        async def received() -> Message:
            message: Message = await _in(here, receive())
            return message

        async def sent(message: Message) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            for part in _parts(message):
                await _in(here, send(part))

        try:
            await asyncio.wrap_future(loop.run(_called(self._app, scope, received, sent)))
        finally:
            if size > HUGE_BYTES:
                memory.give_back_soon(here)


def _size(scope: Scope) -> int:
    """How large the body is said to be; without a length, any size."""
    if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
        return 0
    headers = Headers(scope=scope)
    declared = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not declared.isdecimal():
        return HUGE_BYTES
    return int(declared[:18])


async def _called(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _in(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    """What `work` gives when it is run in `loop`, which isn't the running one."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def _parts(message: Message) -> list[Message]:
    """A message of an answer in messages of limited size."""
    content = message.get("body", b"")
    if len(content) <= SENT_BYTES:
        return [message]
    view = memoryview(content)
    ends = range(0, len(content), SENT_BYTES)
    parts: list[Message] = [
        {**message, "body": bytes(view[at : at + SENT_BYTES]), "more_body": True} for at in ends
    ]
    parts[-1]["more_body"] = message.get("more_body", False)
    return parts


class Loop:
    """An event loop in a thread that is there while there is work. Safe to share."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = 0

    def run(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Start `work` there; cancelling the future cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._turn, args=(self._loop,), name=self._name).start()
            self._running += 1
            done = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.add_done_callback(self._ended)
        return done

    def _ended(self, done: Future[None]) -> None:
        del done
        with self._lock:
            self._running -= 1

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=self._name)
        loop.set_default_executor(pool)
        loop.call_later(_IDLE_S, self._rest, loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _rest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop unless there is work; called in the loop's thread from time to time."""
        with self._lock:
            if self._running == 0 and len(asyncio.all_tasks(loop)) == 0:
                self._loop = None
                loop.stop()
                return
        loop.call_later(_IDLE_S, self._rest, loop)


_LARGE = Loop("likewise-large")
_HUGE = Loop("likewise-huge")
