"""The models of a server: settings become a registry, with what is loaded at the start."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.errors import AdminError, ModelNotFound, SettingsError
from likewise.base.names import resolve
from likewise.base.spec import DEFAULT_MODEL
from likewise.cli import loading, output
from likewise.cli.remotes import Remotes
from likewise.client.names import is_remote
from likewise.models.own import folder_at, split_name, told_apart
from likewise.models.short_names import full_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from likewise.base.protocols import BoundModel
    from likewise.cli.resolve import Keeping, Place
    from likewise.runtime.cache import VectorCache
    from likewise.runtime.registry import Registry

Aliases = tuple[tuple[str, str], ...]
"""Each with the name of the model that it stands for."""
CACHES = {
    "memory": "likewise.runtime.cache:MemoryCache",
    "file": "likewise.runtime.cache_file:SqliteCache",
}
"""Where vectors may be kept; a path means `file`."""


@contextlib.contextmanager
def opened(place: Place, keeping: Keeping) -> Iterator[Catalogued]:
    """The models of a server, none of them yet; closed with the block."""
    from likewise.runtime.making import Options
    from likewise.runtime.registry import Registry

    tell_of_leftovers(place.cache)
    with contextlib.ExitStack() as cleanup:
        kept = vector_cache(keeping.vector_cache, keeping.vector_cache_bytes)
        if kept is not None:
            cleanup.callback(kept.close)
        registry = Registry(
            Options(
                cache=place.cache,
                offline=place.offline,
                precision=place.precision,
                threads=place.threads,
                engine=place.engine,
                overrides=place.overrides,
                keep_alive_s=keeping.keep_alive_s,
                memory_budget=keeping.memory_budget,
                default=keeping.default_model,
                kept=kept,
                hub_answer_s=place.hub_answer_s,
            )
        )
        cleanup.callback(registry.close)
        yield Catalogued(registry, place, keeping, cleanup)


def tell_of_leftovers(cache: Path) -> None:
    """Remove what killed processes left in the cache, and say what was freed."""
    from likewise.models.leftovers import sweep

    freed = sweep(cache)
    if freed.count:
        what = "copy" if freed.count == 1 else "copies"
        output.note(
            f"removed {freed.count} {what} that a killed process left in {cache}: "
            f"{freed.size_bytes / 2**20:,.0f} MiB freed"
        )


def vector_cache(setting: str, most_bytes: int) -> VectorCache | None:
    """What keeps vectors: nothing for `off`, else memory or the SQLite file at that path.

    A file that can't be used keeps nothing and is left as it is; the log says so.
    """
    if setting == "off":
        return None
    if setting == "memory":
        made: VectorCache = resolve("memory", CACHES, what="vector cache")(most_bytes)
        return made
    made = resolve("file", CACHES, what="vector cache")(Path(setting), most_bytes)
    return made


class Catalogued:
    """A registry, and who puts models into it before the first request."""

    def __init__(
        self, registry: Registry, place: Place, keeping: Keeping, cleanup: contextlib.ExitStack
    ) -> None:
        """What has to be stopped goes to `cleanup`."""
        self.registry = registry
        self._place = place
        self._keeping = keeping
        self._cleanup = cleanup
        self._folders: dict[str, Path | None] = {}
        self._names: dict[str, str] = {}
        """What models in folders are called, by what was asked for, where that was settled."""
        self._asked: dict[str, str] = {}
        """Full names, by those that bindings use."""
        self._served: set[str] = set()
        self._remotes = Remotes()
        cleanup.callback(self._remotes.close)

    def expect(self, names: Iterable[str]) -> None:
        """Settle what the models in folders among `names` are called, before any is loaded.

        Two folders of one last name are told apart by what lies above them.
        """
        paths: dict[str, Path] = {}
        for name in names:
            called, source = split_name(name)
            if not is_remote(name) and called is None and folder_at(source) is not None:
                paths[name] = Path(os.path.abspath(Path(source).expanduser()))
        settled = told_apart(list(dict.fromkeys(paths.values())))
        self._names |= {name: settled[path] for name, path in paths.items()}

    def bound(self, name: str, binding: str) -> BoundModel:
        """The model called `name`, loaded and kept, because `binding` uses it.

        A remote one isn't in the registry: it is for bindings, not to be served on.

        Raises:
            ModelError: it can't be found or isn't supported.
            LikewiseError: it can't be loaded, or its endpoint can't be asked.
        """
        if is_remote(name):
            return self._remotes.bound(name, binding)
        from likewise.runtime.standing import Standing

        full = self._asked[name] = self._add(name)
        # Pinned once it is there: what must be there and isn't keeps a server from being ready.
        with self.registry.load(full).result():
            self.registry.pin(full, binding)
        return Standing(self.registry, full)

    def hush(self) -> None:
        """Ask no endpoint any more: whoever waits for one mustn't keep a stop waiting."""
        self._remotes.close()

    def unbound(self, name: str, binding: str) -> None:
        """`binding` doesn't use the model called `name` any more.

        It is unloaded unless another binding uses it, or it is to be served in any case.
        """
        if is_remote(name):
            self._remotes.unbound(name, binding)
        full = self._asked.get(name)
        if full is None:
            return
        self.registry.unpin(full, binding)
        if full not in self._served:
            # Refused where another binding uses it, or it is being loaded just now.
            with contextlib.suppress(AdminError):
                self.registry.unload(full)

    def serve(self, name: str | None) -> None:
        """Have the model called `name`, the default one when None; loaded unless that may wait.

        Raises:
            ModelError: it can't be found or isn't supported.
            LikewiseError: it can't be loaded.
        """
        if self._keeping.is_lazy:
            self._served.add(self._add_unseen(name or DEFAULT_MODEL))
        else:
            full = self._add(name or DEFAULT_MODEL)
            self._served.add(full)
            self._load(full)

    def serve_no_more(self, name: str) -> None:
        """Take the model called `name` off the list; who holds it goes on.

        Raises:
            ModelNotFound: it isn't served.
            AdminError: it is being loaded, or a binding uses it.
        """
        full = self.registry.resolve(self._meant(name))
        self.registry.drop(full)
        self._served.discard(full)
        self._folders.pop(full, None)

    def rename(self, old: Aliases, new: Aliases) -> None:
        """Have the aliases `new` in place of `old`.

        Raises:
            ModelNotFound: one stands for no model that is served; those before it are set.
            AdminError: one is a model's own name.
        """
        for alias, name in new:
            if (alias, name) not in old:
                self.registry.alias(alias, self._meant(name))
        for alias, _ in old:
            if alias not in dict(new):
                self.registry.alias(alias, None)

    def keep(self, keep_alive_s: float) -> None:
        """Keep models for so long, from their next use on."""
        self.registry.options = replace(self.registry.options, keep_alive_s=keep_alive_s)

    def prefer(self, name: str | None) -> None:
        """Let `name` be the model of requests that name none.

        Raises:
            ModelNotFound: it isn't served.
        """
        if name is not None:
            self.registry.resolve(name)
        self.registry.options = replace(self.registry.options, default=name)

    def start(self) -> None:
        """Watch the folder, set the aliases; all models are named by now.

        Raises:
            SettingsError: an alias or the default stands for no model that is served.
        """
        keeping, registry = self._keeping, self.registry
        if keeping.models_dir is not None:
            from likewise.runtime.watch import Watch

            _require_models(keeping.models_dir)
            watch = Watch(registry, keeping.models_dir, every_s=keeping.models_dir_every_s)
            self._cleanup.callback(watch.stop)
            watch.start()
        with _in_settings("aliases"):
            for alias, name in keeping.aliases:
                registry.alias(alias, self._meant(name))
        with _in_settings("default_model"):
            if keeping.default_model is not None:
                registry.resolve(None)

    def _meant(self, name: str) -> str:
        """The full name of the model in the folder `name`; `name` itself where it is no folder."""
        folder = folder_at(split_name(name)[1])
        if folder is None or name in self._folders:
            return name
        wanted = folder.resolve()
        full = [full for full, there in self._folders.items() if there == wanted]
        return full[0] if full else name

    def _load(self, full: str) -> None:
        # It is only to be there: nobody holds it.
        self.registry.load(full).result().__exit__(None, None, None)

    def _add(self, name: str) -> str:
        located = loading.find(name, self._place)
        full = self._names.get(name, located.name)
        return self._enter(full, name, located.folder)

    def _add_unseen(self, name: str) -> str:
        """Take it into the list; only what may still be fetched needn't be here."""
        from likewise.models.locate import locate, named

        loading.require_local(name)
        full, folder = named(name), None
        try:
            folder = locate(name, cache=self._place.cache, offline=True).folder
        except ModelNotFound:
            if self._place.offline or "/" not in full_name(split_name(name)[1]):
                raise
        return self._enter(self._names.get(name, full), name, folder)

    def _enter(self, full: str, name: str, folder: Path | None) -> str:
        """One model may be asked for by several names; two models can't have one."""
        from likewise.runtime.making import Wanted

        full = self._free(full, name, folder)
        if self._folders.setdefault(full, folder) != folder:
            raise SettingsError(
                f"two models are called {full!r}: in {self._folders[full]} and in {folder}; give "
                f"one another name: NAME={split_name(name)[1]}",
                param="model",
            )
        if full not in {view.name for view in self.registry.models()}:
            self.registry.add(full, Wanted(name))
        return full

    def _free(self, full: str, name: str, folder: Path | None) -> str:
        """`full`; longer by what lies above the folder where another has that name already."""
        called, source = split_name(name)
        if called is not None or folder_at(source) is None:
            return full
        parts = Path(os.path.abspath(Path(source).expanduser())).parts
        longer = ("/".join(parts[-depth:]).lstrip("/") for depth in range(2, len(parts) + 1))
        for candidate in (full, *longer):
            if self._folders.get(candidate, folder) == folder:
                return candidate
        return full


def _require_models(folder: Path) -> None:
    """Raise `SettingsError` if `folder` is none, or is one of models in a form not read here."""
    from likewise.models import gguf
    from likewise.models.locate import is_model_folder

    if not folder.is_dir():
        raise SettingsError(f"{folder} isn't a folder", param="models_dir")
    said = gguf.explained(folder)
    if said is not None and not any(map(is_model_folder, folder.iterdir())):
        raise SettingsError(said, param="models_dir")


@contextlib.contextmanager
def _in_settings(key: str) -> Iterator[None]:
    try:
        yield
    except (ModelNotFound, AdminError) as wrong:
        raise SettingsError(f"server.{key}: {wrong}", param=key) from wrong
