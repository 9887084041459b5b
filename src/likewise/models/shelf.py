"""The model cache on disk: its layout, the record beside each model, and what makes it trusted.

A model lies in `<cache>/models/<org>--<name>/<revision>/`. It gets there by one rename of a folder
that was filled and checked under another name, so whatever has the final name is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from likewise.base.clock import wall
from likewise.base.errors import ModelCorrupt, SettingsError

RECORD = "likewise.json"
"""The file inside a cached model that says what it is and what its files were."""


@dataclass(frozen=True, slots=True)
class FileFact:
    """What a file was when it was checked."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """What the cache knows about one model in it."""

    name: str
    origin: str
    revision: str
    """The commit that was fetched, or the wheel."""
    asked: str | None
    """The branch, tag or commit that was asked for; None when none was."""
    licence: str | None
    fetched_at: float
    files: Mapping[str, FileFact]

    @property
    def size_bytes(self) -> int:
        """What the model's files take on disk."""
        return sum(fact.size for fact in self.files.values())


@dataclass(frozen=True, slots=True)
class Shelved:
    """A model in the cache."""

    folder: Path
    record: Record


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def models_folder(cache: Path) -> Path:
    """Where models lie under a cache folder."""
    return cache / "models"


def shelved(cache: Path, name: str | None = None) -> list[Shelved]:
    """Models in the cache, newest first: all of them, or those called `name`."""
    slug = _slug(name) if name else "*"
    found = []
    for path in models_folder(cache).glob(f"{slug}/*/{RECORD}"):
        record = _read_record(path)
        if name is None or record.name == name:
            found.append(Shelved(path.parent, record))
    return sorted(found, key=lambda each: (-each.record.fetched_at, str(each.folder)))


def record_in(folder: Path) -> Record | None:
    """The record of the model in `folder`, if that lies where a cache of ours keeps it."""
    try:
        record = _read_record(folder / RECORD)
    except ModelCorrupt:
        return None
    is_ours = (folder.parent.name, folder.name) == (_slug(record.name), record.revision)
    return record if is_ours else None


def names(cache: Path) -> list[str]:
    """What the models in the cache are called, by their folders' names; no record is read."""
    return [_named(path.name) for path in models_folder(cache).glob("[!.]*--*") if path.is_dir()]


def check(folder: Path, record: Record, *, deep: bool = False) -> None:
    """Raise `ModelCorrupt` if a file isn't what was put there.

    Files whose size and modification time are as recorded are believed, so that starting up costs
    no reading; `deep` reads and compares every one.
    """
    for name, fact in record.files.items():
        path = folder / name
        try:
            stat = path.stat()
        except OSError as gone:
            raise ModelCorrupt(
                f"{path} is gone from the model cache ({gone.strerror}). {_cure(folder)}"
            ) from gone
        if not deep and (stat.st_size, stat.st_mtime_ns) == (fact.size, fact.mtime_ns):
            continue
        digest = sha256_of(path)
        if digest != fact.sha256:
            raise ModelCorrupt(
                f"{path} has changed since it was fetched: its sha256 is {digest}, "
                f"it was {fact.sha256}. {_cure(folder)}"
            )


@contextlib.contextmanager
def staging(cache: Path, name: str) -> Iterator[Path]:
    """An empty folder to download `name` into, for one process at a time; gone afterwards.

    Waits while another process fetches the same model. What an interrupted download left behind
    is removed: we hold the lock, so nobody is using it.

    Raises:
        SettingsError: the cache can't be written.
    """
    root, slug = models_folder(cache), _slug(name)
    with _locked(root, slug):
        for leftover in root.glob(f".part-{slug}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f".part-{slug}-", dir=root, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)


def put(
    cache: Path,
    filled: Path,
    *,
    name: str,
    origin: str,
    revision: str,
    asked: str | None,
    licence: str | None,
) -> Shelved:
    """Give the model in `filled` (complete and checked, on the same disk) its final name."""
    files = {}
    for path in sorted(filled.rglob("*")):
        if path.is_file():
            _flush(path)
            stat = path.stat()
            files[path.relative_to(filled).as_posix()] = FileFact(
                stat.st_size, stat.st_mtime_ns, sha256_of(path)
            )
    record = Record(name, origin, revision, asked, licence, wall(), files)
    (filled / RECORD).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    _flush(filled / RECORD)
    for folder in (*(path for path in filled.rglob("*") if path.is_dir()), filled):
        _flush(folder)
    target = models_folder(cache) / _slug(name) / revision
    target.parent.mkdir(parents=True, exist_ok=True)
    filled.rename(target)
    _flush(target.parent)
    return Shelved(target, record)


def remove(cache: Path, model: Shelved) -> None:
    """Delete a model; one that is running keeps what it has open.

    Raises:
        SettingsError: the cache can't be written.
    """
    root, slug = models_folder(cache), _slug(model.record.name)
    with _locked(root, slug):
        try:
            # Renamed first: what an interruption leaves behind is never mistaken for a model.
            leaving = Path(tempfile.mkdtemp(prefix=f".part-{slug}-", dir=root))
            model.folder.rename(leaving / "model")
            shutil.rmtree(leaving)
        except OSError as denied:
            raise SettingsError(
                f"can't delete {model.folder} ({denied.strerror})", param="cache"
            ) from denied
        with contextlib.suppress(OSError):
            model.folder.parent.rmdir()  # stays while another revision is in it


@contextlib.contextmanager
def _locked(root: Path, slug: str) -> Iterator[None]:
    """Hold what belongs to one model, for one process at a time."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / f".{slug}.lock").open("w")
    except OSError as denied:
        raise SettingsError(
            f"can't write the model cache {root} ({denied.strerror}); set LIKEWISE_HOME to a "
            f"folder that can be written",
            param="cache",
        ) from denied
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cure(folder: Path) -> str:
    return f"It isn't used. Delete the folder {folder} and run again to fetch a fresh copy."


def _slug(name: str) -> str:
    return name.replace("/", "--")


def _named(slug: str) -> str:
    return slug.replace("--", "/", 1)


def _read_record(path: Path) -> Record:
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileFact(**fact) for name, fact in raw.pop("files").items()}
        return Record(files=files, **raw)
    except (OSError, ValueError, TypeError, KeyError) as broken:
        raise ModelCorrupt(
            f"{path}, the cache's record of a model, can't be read "
            f"({type(broken).__name__}: {broken}). {_cure(path.parent)}"
        ) from broken


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
