"""Source against store, both ends: what the log can't have told, found by comparing every row."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeVar

from likewise.base.types import Audit, Key, Row

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource, BoundTable

PAGE = 500
DETAILS = 100
T = TypeVar("T")
State = Literal["current", "missing", "stale", "parked", "pending", "orphan"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How one key stands."""

    key: Key
    state: State
    why: str = ""


def sweep(
    source: BoundSource, table: BoundTable, *, is_exact: bool = True
) -> Iterator[list[Finding]]:
    """Every source row, then every stored key without one, in pages; nothing is changed.

    Others may write meanwhile: a row whose change waits in the log is `pending`, not wrong. Unless
    `is_exact`, a row that was removed meanwhile may be called missing, which spares a second
    reading of rows that have no vectors yet.
    """
    seen: set[Key] = set()
    parked = {each.key for each in table.parked(limit=None)}
    for rows in _pages(source.snapshot()):
        seen.update(row.key for row in rows)
        yield _compare(rows, source, table, parked, is_exact=is_exact)
    left = [key for key in table.fingerprints() if key not in seen]
    for keys in _pages(left):
        # Rows that came after the snapshot had passed their place aren't orphans.
        present = source.read(keys)
        waiting = table.pending(keys)
        held = table.fingerprints(keys)
        yield [
            Finding(key, "orphan", "vectors of a row that is gone")
            for key in keys
            if key not in present and key not in waiting and key in held
        ]


def _compare(
    rows: Sequence[Row],
    source: BoundSource,
    table: BoundTable,
    parked: set[Key],
    *,
    is_exact: bool,
) -> list[Finding]:
    stored = table.fingerprints([row.key for row in rows])
    suspects = [row.key for row in rows if stored.get(row.key) != row.fingerprint]
    doubtful = set(suspects)
    findings = [
        Finding(row.key, "parked" if row.key in parked else "current")
        for row in rows
        if row.key not in doubtful
    ]
    waiting = table.pending(suspects)
    findings += [Finding(key, "pending") for key in suspects if key in waiting]
    # A worker may have published between the two readings: look at the rest once more.
    again = [key for key in suspects if key not in waiting]
    stored = table.fingerprints(again)
    missing = set() if is_exact else set(again).difference(stored)
    present = source.read([key for key in again if key not in missing])
    for key in again:
        held = stored.get(key)
        if key in missing or (held is None and key in present):
            findings.append(Finding(key, "missing", "no vectors"))
        elif key not in present:
            continue
        elif held != present[key].fingerprint:
            findings.append(Finding(key, "stale", "vectors of another text"))
        else:
            findings.append(Finding(key, "current"))
    return findings


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while page := list(islice(left, PAGE)):
        yield page


def wrong(findings: Iterable[Finding]) -> list[Key]:
    """Keys that should go through the queue again."""
    return [found.key for found in findings if found.state in {"missing", "stale", "orphan"}]


def verify(source: BoundSource, table: BoundTable, *, repair: bool = True) -> Audit:
    """Compare every row with what is stored for it, and every stored vector with its row.

    With `repair`, what is wrong is put on the queue; the worker does the rest.
    """
    counts: Counter[State] = Counter()
    details: list[str] = []
    queued: list[Key] = []
    for findings in sweep(source, table):
        counts.update(found.state for found in findings)
        details += _told(findings)
        queued += wrong(findings)
    known = set(queued)
    flaws = [(key, why) for key, why in table.flaws() if key not in known]
    flawed = _settled(source, table, flaws)
    counts.update(found.state for found in flawed)
    details += _told(flawed)
    damaged = [found.key for found in flawed if found.state == "stale"]
    counts["current"] -= len(damaged)
    if repair:
        table.forget(damaged)
        table.enqueue([*queued, *(found.key for found in flawed)])
    if unnamed := source.unnamed():
        details.append(f"{unnamed} rows have NULL in their key and can't be bound")
    audit = Audit(
        rows=source.count(),
        current=counts["current"],
        missing=counts["missing"],
        stale=counts["stale"],
        orphan=counts["orphan"],
        parked=counts["parked"],
        pending=counts["pending"],
        repaired=len(queued) + len(flawed) if repair else 0,
    )
    return dataclasses.replace(audit, details=tuple(details[:DETAILS]))


def differing(source: BoundSource, table: BoundTable) -> set[Key]:
    """Every key for which `verify` finds something wrong."""
    found = {key for findings in sweep(source, table) for key in wrong(findings)}
    return found | {each.key for each in _settled(source, table, list(table.flaws()))}


def _settled(
    source: BoundSource, table: BoundTable, flaws: Sequence[tuple[Key, str]]
) -> list[Finding]:
    """Damage that isn't about to be replaced anyway."""
    keys = [key for key, _ in flaws]
    waiting, present = table.pending(keys), source.read(keys)
    return [
        Finding(key, "stale" if key in present else "orphan", why)
        for key, why in flaws
        if key not in waiting
    ]


def _told(findings: Iterable[Finding]) -> list[str]:
    return [
        f"{found.state}: {'/'.join(map(repr, found.key))} ({found.why})"
        for found in findings
        if found.why
    ]
