"""Which files there are below a folder, and whether all of it could be seen."""

from __future__ import annotations

import errno
import os
import stat as modes
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from likewise.base.errors import RootMissing
from likewise.sources.globs import Matches, matcher
from likewise.sources.readers.names import kind_of
from likewise.sources.stats import Stat, stat_of

_SKIPPED_FOLDERS = frozenset(
    ("node_modules", "__pycache__", "lost+found", "$RECYCLE.BIN", "System Volume Information")
)
_LEAVINGS = (".swp", ".swo", ".swx", ".tmp", ".temp", ".crdownload", ".part", ".partial", "~")
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something below the folder that was left out and that a user should hear of."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file that was found, at one scan."""

    files: Mapping[str, Stat]
    """By path: relative to the root, with `/`, in NFC."""
    complete: bool
    """Whether every folder was read; a file that is missing otherwise may well be there."""
    problems: tuple[Problem, ...] = ()
    on_disk: Mapping[str, str] = field(default_factory=dict)
    """Where the file system writes a path otherwise than in NFC: what it writes."""

    def path_on_disk(self, path: str) -> str:
        """How to open the file that is listed as `path`, relative to the root."""
        return self.on_disk.get(path, path)


def walk(root: str, patterns: Sequence[str] = (), *, excludes: Sequence[str] = ()) -> Listing:
    """Every regular file below `root` that matches.

    Hidden files and folders, what editors and downloads leave behind, and folders of packages and
    caches are passed over. Links are followed to what is inside the root. A folder is listed
    once, by its own path: a link to it shows nothing new, and loops end.

    Args:
        root: the folder.
        patterns: see `globs.matcher`; none means every file that a reader knows by its name.
        excludes: patterns for what is left out, files and whole folders.

    Raises:
        RootMissing: the root isn't there, isn't a folder or can't be listed.
        SettingsError: a pattern can't be used.
    """
    wanted = matcher(patterns) if patterns else kind_of
    return _Walk(root, wanted, matcher(excludes) if excludes else None).listing()


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is never looked at."""
    return (
        name.startswith((".", "~$"))
        or name in _SKIPPED_FOLDERS
        or name == "4913"  # Vim tries with it whether it may write into the folder.
        or name.lower().endswith(_LEAVINGS)
        or (name.startswith("#") and name.endswith("#"))
    )


class _Walk:
    """One walk; folders wait in a list, links to folders until all others have been seen."""

    def __init__(self, root: str, wanted: Matches, excluded: Matches | None) -> None:
        self.root = root
        self.wanted = wanted
        self.excluded = excluded
        self.files: dict[str, Stat] = {}
        self.on_disk: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.complete = True
        self.seen: set[tuple[int, int]] = set()
        self.folders: list[str] = [""]
        """Relative, as the file system writes them, with a `/` at the end unless it's the root."""
        self.links: list[str] = []

    def listing(self) -> Listing:
        """The whole walk."""
        first = self._root_id()
        self.real_root = os.path.join(os.path.realpath(self.root), "")
        while self.folders or self.links:
            if self.folders:
                self._folder(self.folders.pop())
            else:
                self.links.sort(reverse=True)
                self.folders.append(self.links.pop())
        if self._root_id() != first:
            self.complete = False
            self.problems.append(Problem("", "the folder was replaced during the scan"))
        return Listing(
            dict(sorted(self.files.items())),
            self.complete,
            tuple(sorted(self.problems, key=lambda problem: problem.path)),
            self.on_disk,
        )

    def _root_id(self) -> tuple[int, int]:
        try:
            status = os.stat(self.root)
            with os.scandir(self.root):
                pass
        except OSError as wrong:
            raise RootMissing(
                f"{self.root}: the folder can't be listed ({wrong.strerror}); mount it or mend its "
                "path or permissions. Until then nothing that was read of it is taken to be deleted"
            ) from wrong
        return status.st_dev, status.st_ino

    def _folder(self, prefix: str) -> None:
        """List one folder."""
        place = self.root + "/" + prefix
        try:
            status = os.stat(place)
            name = (status.st_dev, status.st_ino)
            if name in self.seen:
                return
            self.seen.add(name)
            with os.scandir(place) as entries:
                vanished = [entry.name for entry in entries if not self._entry(prefix, entry)]
            if vanished and not _is_same(place, name):
                self._incomplete(prefix, "vanished during the scan")
        except OSError as wrong:
            self._incomplete(prefix, f"the folder can't be listed ({wrong.strerror})")

    def _entry(self, prefix: str, entry: os.DirEntry[str]) -> bool:
        """Take one entry in; False when it was gone before it could be looked at."""
        name = entry.name
        if is_passed_over(name):
            return True
        path = prefix + name
        if not path.isascii() and not self._is_utf8(path):
            return True
        try:
            if entry.is_symlink():
                self._link(path)
            elif entry.is_dir(follow_symlinks=False):
                if not self._is_excluded(path):
                    self.folders.append(path + "/")
            elif self._is_asked(path):
                status = entry.stat(follow_symlinks=False)
                if modes.S_ISREG(status.st_mode):
                    self._file(path, stat_of(status))
        except FileNotFoundError:
            return False
        except OSError as wrong:
            self._incomplete(path, f"can't be looked at ({wrong.strerror})")
        return True

    def _link(self, path: str) -> None:
        """A link to a file is the file it leads to; one to a folder waits."""
        if self._is_excluded(path):
            return
        target = os.path.realpath(self.root + "/" + path)
        try:
            status = os.stat(target)
        except OSError as wrong:
            if wrong.errno not in _NOWHERE:
                self._incomplete(path, f"can't be followed ({wrong.strerror})")
            elif self._is_asked(path):
                self.problems.append(Problem(path, f"leads nowhere ({wrong.strerror})"))
            return
        is_folder = modes.S_ISDIR(status.st_mode)
        if not is_folder and not (modes.S_ISREG(status.st_mode) and self._is_asked(path)):
            return
        if not os.path.join(target, "").startswith(self.real_root):
            self.problems.append(Problem(path, "leads out of the folder; it isn't followed"))
        elif is_folder:
            self.links.append(path + "/")
        else:
            self._file(path, stat_of(status))

    def _file(self, path: str, stat: Stat) -> None:
        key = path if path.isascii() else unicodedata.normalize("NFC", path)
        if key in self.files:
            taken = self.on_disk.get(key, key)
            # The order of a listing is chance; which of the two is taken isn't.
            kept, other = sorted((taken, path), key=lambda each: (each != key, each))
            self.problems.append(
                Problem(other, "has the same name as another file once it is in Unicode's NFC")
            )
            if kept == taken:
                return
        self.files[key] = stat
        self.on_disk.pop(key, None)
        if path != key:
            self.on_disk[key] = path

    def _is_asked(self, path: str) -> bool:
        shown = path if path.isascii() else unicodedata.normalize("NFC", path)
        return bool(self.wanted(shown)) and not self._is_excluded(shown)

    def _is_excluded(self, path: str) -> bool:
        if self.excluded is None:
            return False
        shown = path if path.isascii() else unicodedata.normalize("NFC", path)
        return bool(self.excluded(shown))

    def _is_utf8(self, path: str) -> bool:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            self.problems.append(Problem(shown, "its name isn't UTF-8; rename it"))
            return False
        return True

    def _incomplete(self, path: str, reason: str) -> None:
        self.complete = False
        self.problems.append(Problem(path.rstrip("/") or ".", reason))


def _is_same(place: str, name: tuple[int, int]) -> bool:
    status = os.stat(place)
    return (status.st_dev, status.st_ino) == name
