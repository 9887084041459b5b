"""`BindingSpec`: which rows of which table are bound, by which text, under which name."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.base.errors import SettingsError

DEFAULT_CHUNK = "tokens:128/16"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LONGEST_NAME = 63
_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")
_CHUNK = re.compile(r"tokens:(\d{1,6})/(\d{1,6})\Z")


@dataclass(frozen=True, slots=True)
class BindingSpec:
    r"""What `likewise bind add` was told.

    Raises:
        SettingsError: a field can't be right whatever the database holds.
    """

    name: str
    """Lower-case letters, digits and `_`, as it becomes part of table names."""
    source: str
    """`sqlite:PATH`."""
    table: str
    text: str
    r"""Template over the table's columns, such as `{title}\n{body}`."""
    key: tuple[str, ...] = ()
    """Columns that name a row; empty for the table's primary key."""
    model: str = DEFAULT_MODEL
    """The model as the user named it."""
    chunk: str = DEFAULT_CHUNK
    """How long texts are cut: `tokens:SIZE/OVERLAP`."""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or len(self.name) > LONGEST_NAME:
            raise SettingsError(
                f"binding name {self.name!r}: use up to {LONGEST_NAME} lower-case letters, "
                "digits and _, not beginning with a digit",
                param="name",
            )
        scheme, _, rest = self.source.partition(":")
        if scheme != "sqlite" or not rest:
            raise SettingsError(
                f"source {self.source!r} isn't known; write sqlite:PATH", param="source"
            )
        if not self.table:
            raise SettingsError(f"binding {self.name}: no table was named", param="table")
        if self.table.lower().startswith(("likewise_", "sqlite_")):
            raise SettingsError(f"table {self.table!r} isn't an application's", param="table")

        if not _CHUNK.match(self.chunk):
            raise SettingsError(
                f"chunk {self.chunk!r} isn't known; write tokens:SIZE/OVERLAP, such as "
                f"{DEFAULT_CHUNK}",
                param="chunk",
            )

    @property
    def chunk_tokens(self) -> tuple[int, int]:
        """Size and overlap of the passages, in tokens."""
        found = _CHUNK.match(self.chunk)
        if found is None:
            raise AssertionError("checked when it was made; this is a bug")
        return int(found[1]), int(found[2])

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.source.partition(":")[2])

    def to_json(self) -> str:
        """Canonical JSON without `source`: a file keeps its bindings when it is moved."""
        values = dataclasses.asdict(self)
        del values["source"]
        return json.dumps(values, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: str) -> BindingSpec:
        """The spec that `to_json` wrote, found in `source`."""
        values: dict[str, Any] = json.loads(text)
        return cls(source=source, **{**values, "key": tuple(values["key"])})
