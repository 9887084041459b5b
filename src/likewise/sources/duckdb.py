"""A table, view or query of a DuckDB file as a source: compared, as triggers would break writers.

DuckDB 2.0 has triggers, but a table that has one refuses `INSERT ... ON CONFLICT DO UPDATE` and
`MERGE INTO` (https://duckdb.org/docs/2.0): an application could stop working when it is bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.base.clock import Clock, monotonic
from likewise.base.spec import path_of
from likewise.base.types import Difference, Key, Row, Shape
from likewise.sources.difference import differences
from likewise.sources.ways import Compared, refuse_repeats
from likewise.sql.duckdb import Database, value
from likewise.sql.duckdb_memo import Memo
from likewise.sql.duckdb_schema import arrays, back, given, read_query, read_relation
from likewise.sql.names import quote
from likewise.text.canon import canonical, fingerprint
from likewise.text.template import Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    import duckdb

    from likewise.base.bound import Seen
    from likewise.base.spec import BindingSpec
    from likewise.sql.duckdb_schema import Column

EVERY_SECONDS = 10.0
"""How often a view or query is compared: it may read what lies outside the file."""
_RACY_PER_SECOND = 20
_SHOWN = 3
_PAGE = 20_000
"""Rows read at a time: each page reads the table once."""


@dataclass(frozen=True, slots=True)
class _Reading:
    relation: str
    key: tuple[Column, ...]
    watched: Mapping[str, Column]
    others: tuple[Column, ...]
    is_table: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(column.kind for column in self.key)

    @property
    def keys(self) -> str:
        return ", ".join(column.shown() for column in self.key)

    @property
    def digest(self) -> str:
        """md5 (hex) of key and template columns: a JSON list can be read in one way only."""
        used = (*self.key, *self.watched.values())
        parts = ", ".join(f"t.{quote(column.name)}::VARCHAR" for column in used)
        return f"md5(json_array({parts})::VARCHAR)"

    @property
    def named(self) -> str:
        """Whether a row has a name: NULL is none, and NaN equals nothing, not even itself."""
        parts = [f"t.{quote(column.name)} IS NOT NULL" for column in self.key]
        parts += [f"NOT isnan(t.{quote(c.name)})" for c in self.key if c.kind == "real"]
        return " AND ".join(parts)

    def selected(self, *, wide: bool) -> str:
        shown = [column.shown() for column in (*self.key, *self.watched.values())]
        if wide:
            shown += [column.shown(blobs=False) for column in self.others]
        return ", ".join([self.digest, *shown])

    def row(self, template: Template, values: Sequence[Any]) -> Row:
        names = [*(c.name for c in self.key), *self.watched, *(c.name for c in self.others)]
        named = dict(zip(names, values[1:], strict=False))
        text = canonical(template.render(named))
        key = tuple(values[1 : 1 + len(self.key)])
        return Row(key, text, named, fingerprint(text), mark=bytes.fromhex(values[0]))


class DuckdbSource(Compared):
    """Rows of `spec.table` (a table or view) or `spec.query`. Safe to use from several threads.

    Its rows are compared with what was seen of them when the file was written to.
    """

    def __init__(self, spec: BindingSpec, *, generation: int = 1, clock: Clock = monotonic) -> None:
        self.spec = spec
        self.generation = generation
        self._clock = clock
        self._every = spec.every or EVERY_SECONDS
        self._template = Template(spec.text)
        self._database = Database(path_of(spec.source))
        self._memo = Memo(self._database)
        self._is_table = True

    def resolve(self) -> Shape:
        """The relation as it is now.

        Raises:
            NoKey: nothing names a row, or two rows have the same key.
            SchemaDrift: the relation or a column isn't there.
            DatabaseError: the file can't be read.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            self._require_unique(db, reading)
            name = read_relation(db, self.spec.table).name if self.spec.table else ""
        return Shape(name, tuple(column.name for column in reading.key), reading.kinds)

    def attach(self) -> bool:
        """Nothing is installed; whether the relation can be read is found out.

        Raises:
            SchemaDrift: the relation or a column is gone.
        """
        return self._memo.get("attach", self._attach)

    def differences(self, seen: Seen) -> Iterator[list[Difference]]:
        """Rows whose key and columns of the template aren't as they were seen.

        Raises:
            NoKey: two rows have the same key.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            found = db.execute(
                f"SELECT {reading.digest}, {reading.keys} FROM {reading.relation} AS t"
                f" WHERE {reading.named}"
            ).fetchall()
        present = [(tuple(row[1:]), bytes.fromhex(row[0])) for row in found]
        self._refuse(reading, [k for k, n in Counter(key for key, _ in present).items() if n > 1])
        yield from differences(present, seen.marks())

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out."""
        if not keys:
            return {}
        with self._database.read() as db:
            reading = self._reading(db)
            joined = " AND ".join(
                f"t.{quote(column.name)} = {back(kind, f'k.k{at}')}"
                for at, (column, kind) in enumerate(zip(reading.key, reading.kinds, strict=True))
            )
            values = db.execute(
                f"SELECT {reading.selected(wide=True)} FROM ({given(reading.kinds)}) AS k"
                f" JOIN {reading.relation} AS t ON {joined}",
                arrays(keys, reading.kinds),
            ).fetchall()
        found = {row.key: row for row in (reading.row(self._template, each) for each in values)}
        return {key: found[key] for key in keys if key in found}

    def snapshot(self) -> Iterator[Row]:
        """Every row that has a name; each page of them as of one moment.

        Raises:
            NoKey: two rows have the same key.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            self._require_unique(db, reading)
            keys: list[Key] = db.execute(
                f"SELECT {reading.keys} FROM {reading.relation} AS t WHERE {reading.named}"
            ).fetchall()
        for at in range(0, len(keys), _PAGE):
            yield from self.read(keys[at : at + _PAGE]).values()

    def count(self) -> int:
        """Rows there are."""
        return self._memo.get("count", lambda: self._counted("true"))

    def unnamed(self) -> int:
        """Rows with NULL or NaN in the key."""
        return self._memo.get("unnamed", lambda: self._counted(None))

    def stamp(self) -> object:
        """A value that differs once somebody else has committed; of a view, now and then too."""
        stamp: object = self._database.stamp()
        if stamp is None:
            # Just written: look again before long.
            stamp = ("racy", int(self._clock() * _RACY_PER_SECOND))
        return (stamp, 0 if self._is_table else int(self._clock() // self._every))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _attach(self) -> bool:
        with self._database.read() as db:
            self._is_table = self._reading(db).is_table
        return False

    def _counted(self, where: str | None) -> int:
        with self._database.read() as db:
            reading = self._reading(db)
            where = f"({reading.named}) IS NOT TRUE" if where is None else where
            return int(value(db, f"SELECT count(*) FROM {reading.relation} AS t WHERE {where}"))

    def _reading(self, db: duckdb.DuckDBPyConnection) -> _Reading:
        spec = self.spec
        relation = read_query(db, spec.query) if spec.query else read_relation(db, spec.table)
        key = relation.key(spec.key)
        watched = {name: relation.column(name) for name in self._template.columns}
        used = {column.name for column in (*key, *watched.values())}
        others = tuple(column for column in relation.columns if column.name not in used)
        return _Reading(relation.sql, key, watched, others, relation.is_table)

    def _require_unique(self, db: duckdb.DuckDBPyConnection, reading: _Reading) -> None:
        places = ", ".join(str(at) for at in range(1, len(reading.key) + 1))
        twice = db.execute(
            f"SELECT {reading.keys} FROM {reading.relation} AS t WHERE {reading.named}"
            f" GROUP BY {places} HAVING count(*) > 1 LIMIT {_SHOWN}"
        ).fetchall()
        self._refuse(reading, twice)

    def _refuse(self, reading: _Reading, twice: Sequence[Sequence[Any]]) -> None:
        refuse_repeats(self.spec.table, [column.name for column in reading.key], twice)
