"""Many vectors as one parameter: the binary form of an array of pgvector's `vector`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.sql.postgres_arrays import BinaryDumper

if TYPE_CHECKING:
    import psycopg

    from likewise.base.types import Vectors

    Connection = psycopg.Connection[Any]

_TYPE = "SELECT 'vector'::regtype::oid"


class VectorArray:
    """Vectors (float32 [n, dimensions]) on their way to `db`, as a parameter `%s::vector[]`.

    Written as text, as pgvector shows them, they were half of what publishing cost the server.
    """

    def __init__(self, vectors: Vectors, db: Connection) -> None:
        found = db.execute(_TYPE).fetchone()
        # Looked up each time: the extension may have been dropped and made anew.
        self.type = int(found[0]) if found else 0
        self.vectors = vectors

    def to_bytes(self) -> bytes:
        """As `array_recv` reads it (src/backend/utils/adt/arrayfuncs.c), and in it `vector_recv`.

        dimensions of the array, flags, type of its elements, length, first index; then of each
        element its size, its width (int16), a zero (int16), and big-endian numbers.
        """
        count, dimensions = self.vectors.shape
        head = np.array([1, 0, self.type, count, 1], dtype=">u4").tobytes()
        one = np.dtype(
            [("size", ">i4"), ("width", ">i2"), ("zero", ">i2"), ("numbers", ">f4", (dimensions,))]
        )
        body = np.zeros(count, dtype=one)
        body["size"], body["width"], body["numbers"] = 4 + 4 * dimensions, dimensions, self.vectors
        return head + body.tobytes()


def register(db: Connection) -> None:
    """Let `db` take a `VectorArray` as a parameter."""
    db.adapters.register_dumper(VectorArray, BinaryDumper)
