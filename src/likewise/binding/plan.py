"""Pure: changes, rows and what is stored → which rows to embed, which actions need no embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from likewise.base.types import Action, Change, Delete, Keep, Key, Row


@dataclass(frozen=True, slots=True)
class Plan:
    """What one batch of log entries asks for."""

    embed: tuple[tuple[Row, int], ...]
    """Rows whose text has no vectors yet, each with the newest log entry it answers."""
    ready: tuple[Action, ...]
    """Actions that need no embedding."""
    cursor: int
    """The last log entry read."""


def newest(changes: Sequence[Change]) -> dict[Key, int]:
    """Each key once, in the order of its first entry, with its newest entry."""
    found: dict[Key, int] = {}
    for change in changes:
        found[change.key] = max(change.seq, found.get(change.key, 0))
    return found


def plan(seqs: Mapping[Key, int], rows: Mapping[Key, Row], stored: Mapping[Key, bytes]) -> Plan:
    """Decide for each key of `seqs`; what the log entry said doesn't matter, only what is there.

    `rows` was read after the log, `stored` may be a batch behind: the fence sees to that.
    """
    embed: list[tuple[Row, int]] = []
    ready: list[Action] = []
    for key, seq in seqs.items():
        row = rows.get(key)
        if row is None:
            ready.append(Delete(key, seq))
        elif stored.get(key) == row.fingerprint:
            ready.append(Keep(key, seq, row.fingerprint))
        else:
            embed.append((row, seq))
    return Plan(tuple(embed), tuple(ready), max(seqs.values(), default=0))
