"""SIGHUP: keys and likewise.toml are read again; what can change while it runs does so at once."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from likewise.base.errors import LikewiseError
from likewise.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.applications import Starlette

    from likewise.cli.catalogue import Catalogued
    from likewise.cli.launched import Launch

_STATE = {
    "max_body_mib": ("max_body_bytes", lambda mib: mib * 2**20),
    "guarding.max_batch_inputs": ("max_inputs", None),
    "guarding.body_timeout_s": ("body_timeout_s", None),
    "guarding.strict": ("strict", None),
    "keeping.timeout_s": ("timeout_s", None),
}
"""Settings that requests look up: where in the application's state, and made into what."""

_WRITTEN = {
    "place": "[model] or [models]",
    "specs": "[[binding]]",
    "guarding.cors_origins": "cors_origins",
    "keeping.timeout_s": "queue_timeout_ms",
    "keeping.is_lazy": "load",
    "keeping.keep_alive_s": "keep_alive",
    "keeping.memory_budget": "memory_budget_mib",
    "keeping.vector_cache_bytes": "vector_cache_mib",
}
"""What a setting is called in likewise.toml, where it isn't called as in here."""

_GROUPS = ("guarding", "keeping")


class Reload:
    """What SIGHUP does to a running server; one at a time, in a thread of its own."""

    def __init__(self, launch: Launch, app: Starlette, models: Catalogued) -> None:
        self._launch = launch
        self._app = app
        self._models = models
        self._lock = threading.Lock()
        self._live: dict[str, Callable[[Any, Any], None]] = {
            "models": self._serve,
            "guarding.cors_origins": lambda old, new: app.state.guard.origins.change(new),
            "keeping.aliases": lambda old, new: models.rename(old, new),
            "keeping.keep_alive_s": lambda old, new: models.keep(new),
            "keeping.default_model": lambda old, new: models.prefer(new),
            **{name: self._setting(*how) for name, how in _STATE.items()},
        }

    def begin(self) -> None:
        """Read again, without holding up who calls."""
        threading.Thread(target=self.run, name="reload", daemon=True).start()

    def run(self) -> None:
        """Read keys and settings again; what is wrong is said, and leaves all as it was."""
        with self._lock:
            if self._app.state.keys is not None:
                try:
                    self._app.state.keys.read_again()
                    output.note("SIGHUP: keys are read again")
                except LikewiseError as wrong:
                    output.warn(f"SIGHUP: keys stay as they were: {wrong}")
            if self._launch.again is None:
                output.note("SIGHUP: there is no likewise.toml to read again; flags stay")
                return
            try:
                new = self._launch.again()
                self._require(new)
            except LikewiseError as wrong:
                output.warn(f"SIGHUP: settings stay as they were: {wrong}")
                return
            self._apply(new)

    def _require(self, new: Launch) -> None:
        from likewise.server.origin_patterns import require_origins

        require_origins(new.guarding.cors_origins)

    def _apply(self, new: Launch) -> None:
        changed, waiting = [], []
        for name, before, after in _differences(self._launch, new):
            shown = _WRITTEN.get(name, name.rpartition(".")[2])
            if name not in self._live:
                waiting.append(shown)
                continue
            try:
                self._live[name](before, after)
            except LikewiseError as wrong:
                output.warn(f"SIGHUP: {shown} stays as it was: {wrong}")
                continue
            # What needs a restart stays what it was, so that it is said again the next time.
            self._launch = _with(self._launch, name, after)
            changed.append(shown)
        output.note(f"SIGHUP: likewise.toml is read again; changed: {_listed(changed)}")
        if waiting:
            output.warn(f"SIGHUP: needs a restart: {_listed(waiting)}")

    def _serve(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        for name in new:
            if name not in old:
                self._models.serve(name)
        for name in old:
            if name not in new:
                self._models.serve_no_more(name)

    def _setting(self, name: str, make: Callable[[Any], Any] | None) -> Callable[[Any, Any], None]:
        def change(old: Any, new: Any) -> None:
            setattr(self._app.state, name, new if make is None else make(new))

        return change


def _differences(old: Launch, new: Launch) -> Iterable[tuple[str, Any, Any]]:
    """Every setting that isn't the same: its name here, and both values."""
    for group, one, other in (
        ("", old, new),
        *((f"{name}.", getattr(old, name), getattr(new, name)) for name in _GROUPS),
    ):
        for field in dataclasses.fields(one):
            if not group and field.name in (*_GROUPS, "again"):
                continue
            before, after = getattr(one, field.name), getattr(other, field.name)
            if before != after:
                yield f"{group}{field.name}", before, after


def _with(launch: Launch, name: str, value: Any) -> Launch:
    group, _, field = name.rpartition(".")
    if not group:
        return dataclasses.replace(launch, **{field: value})
    part = dataclasses.replace(getattr(launch, group), **{field: value})
    return dataclasses.replace(launch, **{group: part})


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nothing"
