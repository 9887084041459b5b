"""Folders of the user's own: what a path or `NAME=PATH` means, and how its model is called."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from likewise.models import shelf
from likewise.models.hub_cache import repository_of, snapshot_in

MARKS = ("modules.json", "config.json")
"""A folder with one of these is a model's."""

# Not the address of a remote model: its options behind the '?' have such a sign too.
_NAMED = re.compile(r"(?P<name>[\w][\w.:/+-]*)=(?P<source>.+)", re.DOTALL)


def split_name(asked: str) -> tuple[str | None, str]:
    """The name and the model of `NAME=MODEL`; None and all of it where no name is given."""
    found = _NAMED.fullmatch(asked)
    if found is None or is_model_folder(Path(asked).expanduser()):
        return None, asked
    return found["name"], found["source"]


def ways_to(asked: str) -> tuple[str, ...]:
    """What the model of `asked` may be asked for as, beside its name: as it is written, in full."""
    source = split_name(asked)[1]
    if not source.startswith((".", "/", "~")):
        return (source,)
    return (source, os.path.abspath(Path(source).expanduser()))


def is_model_folder(path: Path) -> bool:
    """Whether a model lies in the folder `path`, as far as its files' names tell."""
    try:
        return path.is_dir() and any((path / mark).is_file() for mark in MARKS)
    except OSError:  # a name too long for a path, or a folder that isn't for us
        return False


def folder_at(source: str) -> Path | None:
    """The folder of the model at the path `source`, as it is written; None if none lies there.

    A repository's folder in the Hugging Face cache stands for its newest snapshot.
    """
    if not source:
        return None
    path = Path(source).expanduser()
    if is_model_folder(path):
        return path
    snapshot = snapshot_in(path, None)
    return snapshot if snapshot is not None and is_model_folder(snapshot) else None


def name_of(folder: Path) -> str:
    """What the model in `folder` is called: as its owner called the folder, links and all.

    A snapshot in the Hugging Face cache is called by its repository, and a folder of our own
    cache by its record: the last part of their paths is a commit.
    """
    # Not resolve(), which would follow links.
    path = Path(os.path.abspath(folder))
    repository = repository_of(path)
    if repository is not None:
        return repository
    recorded = shelf.record_in(path)
    if recorded is not None:
        return recorded.name
    return path.name or str(path)


def told_apart(folders: Sequence[Path]) -> Mapping[Path, str]:
    """A name for each of `folders`, longer by what lies above where the last parts are the same."""
    paths = {folder: Path(os.path.abspath(folder)) for folder in folders}
    names = {folder: name_of(folder) for folder in folders}
    for depth in range(2, 2 + max((len(path.parts) for path in paths.values()), default=0)):
        shared = [name for name in names.values() if list(names.values()).count(name) > 1]
        if not shared:
            break
        for folder, name in list(names.items()):
            if name in shared:
                names[folder] = "/".join(paths[folder].parts[-depth:]).lstrip("/")
    return names
