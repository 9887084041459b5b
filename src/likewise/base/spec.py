"""`BindingSpec`: which rows of which table are bound, by which text, under which name."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from likewise.base.chunking import DEFAULT_CHUNK, parse_chunking
from likewise.base.errors import SettingsError
from likewise.base.escapes import meant

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LONGEST_NAME = 63
LONGEST_SERVER_NAME = 40
"""In Postgres: its identifiers have 63 bytes, and suffixes follow."""
SOURCES = ("sqlite", "postgresql", "duckdb", "files")
DTYPES = ("float32", "float16")
RESERVED = ("meta", "binding", "worker")
"""Tables of ours in the schema in which a binding's view has the binding's name."""
FILE_KEY = ("path", "item")
"""What names a row of a folder: a file's path, and the row's name within it ("" for a document)."""
STORES = ("sqlite", "postgresql", "duckdb")
_POSTGRES = ("postgres://", "postgresql://")
_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class BindingSpec:
    r"""What `likewise bind add` was told.

    Raises:
        SettingsError: a field can't be right whatever the database holds.
    """

    name: str
    """Lower-case letters, digits and `_`, as it becomes part of table names."""
    source: str
    """Where the rows are: `sqlite:PATH`, `duckdb:PATH`, `postgresql://…` or `files:FOLDER`."""
    table: str
    """The table or view; empty with `query`, and for files."""
    text: str
    r"""Template over the columns, such as `{title}\n{body}`, as it is meant: see `as_typed`."""
    key: tuple[str, ...] = ()
    """Columns that name a row; empty for the table's primary key."""
    model: str = DEFAULT_MODEL
    """The model as the user named it."""
    chunk: str = DEFAULT_CHUNK
    """How long texts are cut, such as `tokens:SIZE/OVERLAP`."""
    store: str = ""
    """Where vectors are kept: `sqlite:PATH`, `duckdb:PATH` or `postgresql://…`; empty for the
    source's own database."""
    query: str = ""
    """A SELECT whose rows are bound, in place of a table; `key` names columns of its result."""
    glob: str = ""
    """Which files of the folder, such as `**/*.md`, several parted by commas; with `!` before it,
    which not. Without any that says which: every known kind."""
    wake: str = "poll"
    """How a worker learns of changes: `poll`, or `notify` (Postgres: NOTIFY at each commit)."""
    row_key: tuple[str, ...] = ()
    """For files: the columns that name a row of a csv, jsonl or parquet file; what `key` of such a
    binding becomes. Without them a row's content names it."""
    dtype: str = "float32"
    """As what numbers vectors are kept: `float32`, or `float16` (pgvector's halfvec: half the room,
    about three digits)."""
    every: float = 0.0
    """Seconds between two looks at a source that can't say whether it changed; 0: the default."""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or len(self.name) > LONGEST_NAME:
            raise SettingsError(
                f"binding name {self.name!r}: use up to {LONGEST_NAME} lower-case letters, "
                "digits and _, not beginning with a digit",
                param="name",
            )
        _require_known(self.source, SOURCES, "source")
        if self.store:
            _require_known(self.store, STORES, "store")
        elif scheme_of(self.source) == "files":
            raise SettingsError(
                f"binding {self.name}: vectors of files need a database; name one with --store, "
                "such as sqlite:likewise.db",
                param="store",
            )
        schemes = {scheme_of(self.source), scheme_of(self.store_address)}
        if schemes & {"postgresql", "duckdb"} and self.name in RESERVED:
            raise SettingsError(
                f"binding name {self.name!r} is one of Likewise's own there; choose another",
                param="name",
            )
        if "postgresql" in schemes and len(self.name) > LONGEST_SERVER_NAME:
            raise SettingsError(
                f"binding name {self.name!r}: up to {LONGEST_SERVER_NAME} letters in Postgres",
                param="name",
            )
        self._check_what()
        if self.dtype not in DTYPES or (
            self.dtype != DTYPES[0] and scheme_of(self.store_address) != "postgresql"
        ):
            raise SettingsError(
                f"dtype {self.dtype!r}: {DTYPES[0]}, or in Postgres also {DTYPES[1]}", param="dtype"
            )
        if self.wake not in ("poll", "notify"):
            raise SettingsError(f"wake {self.wake!r} isn't poll or notify", param="wake")
        if not 0 <= self.every < float("inf"):
            raise SettingsError(f"every {self.every}: seconds, 0 or more", param="every")
        parse_chunking(self.chunk)

    def _check_what(self) -> None:
        """Exactly one thing is bound: a table, a query, or files."""
        if scheme_of(self.source) == "files":
            if self.key not in ((), FILE_KEY):
                object.__setattr__(self, "row_key", self.key)
                object.__setattr__(self, "key", ())
            if self.table or self.query:
                raise SettingsError(
                    f"binding {self.name}: files have no table; choose them with --glob",
                    param="table",
                )
            return
        if self.glob:
            raise SettingsError(f"binding {self.name}: --glob is for files:FOLDER", param="glob")
        if bool(self.table) == bool(self.query):
            raise SettingsError(
                f"binding {self.name}: name a table, or a query, and not both", param="table"
            )
        if self.query and not self.key:
            raise SettingsError(
                f"binding {self.name}: name the columns that tell the query's rows apart with "
                "--key",
                param="key",
            )
        bare = self.table.lower().rpartition(".")
        if bare[2].startswith(("likewise_", "sqlite_")) or bare[0] == "likewise":
            raise SettingsError(f"table {self.table!r} isn't an application's", param="table")

    def as_typed(self) -> BindingSpec:
        r"""What a person means who typed this: escapes such as `\n` are read.

        Every place where bindings are described calls it once; stored ones are never changed.
        """
        return dataclasses.replace(
            self, text=meant(self.text), chunk=parse_chunking(self.chunk).name
        )

    @property
    def store_address(self) -> str:
        """Where vectors are kept."""
        return self.store or self.source

    @property
    def is_one_database(self) -> bool:
        """Whether vectors lie in the source's own database."""
        return self.store in ("", self.source)

    @property
    def path(self) -> Path:
        """The source's file or folder."""
        return path_of(self.source)

    def to_json(self) -> str:
        """Canonical JSON, as stores keep it, without defaults that came later and passwords.

        Without the source too when that is the store: a file keeps its bindings when it is moved.
        """
        values = dataclasses.asdict(self)
        del values["store"]
        for name, value in _LATER.items():
            if values[name] == value:
                del values[name]
        if self.is_one_database:
            del values["source"]
        else:
            values["source"] = without_password(self.source)
        return json.dumps(values, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, store: str) -> BindingSpec:
        """The spec that `to_json` wrote, found in the database at `store`."""
        values: dict[str, Any] = json.loads(text)
        values["key"] = tuple(values["key"])
        values["row_key"] = tuple(values.get("row_key", ()))
        if "source" in values:
            return cls(**values, store=store)
        return cls(**values, source=store)


_LATER: dict[str, Any] = {
    "query": "",
    "glob": "",
    "wake": "poll",
    "dtype": "float32",
    "row_key": (),
    "every": 0.0,
}


def scheme_of(address: str) -> str:
    """`sqlite`, `postgresql`, `files`, or whatever else stands before the colon."""
    if address.startswith(_POSTGRES):
        return "postgresql"
    return address.partition(":")[0]


def path_of(address: str) -> Path:
    """The file or folder of an address such as `sqlite:app.db`."""
    return Path(address.partition(":")[2])


def without_password(address: str) -> str:
    """A Postgres URL without its password; anything else as it is."""
    if scheme_of(address) != "postgresql":
        return address
    parts = urlsplit(address)
    kept = [
        (k, v) for k, v in parse_qsl(parts.query) if k.lower() not in {"password", "sslpassword"}
    ]
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(
            netloc=f"{user.partition(':')[0]}{at}{host}",
            # libpq takes a plus for a plus.
            query=urlencode(kept, safe="/", quote_via=quote),
        )
    )


def _require_known(address: str, schemes: tuple[str, ...], param: str) -> None:
    scheme, _, rest = address.partition(":")
    if (
        scheme_of(address) not in schemes
        or not rest
        or (scheme == "postgresql" and "//" not in rest)
    ):
        forms = {"postgresql": "postgresql://HOST/DATABASE", "files": "files:FOLDER"}
        known = ", ".join(forms.get(name, f"{name}:PATH") for name in schemes)
        raise SettingsError(
            f"{param} {without_password(address)!r} isn't known; write one of {known}", param=param
        )
