"""The models that are served: loaded when asked for, held while used, unloaded when not.

Synchronous and safe to use from several threads; what takes time is handed out as a future.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from likewise.base.clock import monotonic
from likewise.base.errors import AdminError, ModelNotFound
from likewise.models.own import folder_at, split_name, ways_to
from likewise.runtime.entry import Entry, View
from likewise.runtime.keeping import Keeping
from likewise.runtime.making import Loader, Options, Wanted, stopping_progress
from likewise.runtime.naming import resolved, with_short_names
from likewise.runtime.shielded import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from likewise.base.clock import Clock
    from likewise.models.locate import Progress
    from likewise.runtime.entry import Granted


class Registry(Keeping):
    """The catalogue of a server. `close` it when done."""

    def __init__(
        self, options: Options, *, loader: Loader | None = None, clock: Clock = monotonic
    ) -> None:
        """Hold nothing yet; `loader` does what takes time."""
        super().__init__(options, loader or Loader(options), clock)
        self._full_names: tuple[str, ...] = ()
        self._by_name: dict[str, str] = {}
        self.troubles: dict[str, str] = {}
        """What is wrong with folders that should be models, by folder."""

    def models(self) -> Sequence[View]:
        """All of them, in the order that they were named."""
        with self._lock:
            return [self._view(entry) for entry in self._entries.values()]

    def model(self, name: str) -> View:
        """The one called `name`, a full one.

        Raises:
            ModelNotFound: there is none.
        """
        with self._lock:
            return self._view(self._entry(name))

    def _view(self, entry: Entry) -> View:
        default = self.options.keep_alive_s
        return View(
            entry.name,
            tuple(entry.aliases),
            entry.state,
            entry,
            self._clock(),
            default,
            self._loader.located,
            self.options.overrides.of(entry.name, entry.wanted.source),
        )

    def resolve(self, name: str | None) -> str:
        """The full name of the model called `name`; the default or only one's when None.

        Raises:
            ModelNotFound: no such model is served; the message lists which are.
            InputError: None, and several are served.
        """
        wanted = self.options.default if name is None else name
        return resolved(wanted, self._full_names, self._by_name)

    def add(
        self, name: str, wanted: Wanted, aliases: Iterable[str] = (), *, is_trial: bool = False
    ) -> None:
        """Serve the model called `name`, which isn't loaded by that.

        One `is_trial` is forgotten if it can't be loaded.

        Raises:
            AdminError: one of that name is there, wanted otherwise; or an alias is taken.
        """
        with self._lock:
            self._require_open()
            there = self._entries.get(name)
            if there is not None and there.wanted != wanted:
                raise AdminError(
                    f"the model {name!r} is served already, from {there.wanted.source!r} with "
                    f"other settings; remove it first, or give this one a name of its own: "
                    f"NAME={wanted.source}",
                    param="model",
                )
            for alias in aliases:
                self._require_free(alias, name)
            if there is None:
                there = self._entries[name] = Entry(name, wanted, is_trial=is_trial)
            there.aliases += [alias for alias in aliases if alias not in there.aliases]
            self._rename()

    def want(self, name: str, wanted: Wanted) -> None:
        """Let it be run and kept so from now on.

        Raises:
            ModelNotFound: there is none.
            AdminError: it is loaded, and would have to be run otherwise.
        """
        with self._lock:
            entry = self._entry(name)
            runs = (entry.wanted.precision, entry.wanted.engine)
            is_there = entry.generation is not None or entry.is_busy
            if is_there and runs != (wanted.precision, wanted.engine):
                raise AdminError(
                    f"{name} is loaded, in another precision or by another engine; unload it first",
                    param="model",
                )
            entry.wanted = wanted
            if entry.generation is not None:
                self._keep_as_set(entry, entry.generation)

    def alias(self, alias: str, name: str | None) -> None:
        """Let `alias` stand for the model called `name`, or for nothing when None.

        It may stand for another one from now on than it did before.

        Raises:
            ModelNotFound: no model is called so.
            AdminError: `alias` is a model's own name.
        """
        with self._lock:
            full = None if name is None else self.resolve(name)
            if alias in self._entries:
                raise AdminError(f"{alias!r} is a model's own name", param="alias")
            had = [entry for entry in self._entries.values() if alias in entry.aliases]
            if full is None and not had:
                raise ModelNotFound(f"there is no alias {alias!r}", param="alias")
            for entry in had:
                entry.aliases.remove(alias)
            if full is not None:
                self._entries[full].aliases.append(alias)
            self._rename()

    def pin(self, name: str, binding: str) -> None:
        """Keep it loaded, and in its space, because `binding` uses it."""
        with self._lock:
            bound = self._entry(name).bound
            if binding not in bound:
                bound.append(binding)

    def unpin(self, name: str, binding: str) -> None:
        """`binding` doesn't use it any more."""
        with self._lock:
            bound = self._entry(name).bound
            if binding in bound:
                bound.remove(binding)

    def load(self, name: str, *, keep_alive_s: float | None = None) -> Granted:
        """As `lease`, for those who want it tried at once, whatever happened before."""
        with self._lock:
            entry = self._entry(name)
            if not entry.is_busy:
                entry.failure = None
            return self.lease(name, keep_alive_s=keep_alive_s)

    def forgive(self, name: str) -> None:
        """Forget that it couldn't be loaded: the next request tries at once."""
        with self._lock:
            self._entry(name).failure = None

    def unload(self, name: str, *, reason: str = "asked") -> Future[bool]:
        """Let it go once nobody holds it; done when it is closed. False if it wasn't loaded.

        Raises:
            ModelNotFound: there is none.
            AdminError: it is being loaded, or must stay.
        """
        with self._lock:
            entry = self._entry(name)
            self._require_may_go(entry)
            entry.failure = None
            generation = entry.generation
            if generation is None:
                was_not: Future[bool] = Future()
                was_not.set_result(False)
                return was_not
            self._retire(entry, reason)
            return shielded(generation.ended, lambda _: True)

    def drop(self, name: str, *, reason: str = "gone") -> None:
        """Serve it no more; who holds it goes on.

        Raises:
            ModelNotFound: there is none.
            AdminError: it is being loaded, or must stay.
        """
        with self._lock:
            entry = self._entry(name)
            self._require_may_go(entry)
            self._forget(entry, reason)

    def fetch(self, name: str, *, progress: Progress | None = None) -> str:
        """Fetch the model called `name` into the cache and serve it; gives its full name.

        Waits for the download. Nothing is loaded by it.

        Raises:
            ModelError: no place has it, or what was found is damaged.
            AdminError: another model of that name is served.
        """
        self._require_open()
        wanted = Wanted(name)
        located = self._loader.locate(wanted, stopping_progress(self._is_closing.is_set, progress))
        if located.name not in self._entries:
            self.add(located.name, wanted)
        return located.name

    def remove(self, name: str) -> None:
        """Serve the model called `name` no more, and delete it from the cache.

        Who holds it goes on.

        Raises:
            ModelNotFound: none is called so.
            AdminError: it is being loaded, must stay, or lies in a folder of the user's own.
        """
        from likewise.models.locate import cached_models, remove_models

        with self._lock:
            entry = self._entry(self.resolve(name))
            self._require_may_go(entry)
            if _lies_in_own_folder(entry.wanted):
                raise AdminError(
                    f"{entry.name} lies in a folder of your own, {entry.wanted.source}, which is "
                    f"never deleted; unload it instead",
                    param="model",
                )
        located = self._loader.located(entry.wanted)
        if located is not None and located.origin == "hub-cache":
            raise AdminError(
                f"{entry.name} lies in the Hugging Face cache, {located.folder}, which is other "
                f"programs' too and is never deleted from here; unload it instead",
                param="model",
            )
        cached = cached_models(entry.wanted.source, cache=self.options.cache)
        self.drop(entry.name, reason="removed")
        remove_models(cached, cache=self.options.cache)

    def reload(self, name: str) -> Future[dict[str, Any]]:
        """Load it anew beside what is there, and give out the new one once it works.

        What is held goes on and is closed when it is given back. The result says `seconds`,
        `generation`, and whether the `space` of its vectors changed. If the new one doesn't work,
        the old one stays. One that isn't loaded is loaded.

        Raises:
            ModelNotFound: there is none.
            AdminError: it is being loaded already; in the future, too, if bindings use it and
                its vectors would be of another space.
        """
        outcome: Future[Mapping[str, Any]] = Future()
        with self._lock:
            entry = self._entry(name)
            self._require_open()
            if entry.is_busy:
                raise AdminError(f"{name} is being loaded just now; try again", param="model")
            entry.is_busy = True
            self._jobs.submit(self._renew, entry, outcome)
        return shielded(outcome, dict)

    def _require_may_go(self, entry: Entry) -> None:
        if entry.is_busy:
            raise AdminError(f"{entry.name} is being loaded just now; try again", param="model")
        if entry.is_pinned:
            by = f"the binding {', '.join(entry.bound)}" if entry.bound else "its settings"
            raise AdminError(f"{entry.name} must stay: it is pinned by {by}", param="model")

    def _require_free(self, alias: str, name: str) -> None:
        """A short name that nobody chose may be taken; a full name and another's alias may not."""
        for entry in self._entries.values():
            if alias == entry.name or (alias in entry.aliases and entry.name != name):
                raise AdminError(f"{alias!r} stands for {entry.name} already", param="aliases")

    def _rename(self) -> None:
        """An alias goes before a short name, a full name before both; last is what was asked for.

        That is often a path, which clients of other servers have as the model's name.
        """
        self._full_names = tuple(self._entries)
        names: dict[str, str] = {}
        for entry in self._entries.values():
            names |= dict.fromkeys(ways_to(entry.wanted.source), entry.name)
        names |= with_short_names(self._full_names)
        for entry in self._entries.values():
            names |= dict.fromkeys(entry.aliases, entry.name)
        self._by_name = names | {name: name for name in self._full_names}

    def _forgotten(self) -> None:
        self._rename()


def _lies_in_own_folder(wanted: Wanted) -> bool:
    return wanted.is_watched or folder_at(split_name(wanted.source)[1]) is not None
