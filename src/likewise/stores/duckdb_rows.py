"""Many rows at once into and out of DuckDB: columns are handed over whole, through Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.sql.duckdb_errors import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

    from likewise.base.types import Vectors

_STAGED = "likewise_staged"


def staged(db: duckdb.DuckDBPyConnection, **columns: Any) -> str:
    """Have these columns as a relation of this connection until the next; gives its name.

    A float32 [n, dimensions] becomes a column of vectors.
    """
    made = {name: _column(values) for name, values in columns.items()}
    db.register(_STAGED, pa.table(made))
    return _STAGED


def rows_in(db: duckdb.DuckDBPyConnection, table: str, **columns: Any) -> None:
    """Insert rows into `table`, given by column; nothing for none."""
    if len(next(iter(columns.values()))):
        named = ", ".join(f'"{name}"' for name in columns)
        source = staged(db, **columns)
        db.execute(f"INSERT INTO {table} ({named}) SELECT {named} FROM {source}")


def vectors_of(values: Any, dimensions: int) -> Vectors:
    """float32 [len(values), dimensions] from a column of vectors that was fetched with numpy."""
    if len(values) == 0:
        return np.empty((0, dimensions), np.float32)
    return np.stack(list(values)).astype(np.float32, copy=False)


def _column(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[1])
    return pa.array(list(values))
