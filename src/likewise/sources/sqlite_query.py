"""A view, a virtual table or a SELECT of a SQLite file as a source: compared, as nothing logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from likewise.base.errors import NoKey, SchemaDrift
from likewise.base.names import nearest
from likewise.base.types import Difference, Key, Row, Shape
from likewise.sources.difference import differences
from likewise.sources.sqlite_rows import Reading, rows
from likewise.sources.ways import Compared, refuse_repeats
from likewise.sql.names import quote
from likewise.sql.sqlite import Database, Watch
from likewise.text.template import Template

if TYPE_CHECKING:
    import apsw

    from likewise.base.bound import Seen
    from likewise.base.spec import BindingSpec

_SHOWN = 3


class SqliteQuery(Compared):
    """Rows of `spec.query`, or of the view `spec.table`. Safe to use from several threads.

    It is read whole at each comparison, which comes when somebody has written to the file.
    """

    def __init__(self, spec: BindingSpec, *, generation: int = 1) -> None:
        self.spec = spec
        self.generation = generation
        self._template = Template(spec.text)
        self._database = Database(spec.path)
        self._watch = Watch(self._database)

    def resolve(self) -> Shape:
        """The relation as it is now.

        Raises:
            NoKey: no key columns were named, or two rows have the same.
            SchemaDrift: the view or a column isn't there.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            self._require_unique(db, reading)
        return Shape(self.spec.table, reading.key, tuple("any" for _ in reading.key))

    def attach(self) -> bool:
        """Nothing is installed; whether the relation can be read is found out.

        Raises:
            SchemaDrift: the view or a column is gone.
        """
        with self._database.read() as db:
            self._reading(db)
        return False

    def differences(self, seen: Seen) -> Iterator[list[Difference]]:
        """Rows whose text isn't as it was seen.

        Raises:
            NoKey: two rows have the same key.
        """
        present = [(row.key, row.fingerprint) for row in self.snapshot()]
        yield from differences(present, seen.marks())

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out."""
        with self._database.read() as db:
            reading = self._reading(db)
            where = " AND ".join(f"{quote(column)} = ?" for column in reading.key)
            values = list(rows(db, reading, where, keys, wide=True))
        found = {row.key: row for row in (reading.row(self._template, each) for each in values)}
        return {key: found[key] for key in keys if key in found}

    def snapshot(self) -> Iterator[Row]:
        """Every row that has a name, all as of one moment.

        Raises:
            NoKey: two rows have the same key.
        """
        with self._database.read() as db:
            reading = self._reading(db)
            self._require_unique(db, reading)
            named = " AND ".join(f"{quote(column)} IS NOT NULL" for column in reading.key)
            found = list(rows(db, reading, named, [()]))
        for values in found:
            yield reading.row(self._template, values)

    def count(self) -> int:
        """Rows there are."""
        with self._database.read() as db:
            return int(db.execute(f"SELECT count(*) FROM {self._reading(db).relation}").get)

    def unnamed(self) -> int:
        """Rows with NULL in the key."""
        with self._database.read() as db:
            reading = self._reading(db)
            null = " OR ".join(f"{quote(column)} IS NULL" for column in reading.key)
            return int(db.execute(f"SELECT count(*) FROM {reading.relation} WHERE {null}").get)

    def stamp(self) -> object:
        """A value that differs once another connection has committed."""
        return self._watch.stamp()

    def close(self) -> None:
        """Close the connections."""
        self._watch.close()
        self._database.close()

    def _reading(self, db: apsw.Connection) -> Reading:
        spec = self.spec
        relation = f"({spec.query})" if spec.query else quote(spec.table)
        # A query that isn't one SELECT doesn't parse inside the parentheses; a description is there
        # only as long as there is a row, which the join sees to.
        found = db.execute(f"SELECT * FROM (SELECT 1) LEFT JOIN {relation} LIMIT 1")
        columns = [str(column[0]) for column in found.get_description()[1:]]
        if not spec.key:
            raise NoKey(
                f"{spec.table} is no table with a primary key: name the columns that tell its rows "
                f"apart with --key; it has {', '.join(columns)}"
            )
        key = tuple(self._column(columns, name) for name in spec.key)
        watched = {name: self._column(columns, name) for name in self._template.columns}
        used = {*key, *watched.values()}
        return Reading(relation, key, watched, tuple(c for c in columns if c not in used))

    def _column(self, columns: Sequence[str], name: str) -> str:
        for column in columns:
            if column.lower() == name.lower():
                return column
        raise SchemaDrift(
            f"{self.spec.table or 'the query'} has no column {name!r}{nearest(name, columns)}; "
            f"it has {', '.join(columns)}"
        )

    def _require_unique(self, db: apsw.Connection, reading: Reading) -> None:
        key = ", ".join(f"{quote(column)} COLLATE BINARY" for column in reading.key)
        named = " AND ".join(f"{quote(column)} IS NOT NULL" for column in reading.key)
        twice = db.execute(
            f"SELECT {', '.join(map(quote, reading.key))} FROM {reading.relation} WHERE {named}"
            f" GROUP BY {key} HAVING count(*) > 1 LIMIT {_SHOWN}"
        ).fetchall()
        refuse_repeats(self.spec.table, reading.key, twice)
