"""Models of bindings in a program: those that the caller gave, and others loaded when asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from likewise.client.names import is_remote

if TYPE_CHECKING:
    from likewise.base.protocols import BoundModel
    from likewise.client.embedder import RemoteEmbedder
    from likewise.runtime.service import Service


class Loaded:
    """Models by name; `load` gives one that isn't there yet, which is closed with this."""

    def __init__(self, load: Callable[[str], Service | RemoteEmbedder]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._models: dict[str, BoundModel] = {}
        self._own: list[Service | RemoteEmbedder] = []

    def add(self, name: str, model: BoundModel) -> None:
        """Let `name` stand for `model`, which stays the caller's."""
        with self._lock:
            self._models[name] = model

    def __call__(self, name: str) -> BoundModel:
        """The model called `name`, loaded unless it is there."""
        with self._lock:
            if name not in self._models:
                self._own.append(self._load(name))
                self._models[name] = self._own[-1]
            return self._models[name]

    def hush(self) -> None:
        """Ask no endpoint any more: whoever waits for one mustn't keep a stop waiting."""
        with self._lock:
            for name, model in self._models.items():
                if is_remote(name) and any(each is model for each in self._own):
                    next(each for each in self._own if each is model).close()

    def close(self) -> None:
        """Close those that were loaded here."""
        for each in self._own:
            each.close()
