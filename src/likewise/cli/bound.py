"""Which bindings a command means: by name, in the databases that flags or settings name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.errors import BindingNotFound
from likewise.base.names import nearest
from likewise.cli import here

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord


def one(name: str, db: str | None, config_path: Path) -> BindingRecord:
    """The binding called `name`, in one of the databases that are meant.

    Raises:
        BindingNotFound: none has it; the message lists those there are.
        SettingsError: no database is meant.
    """
    (record,) = several((name,), db, config_path)
    return record


def several(names: tuple[str, ...], db: str | None, config_path: Path) -> list[BindingRecord]:
    """The bindings called `names`, or all when there are none. Raises as `one` does."""
    return among(names, here.addresses(db, config_path))


def among(names: tuple[str, ...], addresses: list[str]) -> list[BindingRecord]:
    """The bindings called `names` in the databases at `addresses`, or all without names.

    Raises:
        BindingNotFound: none has it; the message lists those there are.
    """
    from likewise.base.spec import without_password
    from likewise.server.databases import records

    found = [record for address in addresses for record in records(address)]
    if not names:
        return found
    known = {record.spec.name: record for record in reversed(found)}
    for name in names:
        if name not in known:
            raise BindingNotFound(
                f"no binding {name!r} in {', '.join(map(without_password, addresses))}"
                f"{nearest(name, known)}; there are: {', '.join(known) or 'none'}",
                param="name",
            )
    return [known[name] for name in names]
