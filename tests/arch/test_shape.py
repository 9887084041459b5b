"""The shape of the code: file length, function length, a first line that says the job."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "likewise"
MAX_FILE_LINES, MAX_BODY_LINES = 500, 50
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}
FILES = sorted(SRC.rglob("*.py"))


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_there_is_code() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_shape(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_FILE_LINES
    assert path.stem not in VAGUE, "name the file after what it holds"
    assert path.name == "__init__.py" or ast.get_docstring(tree), "first line: what this file is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_lines(node) <= MAX_BODY_LINES, f"{node.name} at line {node.lineno}"


def test_body_lines_counts_code_and_not_the_docstring() -> None:
    tree = ast.parse('def f():\n    """Text.\n\n    More.\n    """\n    a = 1\n\n    return a\n')
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    assert body_lines(node) == 3
