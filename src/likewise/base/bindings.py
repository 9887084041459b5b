"""What is asked of a database that holds bindings: make, find, switch and drop them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord, BoundTable
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Shape


class Bindings(Protocol):
    """The bindings that one database holds, with their generations."""

    @property
    def address(self) -> str:
        """`sqlite:PATH`, or `postgresql://…` without a password."""
        ...

    def create(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make a binding's tables, or find it there with the same definition.

        `space` has its chunker set. Triggers come when a worker attaches the source; it then finds
        the rows that are there already.

        Raises:
            BindingExists: one of that name has another definition.
            SpaceMismatch: it has the same definition for another model or setting.
            DatabaseError: the database can't be used; the message says what is missing.
        """
        ...

    def records(self) -> list[BindingRecord]:
        """The current generation of every binding, by name; none when it holds nothing of ours."""
        ...

    def get(self, name: str) -> BindingRecord:
        """The current generation of the binding.

        Raises:
            BindingNotFound: there is none; the message names those there are.
        """
        ...

    def generations(self, name: str) -> list[BindingRecord]:
        """Every generation of the binding, oldest first.

        Raises:
            BindingNotFound: there is no such binding.
        """
        ...

    def add_generation(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make the tables of another generation beside the current one; its state is `building`.

        Raises:
            BindingExists: another is being built already.
            BindingNotFound: there is no such binding.
        """
        ...

    def cut_over(self, name: str, generation: int) -> None:
        """Make it the current one, in one transaction; what was current becomes `previous`.

        Raises:
            BindingNotFound: there is no such generation.
        """
        ...

    def drop_generation(self, name: str, generation: int) -> None:
        """Remove a generation that isn't current: its log and vectors.

        Raises:
            BindingNotFound: there is no such generation.
            BindingError: it is the current one.
        """
        ...

    def drop(self, name: str) -> None:
        """Remove a binding: log and vectors; with the last one everything of ours goes.

        What its triggers in the source need goes with `Source.detach`, which comes before.

        Raises:
            BindingNotFound: there is none of that name.
        """
        ...

    def pause(self, name: str, paused: bool) -> None:
        """Stop workers of the binding at their next step, or let them go on.

        Raises:
            BindingNotFound: there is none of that name.
        """
        ...

    def readdress(self, record: BindingRecord, model: str) -> BindingRecord:
        """Have a generation's model found at the address `model` from now on; gives it so.

        Only for a model that is the same: its vectors stay.

        Raises:
            BindingNotFound: there is no such generation.
        """
        ...

    def table(self, record: BindingRecord) -> BoundTable:
        """The vectors of a generation, ready for use; to be closed by the caller."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
