"""Reading docstrings: what becomes a row, in which order, and what is left out."""

from __future__ import annotations

import textwrap
from pathlib import Path

from likewise.cli.demo_rows import DocRow, documentation, rows_of


def written(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def test_modules_classes_and_functions_become_rows_with_their_places(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "pack/__init__.py",
        '''\
        """The module says what it is for."""
        raise RuntimeError("reading must not run this")
        class Cat:
            """A small animal that sleeps a lot.

                It purrs.
            """
            def purr(self):
                "Make the sound that cats make."
            def _private(self):
                """Nobody should look this one up."""
        async def feed():
            def inner():
                """A function within a function counts too."""
        def tiny():
            """Too short."""
        ''',
    )
    assert list(rows_of(path, tmp_path)) == [
        DocRow("pack/__init__.py:1", "pack", "pack", "module", "The module says what it is for."),
        DocRow(
            "pack/__init__.py:3", "pack", "pack.Cat", "class",
            "A small animal that sleeps a lot.\n\nIt purrs.",
        ),
        DocRow(
            "pack/__init__.py:8", "pack", "pack.Cat.purr", "function",
            "Make the sound that cats make.",
        ),
        DocRow(
            "pack/__init__.py:13", "pack", "pack.feed.inner", "function",
            "A function within a function counts too.",
        ),
    ]  # fmt: skip


def test_a_file_that_isnt_python_gives_nothing(tmp_path: Path) -> None:
    for text in ("def (:", "\0", "# -*- coding: no-such -*-\n'''docs docs docs docs docs'''"):
        assert list(rows_of(written(tmp_path, "broken.py", text), tmp_path)) == []


def test_order_limits_and_repetitions(tmp_path: Path) -> None:
    for package in ("b", "a", "test"):
        for at in range(3):
            text = f'"""The text of module number {at} in {package}."""'
            written(tmp_path, f"{package}/m{at}.py", text)
    written(tmp_path, "c/copy.py", '"""The text of module number 0 in a."""')

    def places(**limits: int) -> list[str]:
        return [row.place for row in documentation([tmp_path], **limits)]

    assert places() == [f"{p}/m{at}.py:1" for p in ("a", "b") for at in range(3)]
    assert places(at_most=4) == places()[:4]
    assert places(per_package=1) == ["a/m0.py:1", "b/m0.py:1"]


def test_this_python_gives_its_own_rows_and_always_the_same() -> None:
    rows = list(documentation(at_most=600))
    assert len(rows) == 600
    assert len({row.place for row in rows}) == 600
    assert list(documentation(at_most=600)) == rows
