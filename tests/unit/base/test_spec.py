"""Specs: what can't be right is refused, and what was stored is read back."""

from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import SettingsError
from likewise.base.spec import BindingSpec, without_password

GOOD: dict[str, Any] = {"name": "docs", "source": "sqlite:a/b.db", "table": "t", "text": "{a}"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "Docs"),
        ("name", "1a"),
        ("name", "a-b"),
        ("name", "a\n"),
        ("name", "a" * 64),
        ("source", "mysql://x"),
        ("source", "postgresql:x"),
        ("store", "files:x"),
        ("source", "sqlite:"),
        ("table", ""),
        ("table", "likewise_docs_row"),
        ("table", "sqlite_schema"),
    ],
)
def test_refused(field: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        BindingSpec(**{**GOOD, field: value})
    assert refused.value.param == field


def test_stored_without_its_path_and_read_back() -> None:
    spec = BindingSpec(**GOOD, key=("a", "b"))
    assert spec.path == Path("a/b.db")
    assert "b.db" not in spec.to_json()
    assert BindingSpec.from_json(spec.to_json(), "sqlite:c.db").path == Path("c.db")
    assert BindingSpec.from_json(spec.to_json(), spec.source) == spec


def test_an_address_without_its_password_is_one_that_libpq_reads() -> None:
    said = (
        "postgresql://me:secret@db/app?options=-c%20lock_timeout%3D1s&sslpassword=x&sslmode=require"
    )
    assert without_password(said) == (
        "postgresql://me@db/app?options=-c%20lock_timeout%3D1s&sslmode=require"
    )
