"""A folder of files as a source: scanned, with what was seen remembered, and watched for hints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic, wall
from likewise.base.errors import RootMissing
from likewise.base.log import fields, logger
from likewise.base.spec import FILE_KEY
from likewise.base.types import Difference, Key, Row, Shape
from likewise.sources.folder import ROW_KINDS, FileRows, Folder
from likewise.sources.globs import matcher
from likewise.sources.marks import decode, encode, mark_of, unchanged
from likewise.sources.notices import Notices
from likewise.sources.readers.names import kind_of
from likewise.sources.walk import Listing, walk
from likewise.sources.ways import Compared
from likewise.sources.whole import Torn
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.base.bound import Seen
    from likewise.base.spec import BindingSpec

EVERY_SECONDS = 30.0
"""How often a folder is scanned although nothing was noticed."""
PAGE = 200
_log = logger("sources.files")


class FilesSource(Compared):
    """Rows of the files below `spec.path`. Safe to use from several threads.

    A file that is gone counts as deleted once a whole scan says so, and only while its folder is
    there; that many are gone at once is doubted (`doubts_deletes`).
    """

    doubts_deletes = True

    def __init__(
        self,
        spec: BindingSpec,
        *,
        generation: int = 1,
        clock: Clock = monotonic,
        wall_clock: Clock = wall,
    ) -> None:
        self.spec = spec
        self.generation = generation
        self._root = str(spec.path)
        patterns = [part.strip() for part in spec.glob.split(",") if part.strip()]
        self._patterns = tuple(part for part in patterns if not part.startswith("!"))
        self._excludes = tuple(part[1:] for part in patterns if part.startswith("!"))
        self._folder = Folder(self._root, Template(spec.text), spec.row_key)
        self._notices = Notices(self._root)
        self._clock = clock
        self._wall = wall_clock
        self._every = spec.every or EVERY_SECONDS
        self._told: set[str] = set()
        self._doubted: dict[str, bytes] = {}
        self._on_disk: Mapping[str, str] = {}
        self._counted: tuple[object, int] | None = None

    def resolve(self) -> Shape:
        """What names a row: the file, and the row in it.

        Raises:
            RootMissing: the folder can't be listed.
        """
        self._listing()
        return Shape("", FILE_KEY, ("text", "text"))

    def attach(self) -> bool:
        """Nothing is installed; that the folder is there is made sure of.

        Raises:
            RootMissing: it isn't.
        """
        self._require_root()
        return False

    def differences(self, seen: Seen) -> Iterator[list[Difference]]:
        """Files that aren't as they were seen, with the rows in them that came, changed or went.

        Raises:
            RootMissing: the folder can't be listed; nothing counts as gone.
        """
        started = int(self._wall() * 1e9)
        marks = seen.marks()
        listing = self._listing()
        page: list[Difference] = []
        for path, stat in listing.files.items():
            mark = decode(marks.get(path, b""))
            if mark is None or not unchanged(mark, stat, started):
                found = self._looked(path, listing, marks.get(path), seen)
                if found is not None:
                    page.append(found)
            if len(page) >= PAGE:
                yield page
                page = []
        if page:
            yield page
        if listing.complete:
            yield from self._gone(seen, marks.keys() - listing.files.keys())

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; those of files that are gone are left out.

        Raises:
            RootMissing: a file isn't there, and neither is its folder, or nothing is in it.
        """
        rows: dict[Key, Row] = {}
        files: dict[str, FileRows | Torn] = {}
        for key in keys:
            path = str(key[0])
            if path not in files:
                files[path] = self._read(path)
            found = files[path]
            if isinstance(found, FileRows) and key in found.rows:
                rows[key] = found.rows[key]
        return rows

    def snapshot(self) -> Iterator[Row]:
        """Every row, each file as of some moment.

        Raises:
            RootMissing: a part of the folder can't be seen, said after all that can be.
        """
        listing = self._listing()
        for path in listing.files:
            found = self._folder.read(path, listing.path_on_disk(path))
            if isinstance(found, FileRows):
                yield from found.rows.values()
        if not listing.complete:
            unseen = ", ".join(problem.path for problem in listing.problems[:3])
            raise RootMissing(
                f"{self._root}: a part of the folder can't be seen ({unseen}); nothing that was "
                "read of it is taken to be deleted. Mend its permissions or exclude it"
            )

    def unit_of(self, key: Key) -> str:
        """A file is a unit."""
        return str(key[0])

    def agrees(self, row: Row, mark: bytes) -> bool:
        """Whether the file has the content that is remembered."""
        seen = decode(mark)
        return row.mark == (b"" if seen is None else seen.sha256)

    def count(self) -> int:
        """Rows there are; files are read again where they hold rows and something has changed."""
        stamp = self.stamp()
        if self._counted is None or self._counted[0] != stamp:
            listing = self._listing()
            total = 0
            for path in listing.files:
                if self._folder.wants_rows or kind_of(path) in ROW_KINDS:
                    found = self._folder.read(path, listing.path_on_disk(path))
                    total += len(found.rows) if isinstance(found, FileRows) else 0
                else:
                    total += 1
            self._counted = (stamp, total)
        return self._counted[1]

    def unnamed(self) -> int:
        """Every row has a name."""
        return 0

    def stamp(self) -> object:
        """Differs once something was noticed below the folder, and every so often."""
        return self._notices.count(), int(self._clock() // self._every)

    def close(self) -> None:
        """Stop watching."""
        self._notices.close()

    def _listing(self) -> Listing:
        listing = walk(self._root, self._patterns, excludes=self._excludes)
        self._on_disk = listing.on_disk
        for problem in listing.problems:
            self._tell(f"{problem.path}: {problem.reason}")
        wanted = {path: s for path, s in listing.files.items() if self._folder.is_wanted(path)}
        return Listing(wanted, listing.complete, listing.problems, listing.on_disk)

    def _looked(
        self, path: str, listing: Listing, before: bytes | None, seen: Seen
    ) -> Difference | None:
        """What differs in one file; None when that can't be known yet."""
        began = int(self._wall() * 1e9)
        found = self._folder.read(path, listing.path_on_disk(path))
        if isinstance(found, Torn):
            self._notices.again()
            return None
        for note in found.notes:
            self._tell(f"{path}: {note}")
        mark = b"" if found.stat is None else encode(mark_of(found.stat, found.sha256, began))
        # Compared with what is stored also where the content is the one remembered: in between it
        # may have been another, which a worker saw.
        stored = seen.under(path)
        changed = [key for key, row in found.rows.items() if stored.get(key) != row.fingerprint]
        if found.is_unreadable and before is not None and self._is_first_sight(path, found.sha256):
            # It may be a file that is being saved: what is stored stays until the next look.
            self._notices.again()
            return None
        left = [] if found.is_partial else [key for key in stored if key not in found.rows]
        return (
            Difference(path, mark, (*changed, *left)) if changed or left or mark != before else None
        )

    def _gone(self, seen: Seen, units: set[str]) -> Iterator[list[Difference]]:
        page = []
        for unit in sorted(units):
            if os.path.lexists(os.path.join(self._root, unit)):
                # The listing of a folder can miss what is renamed meanwhile.
                if self._folder.is_wanted(unit) and self._is_asked(unit):
                    continue
            keys = tuple(seen.under(unit)) or ((unit, ""),)
            page.append(Difference(unit, None, keys))
            if len(page) >= PAGE:
                yield page
                page = []
        if page:
            yield page

    def _is_first_sight(self, path: str, digest: bytes) -> bool:
        first = self._doubted.get(path) != digest
        self._doubted[path] = digest
        return first

    def _is_asked(self, path: str) -> bool:
        asked = matcher(self._patterns)(path) if self._patterns else kind_of(path)
        return bool(asked) and not matcher(self._excludes)(path)

    def _read(self, path: str) -> FileRows | Torn:
        found = self._folder.read(path, self._on_disk.get(path, path))
        if isinstance(found, Torn):
            self._require_root()
            if not os.listdir(self._root):
                raise RootMissing(
                    f"{self._root}: the folder is empty and wasn't before; if a disk belongs "
                    "there, mount it"
                )
        return found

    def _require_root(self) -> None:
        if not os.path.isdir(self._root):
            raise RootMissing(
                f"{self._root}: there is no such folder; mount it or mend its path. Until then "
                "nothing that was read of it is taken to be deleted"
            )

    def _tell(self, what: str) -> None:
        """Say it once."""
        if what not in self._told:
            self._told.add(what)
            _log.warning(fields("file", binding=self.spec.name, what=what))
