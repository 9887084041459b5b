"""A Unix socket to listen on: one that nobody uses any more is replaced, nothing else ever is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from likewise.base.errors import AddressInUse, SettingsError

_BACKLOG = 2048


@contextlib.contextmanager
def unix_listener(path: Path, mode: int) -> Iterator[socket.socket]:
    """A socket that listens at `path`, with `mode`; its file is removed at the end.

    Raises:
        AddressInUse: another program listens there.
        SettingsError: something else is there, or no socket can be made there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        own = _bound(listener, path, mode)
        try:
            listener.set_inheritable(False)
            yield listener
        finally:
            _remove(path, own)
    finally:
        listener.close()


def _bound(listener: socket.socket, path: Path, mode: int) -> tuple[int, int]:
    """Listen at `path`; which file that is: device and inode."""
    try:
        with _alone_in(path.parent):
            _clear(path)
            # Nobody may open it between its making and the change of its mode.
            before = os.umask(0o777 & ~mode)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            path.chmod(mode)
            listener.listen(_BACKLOG)
            made = path.lstat()
    except OSError as refused:
        reason = refused.strerror or str(refused)
        raise SettingsError(
            f"can't listen on the Unix socket {path}: {reason}", param="uds"
        ) from refused
    return made.st_dev, made.st_ino


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """While another server that starts waits: else both would find the same old socket."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise SettingsError(
            f"{path} is there and isn't a socket; remove it or choose another path with --uds",
            param="uds",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1)
        answer = caller.connect_ex(str(path))
    if answer != errno.ECONNREFUSED:
        raise AddressInUse(
            f"another program listens on {path} (perhaps another likewise); stop that one or "
            "choose another path with --uds",
            param="uds",
        )
    path.unlink()


def _remove(path: Path, own: tuple[int, int]) -> None:
    """Remove the file unless another server has put its own there."""
    with contextlib.suppress(OSError), _alone_in(path.parent):
        there = path.lstat()
        if (there.st_dev, there.st_ino) == own:
            path.unlink()
