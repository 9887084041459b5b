"""Arrays of plain types reach Postgres as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from likewise.sql.postgres import connect
from likewise.sql.postgres_arrays import Array

SCALARS = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double precision": st.floats(allow_nan=False),
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "bytea": st.binary(),
}


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection[Any]]:
    with closing(connect(database)) as made:
        yield made


def back(db: psycopg.Connection[Any], kind: str, values: list[Any]) -> list[Any]:
    sql = f"SELECT v FROM unnest(%s::{kind}[]) WITH ORDINALITY AS u(v, n) ORDER BY n"
    return [row[0] for row in db.execute(sql.encode(), (Array(kind, values),))]


@pytest.mark.parametrize("kind", SCALARS)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_come_back(db: psycopg.Connection[Any], kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | SCALARS[kind], max_size=20))
    assert back(db, kind, values) == values


def test_numbers_that_equal_nothing_or_have_a_sign(db: psycopg.Connection[Any]) -> None:
    found = back(db, "double precision", [float("nan"), -0.0, float("inf")])
    assert [str(each) for each in found] == ["nan", "-0.0", "inf"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 2**31),
        ("bigint", -(2**63) - 1),
        ("bigint", 1.5),
        ("bigint", "1"),
        ("double precision", "x"),
        ("text", "a\0b"),
        ("text", "\ud800"),
        ("text", 1),
        ("text", b"a"),
        ("bytea", 7),
    ],
)
def test_values_of_another_kind_are_refused(
    db: psycopg.Connection[Any], kind: str, value: object
) -> None:
    with pytest.raises(psycopg.DataError, match=f"no {kind} for Postgres"):
        back(db, kind, [value])
    assert back(db, "int", [1]) == [1], "the connection is as before"


def test_an_array_compares_as_the_drivers_own(db: psycopg.Connection[Any]) -> None:
    sql = "SELECT %s::text[] = %s::text[], %s::bigint[] = %s::bigint[]"
    texts, numbers = ["a", 'q"uo{te}', "", "NULL", "\\", "é\n"], [3, -1]
    values = (Array("text", texts), texts, Array("bigint", numbers), numbers)
    assert db.execute(sql, values).fetchone() == (True, True)
