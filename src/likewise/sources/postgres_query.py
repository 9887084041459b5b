"""A view, a foreign table or a SELECT of Postgres as a source: compared, as nothing logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import SchemaDrift
from likewise.base.names import nearest
from likewise.base.types import Difference, Key, Row, Shape
from likewise.sources.difference import differences
from likewise.sources.postgres_rows import Reading, key_shown, read
from likewise.sources.ways import Compared, refuse_repeats
from likewise.sql.postgres import Database, quoted
from likewise.sql.postgres_keys import key_from
from likewise.sql.postgres_schema import Column, read_relation, require_rights
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.base.bound import Seen
    from likewise.base.spec import BindingSpec
    from likewise.sql.postgres import Connection

EVERY_SECONDS = 10.0
"""How often it is compared: nothing tells that it changed."""
_FETCHED = 2000
_SHOWN = 3


class PostgresQuery(Compared):
    """Rows of `spec.query`, or of the view `spec.table`. Safe to use from several threads."""

    def __init__(self, spec: BindingSpec, *, generation: int = 1, clock: Clock = monotonic) -> None:
        self.spec = spec
        self.generation = generation
        self._clock = clock
        self._every = spec.every or EVERY_SECONDS
        self._template = Template(spec.text)
        self._database = Database(spec.source)

    def resolve(self) -> Shape:
        """The relation as it is now.

        Raises:
            NoKey: no key columns were named, or two rows have the same.
            SchemaDrift: the view or a column isn't there.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            self._require_unique(db, reading)
        return Shape(self.spec.table, tuple(c.name for c in reading.key), reading.kinds)

    def attach(self) -> bool:
        """Nothing is installed; whether the relation can be read is found out."""
        with self._database.read() as db:
            self._reading(db)
        return False

    def differences(self, seen: Seen) -> Iterator[list[Difference]]:
        """Rows whose key and columns of the template aren't as they were seen.

        Raises:
            NoKey: two rows have the same key.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            shown = ", ".join(key_shown(column, "t") for column in reading.key)
            sql = f"SELECT {shown}, {reading.digest()} FROM {reading.relation} AS t"
            with db.cursor(name="likewise_scan") as cursor:
                cursor.itersize = _FETCHED
                cursor.execute(sql + self._named(reading), ())
                present = [(key_from(row[:-1], reading.kinds), bytes(row[-1])) for row in cursor]
        self._refuse(reading, [k for k, n in Counter(key for key, _ in present).items() if n > 1])
        yield from differences(present, seen.marks())

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out."""
        with self._database.read() as db:
            reading = self._reading(db)
            extra = f", {reading.digest()}"
            rows = [self._row(reading, each) for each in read(db, reading, keys, extra=extra)]
        found = {row.key: row for row in rows}
        return {key: found[key] for key in keys if key in found}

    def snapshot(self) -> Iterator[Row]:
        """Every row that has a name, all as of one moment."""
        with self._database.read() as db:
            reading = self._reading(db)
            self._require_unique(db, reading)
            sql = f"SELECT {reading.selected(wide=False)} FROM {reading.relation} AS t"
            found = db.execute(sql + self._named(reading), ()).fetchall()
        for values in found:
            yield reading.row(self._template, values)

    def count(self) -> int:
        """Rows there are."""
        with self._database.read() as db:
            reading = self._reading(db)
            return int(self._one(db, f"SELECT count(*) FROM {reading.relation} AS t"))

    def unnamed(self) -> int:
        """Rows with NULL in the key."""
        with self._database.read() as db:
            reading = self._reading(db)
            null = " OR ".join(f"t.{quoted(column.name)} IS NULL" for column in reading.key)
            return int(self._one(db, f"SELECT count(*) FROM {reading.relation} AS t WHERE {null}"))

    def stamp(self) -> object:
        """Differs every so many seconds."""
        return int(self._clock() // self._every)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _row(self, reading: Reading, values: Sequence[Any]) -> Row:
        return reading.row(self._template, values[:-1], mark=bytes(values[-1]))

    def _reading(self, db: Connection) -> Reading:
        if self.spec.query:
            # A line of its own for the parenthesis: the query may end in a comment.
            relation = f"({self.spec.query.strip().rstrip(';')}\n)".replace("%", "%%")
            columns = self._described(db, relation)
            key = tuple(self._column(columns, name) for name in self.spec.key)
        else:
            found = read_relation(db, self.spec.table)
            require_rights(db, found, triggers=False)
            relation, columns, key = found.sql, found.columns, found.key(self.spec.key)
        watched = {name: self._column(columns, name) for name in self._template.columns}
        used = {column.name for column in (*key, *watched.values())}
        others = tuple(column for column in columns if column.name not in used)
        return Reading(relation, key, watched, others)

    def _described(self, db: Connection, relation: str) -> tuple[Column, ...]:
        cursor = db.execute(f"SELECT * FROM {relation} AS t LIMIT 0", ())
        described = [(c.name, c.type_code) for c in cursor.description or ()]
        types: dict[int, str] = dict(
            db.execute(
                "SELECT t, format_type(t, -1) FROM unnest(%s::oid[]) AS t",
                ([code for _, code in described],),
            ).fetchall()
        )
        return tuple(
            Column(number, name, str(types[code]), is_not_null=False)
            for number, (name, code) in enumerate(described, start=1)
        )

    def _column(self, columns: Sequence[Column], name: str) -> Column:
        for wanted in (name, name.lower()):
            for column in columns:
                if column.name == wanted:
                    return column
        names = [column.name for column in columns]
        raise SchemaDrift(
            f"{self.spec.table or 'the query'} has no column {name!r}{nearest(name, names)}; "
            f"it has {', '.join(names)}"
        )

    def _named(self, reading: Reading) -> str:
        return " WHERE " + " AND ".join(
            f"t.{quoted(column.name)} IS NOT NULL" for column in reading.key
        )

    def _require_unique(self, db: Connection, reading: Reading) -> None:
        shown = ", ".join(key_shown(column, "t") for column in reading.key)
        places = ", ".join(str(at) for at in range(1, len(reading.key) + 1))
        twice = db.execute(
            f"SELECT {shown} FROM {reading.relation} AS t{self._named(reading)}"
            f" GROUP BY {places} HAVING count(*) > 1 LIMIT {_SHOWN}",
            (),
        ).fetchall()
        self._refuse(reading, twice)

    def _refuse(self, reading: Reading, twice: Sequence[Sequence[Any]]) -> None:
        refuse_repeats(self.spec.table, [column.name for column in reading.key], twice)

    def _one(self, db: Connection, sql: str) -> Any:
        found = db.execute(sql, ()).fetchone()
        return None if found is None else found[0]
