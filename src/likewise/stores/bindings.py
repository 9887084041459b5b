"""The registry of bindings that every store keeps: a line a generation, found and switched."""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from likewise.base.bound import BindingRecord
from likewise.base.errors import BindingError, BindingExists, BindingNotFound
from likewise.base.names import nearest
from likewise.base.same import require_same
from likewise.base.space import Space
from likewise.base.spec import BindingSpec

if TYPE_CHECKING:
    from likewise.base.bound import BoundTable, GenerationState
    from likewise.base.types import Shape


class Transactions(Protocol):
    """A database that lends connections of its driver's."""

    def read(self) -> AbstractContextManager[Any]:
        """A connection in which all statements see one state."""
        ...

    def write(self) -> AbstractContextManager[Any]:
        """A connection in a transaction that is committed at the end."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class StoredBindings(abc.ABC):
    """See `likewise.base.bindings.Bindings`; what differs between databases is left to them.

    `shown` is how the database is named to people, `stored_at` the address of its own specs.
    """

    def __init__(self, database: Transactions, *, shown: str, stored_at: str) -> None:
        self._database = database
        self._shown = shown
        self._stored_at = stored_at

    def create(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make a binding's tables, or find it there with the same definition."""
        spec = dataclasses.replace(spec, table=shape.table, key=shape.key)
        with self._database.write() as db:
            self._prepare(db)
            if spec.name in self._names(db):
                there = self._current(db, spec.name)
                require_same(there, spec, space)
                return there
            return self._make(db, spec, shape, space, 1, "current")

    def records(self) -> list[BindingRecord]:
        """The current generation of every binding, by name."""
        self._bring_up_to_date()
        with self._database.read() as db:
            return [self._current(db, name) for name in self._names(db)]

    def get(self, name: str) -> BindingRecord:
        """The current generation of the binding."""
        self._bring_up_to_date()
        with self._database.read() as db:
            return self._current(db, name)

    def generations(self, name: str) -> list[BindingRecord]:
        """Every generation of the binding, oldest first."""
        self._bring_up_to_date()
        with self._database.read() as db:
            return self._generations(db, name)

    def add_generation(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make the tables of another generation beside the current one."""
        spec = dataclasses.replace(spec, table=shape.table, key=shape.key)
        with self._database.write() as db:
            self._prepare(db)
            there = self._generations(db, spec.name)
            if any(record.state == "building" for record in there):
                raise BindingExists(
                    f"binding {spec.name}: another generation is being built already; let it "
                    f"finish, or give it up with 'likewise bind swap {spec.name} --abort'"
                )
            number = 1 + max(record.generation for record in there)
            return self._make(db, spec, shape, space, number, "building")

    def cut_over(self, name: str, generation: int) -> None:
        """Make it the current one, in one transaction."""
        with self._database.write() as db:
            record = self._require(db, name, generation)
            for each in self._generations(db, name):
                if each.generation == generation:
                    self._set(db, each, "state", "current")
                elif each.state == "current":
                    self._set(db, each, "state", "previous")
            self._show(db, record)

    def drop_generation(self, name: str, generation: int) -> None:
        """Remove a generation that isn't current: its log and vectors."""
        with self._database.write() as db:
            record = self._require(db, name, generation)
            if record.state == "current":
                raise BindingError(
                    f"binding {name}: generation {generation} is the one that answers; it can only "
                    "go with the binding"
                )
            self._remove(db, record)

    def drop(self, name: str) -> None:
        """Remove a binding: log and vectors; with the last one everything of ours goes."""
        self._bring_up_to_date()
        with self._database.write() as db:
            for record in self._generations(db, name):
                self._remove(db, record)
            if not self._names(db):
                self._remove_registry(db)

    def pause(self, name: str, paused: bool) -> None:
        """Stop workers of the binding at their next step, or let them go on."""
        self._bring_up_to_date()
        with self._database.write() as db:
            for record in self._generations(db, name):
                self._set(db, record, "paused", paused)

    def readdress(self, record: BindingRecord, model: str) -> BindingRecord:
        """Have a generation's model found at the address `model` from now on."""
        with self._database.write() as db:
            there = self._require(db, record.spec.name, record.generation)
            spec = dataclasses.replace(there.spec, model=model)
            self._set(db, there, "spec", spec.to_json())
            space = dataclasses.replace(there.space, model=model)
            self._set(db, there, "space", space.to_json())
            return dataclasses.replace(there, spec=spec, space=space)

    @abc.abstractmethod
    def table(self, record: BindingRecord) -> BoundTable:
        """The vectors of a generation."""

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    @abc.abstractmethod
    def _prepare(self, db: Any) -> None:
        """Have the registry, of the newest schema."""

    @abc.abstractmethod
    def _is_old(self, db: Any) -> bool:
        """Whether there is a registry, of an older schema."""

    @abc.abstractmethod
    def _names(self, db: Any) -> list[str]:
        """The bindings there are, in order; none without a registry."""

    @abc.abstractmethod
    def _lines(self, db: Any, name: str) -> Sequence[Any]:
        """Spec, space, created, kinds, generation, state of each generation, oldest first."""

    @abc.abstractmethod
    def _make(
        self,
        db: Any,
        spec: BindingSpec,
        shape: Shape,
        space: Space,
        generation: int,
        state: GenerationState,
    ) -> BindingRecord:
        """Make a generation's tables and its line."""

    @abc.abstractmethod
    def _set(self, db: Any, record: BindingRecord, column: str, value: object) -> None:
        """Change a generation's line."""

    @abc.abstractmethod
    def _show(self, db: Any, record: BindingRecord) -> None:
        """Have what users query show this generation."""

    @abc.abstractmethod
    def _remove(self, db: Any, record: BindingRecord) -> None:
        """Remove a generation's tables and its line."""

    @abc.abstractmethod
    def _remove_registry(self, db: Any) -> None:
        """Remove what holds no binding any more."""

    def _bring_up_to_date(self) -> None:
        with self._database.read() as db:
            if not self._is_old(db):
                return
        with self._database.write() as db:
            self._prepare(db)

    def _generations(self, db: Any, name: str) -> list[BindingRecord]:
        names = self._names(db)
        if name not in names:
            raise BindingNotFound(
                f"{self._shown} has no binding {name!r}{nearest(name, names)}; "
                f"it has {', '.join(names) or 'none'}"
            )
        return [self._record(line) for line in self._lines(db, name)]

    def _current(self, db: Any, name: str) -> BindingRecord:
        return next(each for each in self._generations(db, name) if each.state == "current")

    def _require(self, db: Any, name: str, generation: int) -> BindingRecord:
        there = self._generations(db, name)
        for record in there:
            if record.generation == generation:
                return record
        numbers = ", ".join(str(record.generation) for record in there)
        raise BindingNotFound(f"binding {name} has no generation {generation}; it has {numbers}")

    def _record(self, line: Any) -> BindingRecord:
        spec, space, created, kinds, generation, state = line
        return BindingRecord(
            BindingSpec.from_json(spec, self._stored_at),
            Space.from_json(space),
            created,
            tuple(json.loads(kinds)),
            generation,
            state,
        )
