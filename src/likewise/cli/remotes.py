"""Endpoints of remote models, each once by its address: bindings that use one share its limits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from likewise.cli import resolve
from likewise.client.names import embedder_of, endpoint_at

if TYPE_CHECKING:
    from likewise.client.embedder import RemoteEmbedder
    from likewise.client.endpoint import Endpoint


class Remotes:
    """Who uses which endpoint. Safe to use from several threads; `close` it when done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._users: dict[str, set[str]] = {}

    def bound(self, name: str, user: str) -> RemoteEmbedder:
        """The remote model at the address `name`, which is asked now what it is.

        Raises:
            SettingsError: it isn't an address.
            MissingExtra: what speaks HTTP isn't installed.
            LikewiseError: the endpoint can't be asked, or doesn't have that model.
        """
        with self._lock:
            endpoint = self._endpoints.get(name)
            if endpoint is None:
                endpoint = self._endpoints[name] = endpoint_at(name, resolve.remote_key)
            self._users.setdefault(name, set()).add(user)
        # Each time: what answered there before may have become another model.
        return embedder_of(endpoint)

    def unbound(self, name: str, user: str) -> None:
        """`user` doesn't use the model at `name` any more; the last one closes its connections."""
        with self._lock:
            users = self._users.get(name, set())
            users.discard(user)
            endpoint = None if users else self._endpoints.pop(name, None)
        if endpoint is not None:
            endpoint.close()

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            endpoints = list(self._endpoints.values())
            self._endpoints.clear()
        for each in endpoints:
            each.close()
