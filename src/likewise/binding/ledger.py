"""Who may publish: leases, their holders, and whether a holder is still alive."""

from __future__ import annotations

import os
import secrets
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import DatabaseUnavailable, LeaseLost

if TYPE_CHECKING:
    from likewise.base.bound import BoundTable

LEASE_SECONDS = 30.0
_RENEW_AFTER = 1 / 3


def this_place() -> str:
    """The host and process namespace: process numbers mean something only within one."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
        return f"{socket.gethostname()}.{boot}.{space}"
    # Two machines may have one name, such as `localhost`; only one of them has this network card.
    return f"{socket.gethostname()}.{uuid.getnode():012x}"


def started(pid: int) -> str | None:
    """When a process began, in its own system's ticks; None when there is no such process.

    Where this can't be read, `?` for any process that lives.
    """
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The name in parentheses may hold spaces; field 22 is counted from behind it.
        after_name = stat.rpartition(")")[2].split()
        return None if after_name[0] in {"Z", "X"} else after_name[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "?"


def new_holder() -> str:
    """A name for one worker: place, process, its start, and something random."""
    pid = os.getpid()
    return f"{this_place()}|{pid}|{started(pid)}|{secrets.token_hex(4)}"


def is_dead(holder: str) -> bool:
    """Whether `holder` certainly no longer runs; False when it can't be known from here."""
    parts = holder.split("|")
    if len(parts) != 4 or parts[0] != this_place() or not parts[1].isdigit():
        return False
    return started(int(parts[1])) != parts[2]


class Ledger:
    """One worker's claim on one binding."""

    def __init__(
        self, table: BoundTable, *, seconds: float = LEASE_SECONDS, clock: Clock = monotonic
    ) -> None:
        self._table = table
        self._seconds = seconds
        self._clock = clock
        self._renewed = 0.0
        self._former: set[str] = set()
        self._was_held = False
        self.holder = new_holder()
        self.is_held = False

    @property
    def renew_every(self) -> float:
        """Seconds after which the lease wants to be prolonged."""
        return self._seconds * _RENEW_AFTER

    def hold(self) -> bool:
        """Take the lease or, when it is time, prolong it; False when another worker has it.

        Raises:
            LeaseLost: it was ours and was taken over: what was computed must be thrown away.
        """
        now = self._clock()
        if not self.is_held:
            self.is_held = self._table.take_lease(
                self.holder, seconds=self._seconds, is_dead=self._is_dead
            )
            self._renewed = now
            if self.is_held:
                self._was_held = True
                self._former.clear()
        elif now - self._renewed >= self.renew_every:
            self._table.renew_lease()
            self._renewed = now
        return self.is_held

    def failed(self, error: BaseException) -> None:
        """What `error`, in the midst of the work, means for the lease."""
        if isinstance(error, LeaseLost):
            self.lost()
        elif isinstance(error, DatabaseUnavailable):
            self.begin_anew()

    def lost(self) -> None:
        """Somebody else has it."""
        self.is_held = False

    def begin_anew(self) -> None:
        """Go on as another holder: who the old one was is dead, and what it has claimed is free.

        For when nobody knows what it has claimed: a database that went away may have carried out
        what it never answered, and what was still to be given back to it wasn't.
        """
        self.is_held = False
        if self._was_held:
            self._was_held = False
            self._former.add(self.holder)
            self.holder = new_holder()

    def release(self) -> None:
        """Give it back."""
        if self.is_held:
            self.is_held = False
            self._table.release_lease()

    def _is_dead(self, holder: str) -> bool:
        return holder in self._former or is_dead(holder)
