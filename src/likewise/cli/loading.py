"""A model's name becomes a loaded model: found or fetched with a bar, then made ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    from likewise.cli.resolve import Place
    from likewise.models.locate import Located
    from likewise.runtime.service import Service


def find(name: str | None, place: Place, *, revision: str | None = None) -> Located:
    """The model called `name`, the default one when None; fetched when it isn't here.

    Raises:
        ModelNotFound: no place has it.
    """
    from likewise.models import locate

    wanted = name or locate.DEFAULT_MODEL
    with output.bar(f"fetching {wanted}", unit="bytes") as show:
        return locate.locate(
            wanted,
            cache=place.cache,
            offline=place.offline,
            revision=revision,
            progress=lambda got: show(got.done_bytes, got.total_bytes),
        )


class Models:
    """Models loaded in this process, each once however often it is asked for."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._by_folder: dict[Path, Service] = {}
        self._by_asked: dict[str | None, Service] = {}
        self.services: dict[str, Service] = {}

    def get(self, name: str | None) -> Service:
        """The model called `name`, the default one when None, ready to run.

        Raises:
            ModelNotFound: no place has it.
            ModelUnsupported: it asks for what isn't computed here.
            ModelCorrupt: its files are damaged.
        """
        if name not in self._by_asked:
            located = find(name, self._place)
            if located.folder not in self._by_folder:
                self._by_folder[located.folder] = self._load(located)
            self._by_asked[name] = self._by_folder[located.folder]
        return self._by_asked[name]

    def close(self) -> None:
        """Stop them all."""
        for service in self.services.values():
            service.close()

    def _load(self, located: Located) -> Service:
        from likewise.runtime import service

        loaded = service.load(
            located.folder,
            name=located.name,
            precision=self._place.precision,
            threads=self._place.threads,
            engine=self._place.engine,
            cache=self._place.cache,
        )
        self.services[located.name] = loaded
        return loaded
