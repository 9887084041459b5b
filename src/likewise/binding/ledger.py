"""Who may publish: leases, their holders, and whether a holder is still alive."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic

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
    return socket.gethostname()


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
                self.holder, seconds=self._seconds, is_dead=is_dead
            )
            self._renewed = now
        elif now - self._renewed >= self.renew_every:
            self._table.renew_lease()
            self._renewed = now
        return self.is_held

    def lost(self) -> None:
        """Somebody else has it."""
        self.is_held = False

    def release(self) -> None:
        """Give it back."""
        if self.is_held:
            self.is_held = False
            self._table.release_lease()
