"""A model's name becomes a loaded model: found or fetched with a bar, then made ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.base.errors import SettingsError
from likewise.cli import output, resolve
from likewise.client.names import connected, is_remote

if TYPE_CHECKING:
    from pathlib import Path

    from likewise.cli.resolve import Place
    from likewise.client.embedder import RemoteEmbedder
    from likewise.models.locate import Located
    from likewise.runtime.service import Service


def find(name: str | None, place: Place, *, revision: str | None = None) -> Located:
    """The model called `name`, the default one when None; fetched when it isn't here.

    Raises:
        ModelNotFound: no place has it.
        SettingsError: it is a remote model.
    """
    from likewise.models import locate

    require_local(name)

    wanted = name or locate.DEFAULT_MODEL
    with output.bar(f"fetching {wanted}", unit="bytes") as show:
        return locate.locate(
            wanted,
            cache=place.cache,
            offline=place.offline,
            revision=revision,
            answer_s=place.hub_answer_s,
            progress=lambda got: show(got.done_bytes, got.total_bytes),
        )


def require_local(name: str | None) -> None:
    """Raise `SettingsError` if `name` is the address of a remote model."""
    if is_remote(name):
        raise SettingsError(
            f"{name} is a remote model: bindings and 'likewise embed' use such models; they are "
            "neither served nor shown, ask the endpoint itself",
            param="model",
        )


class Models:
    """Models loaded in this process, each once however often it is asked for."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._by_folder: dict[Path, Service] = {}
        self._by_asked: dict[str | None, Service] = {}
        self._remote: dict[str, RemoteEmbedder] = {}
        self.services: dict[str, Service] = {}

    def bound(self, name: str) -> Service | RemoteEmbedder:
        """The model called `name`, here or remote, ready for texts.

        Raises:
            LikewiseError: as `get`; or the endpoint can't be asked, or doesn't have that model.
        """
        if not is_remote(name):
            return self.get(name)
        if name not in self._remote:
            self._remote[name] = connected(name, resolve.remote_key)
        return self._remote[name]

    def get(self, name: str | None) -> Service:
        """The model called `name`, the default one when None, ready to run.

        Raises:
            ModelNotFound: no place has it.
            ModelUnsupported: it asks for what isn't computed here.
            ModelCorrupt: its files are damaged.
            SettingsError: it is a remote model.
        """
        if name not in self._by_asked:
            located = find(name, self._place)
            if located.folder not in self._by_folder:
                self._by_folder[located.folder] = self._load(located, name)
            self._by_asked[name] = self._by_folder[located.folder]
        return self._by_asked[name]

    def close(self) -> None:
        """Stop them all."""
        for service in self.services.values():
            service.close()
        for remote in self._remote.values():
            remote.close()

    def _load(self, located: Located, asked: str | None) -> Service:
        from likewise.runtime import service

        loaded = service.load(
            located.folder,
            name=located.name,
            precision=self._place.precision,
            threads=self._place.threads,
            engine=self._place.engine,
            cache=self._place.cache,
            overrides=self._place.overrides.of(located.name, asked or ""),
        )
        self.services[located.name] = loaded
        return loaded
