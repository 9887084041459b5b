"""A catalogue whose models load at once; it notes who asked for what, and can be added to."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.base.errors import AdminError
from likewise.models.locate import Fetching, Located
from likewise.runtime.naming import resolved, with_short_names
from tests.support import LIMIT
from tests.unit.server.fakes import FakeModel

if TYPE_CHECKING:
    from likewise.models.locate import Progress
    from likewise.server.serving import Listed, Model


@dataclass
class FakeEntry:
    """A served model, loaded or not; `more` goes into its facts."""

    name: str
    model: FakeModel = field(default_factory=FakeModel)
    aliases: Sequence[str] = ()
    state: str = "unloaded"
    more: Mapping[str, Any] = field(default_factory=dict)
    is_own_folder: bool = False
    folder: Path | None = None

    def facts(self) -> Mapping[str, Any]:
        return {**(self.model.info() if self.state == "loaded" else {}), **self.more}

    def located(self) -> Located | None:
        return None if self.folder is None else Located(self.folder, self.name, "folder", None)


class FakeListing:
    """Lists and lends `entries`; nothing can be added."""

    def __init__(self, *entries: FakeEntry, default: str | None = None) -> None:
        self.default = default
        self.entries = {entry.name: entry for entry in entries}
        self.leased: list[tuple[str, float | None]] = []

    def models(self) -> Sequence[Listed]:
        return list(self.entries.values())

    def resolve(self, name: str | None) -> str:
        by_name = with_short_names(self.entries)
        by_name |= {alias: e.name for e in self.entries.values() for alias in e.aliases}
        return resolved(self.default if name is None else name, self.entries, by_name)

    def lease(
        self, name: str, *, keep_alive_s: float | None = None
    ) -> Future[contextlib.AbstractContextManager[Model]]:
        self.leased.append((name, keep_alive_s))
        future: Future[contextlib.AbstractContextManager[Model]] = Future()
        future.set_result(self._held(self.entries[name], keep_alive_s))
        return future

    @contextlib.contextmanager
    def _held(self, entry: FakeEntry, keep_alive_s: float | None) -> Any:
        entry.state = "loaded"
        yield entry.model
        entry.state = "unloaded" if keep_alive_s == 0 else "loaded"
        if keep_alive_s is not None and math.isfinite(keep_alive_s):
            entry.more = {**entry.more, "expires_at": 1_700_000_000 + keep_alive_s}


class FakeCatalogue(FakeListing):
    """Fetches whatever is asked for, in `steps`; fails with `fails` at the end of them."""

    def __init__(
        self,
        *entries: FakeEntry,
        steps: int = 2,
        fails: BaseException | None = None,
        gate: threading.Event | None = None,
    ) -> None:
        super().__init__(*entries)
        self.steps = steps
        self.fails = fails
        self.gate = gate
        self.removed: list[str] = []

    def fetch(self, name: str, *, progress: Progress) -> str:
        for step in range(self.steps):
            progress(Fetching("hub", name, step * 50, 100 if step else None))
        if self.gate is not None:
            assert self.gate.wait(LIMIT)
        if self.fails is not None:
            raise self.fails
        self.entries[name] = FakeEntry(name)
        return name

    def remove(self, name: str) -> None:
        if self.entries[name].is_own_folder:
            raise AdminError(f"{name} is a folder of yours")
        self.removed.append(name)
        del self.entries[name]
