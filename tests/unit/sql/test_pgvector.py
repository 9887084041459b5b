"""Vectors reach Postgres bit by bit, whatever numbers they hold."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import psycopg
import pytest

from likewise.sql.pgvector import VectorArray
from likewise.sql.postgres import connect

LIMITS = np.finfo(np.float32)
PICKED = np.array(
    [
        [0.0, -0.0, 1.0],
        [LIMITS.max, LIMITS.min, LIMITS.tiny],
        [LIMITS.smallest_subnormal, -LIMITS.smallest_subnormal, np.float32(0.1)],
    ],
    np.float32,
)


def there_and_back(address: str, vectors: np.ndarray) -> np.ndarray:
    with closing(connect(address)) as db, db.cursor(binary=True) as cursor:
        cursor.execute(
            "SELECT v FROM unnest(%s::vector[]) WITH ORDINALITY AS u(v, n) ORDER BY n",
            (VectorArray(vectors, db),),
        )
        # pgvector's binary form: width, a zero, big-endian numbers.
        found = [np.frombuffer(row[0], ">f4", offset=4) for row in cursor]
    return np.array(found, np.float32).reshape(vectors.shape)


@pytest.fixture
def address(database: str) -> str:
    with closing(psycopg.connect(database, autocommit=True)) as db:
        db.execute("CREATE EXTENSION vector")
    return database


@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (2, 384), (300, 3), (2, 16_000)])
def test_any_numbers_come_back_bit_by_bit(address: str, shape: tuple[int, int]) -> None:
    bits = np.random.default_rng(7).integers(0, 1 << 32, shape, np.uint32)
    vectors = bits.view(np.float32)
    vectors = np.where(np.isfinite(vectors), vectors, np.float32(1.5))
    assert there_and_back(address, vectors).tobytes() == vectors.tobytes()


def test_picked_numbers_come_back_bit_by_bit(address: str) -> None:
    assert there_and_back(address, PICKED).tobytes() == PICKED.tobytes()
    # Columns of another order in memory are the same vectors.
    turned = np.asfortranarray(PICKED)
    assert there_and_back(address, turned).tobytes() == PICKED.tobytes()


def test_the_extension_may_be_made_anew_under_an_open_connection(address: str) -> None:
    with closing(connect(address)) as db:
        for _ in range(2):
            found = db.execute(
                "SELECT unnest(%s::vector[])::text", (VectorArray(PICKED[:1], db),)
            ).fetchall()
            assert found == [("[0,-0,1]",)]
            db.execute("DROP EXTENSION vector")
            db.execute("CREATE EXTENSION vector")
