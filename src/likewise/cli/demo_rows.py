"""What the demo searches: docstrings of the standard library and installed packages, by reading.

Nothing is imported: files are parsed, so no code of a package runs and broken ones do no harm.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "site-packages",
     "dist-packages", "__pycache__", "_vendor", "distutils", "_distutils", "vendor", "_pyrepl"}
)  # fmt: skip
_SHORTEST_DOC, _LONGEST_DOC = 24, 1000
"""Characters. Shorter docstrings (`See above.`) say nothing that could be found; the few longer
ones hold a third of all text, and the demo should be ready soon on a small machine."""
_LARGEST_FILE = 1_000_000


@dataclass(frozen=True, slots=True)
class DocRow:
    """One documented thing."""

    place: str
    """Where it is written, such as `json/decoder.py:254`; unique."""
    module: str
    name: str
    """Qualified name, such as `json.decoder.JSONDecoder`."""
    kind: str
    """`module`, `class` or `function`."""
    doc: str


def documentation(
    folders: Sequence[Path] | None = None, *, at_most: int = 5200, per_package: int = 200
) -> Iterator[DocRow]:
    """Rows in the order of folders and file names: every run on one machine gives the same ones.

    Without `folders`: the standard library, then the installed packages. A package gives
    `per_package` rows at most, so that a large one doesn't crowd out the rest. A docstring seen
    before (packages carry copies of one another) isn't given again.
    """
    seen: set[str] = set()
    taken: Counter[str] = Counter()
    for root in folders or [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]:
        for path in _python_files(root):
            package = path.relative_to(root).parts[0]
            if taken[package] >= per_package:
                continue
            for row in rows_of(path, root):
                if row.doc in seen or taken[package] >= per_package:
                    continue
                seen.add(row.doc)
                taken[package] += 1
                yield row
                if len(seen) >= at_most:
                    return


def _python_files(folder: Path) -> Iterator[Path]:
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in entries:
        if path.name in _LEFT_OUT or path.is_symlink():
            continue
        if path.is_dir():
            yield from _python_files(path)
        elif path.suffix == ".py" and path.stat().st_size <= _LARGEST_FILE:
            yield path


def rows_of(path: Path, root: Path) -> Iterator[DocRow]:
    """The documented things of one file; nothing when it doesn't parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's files
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    yield from _walk(tree, relative.as_posix(), module, module)


def _walk(node: ast.AST, file: str, module: str, name: str) -> Iterator[DocRow]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        doc = ast.get_docstring(node, clean=False)
        text = inspect.cleandoc(doc).strip() if doc else ""
        if _SHORTEST_DOC <= len(text) <= _LONGEST_DOC:
            line = 1 if isinstance(node, ast.Module) else node.lineno
            yield DocRow(f"{file}:{line}", module, name, _KINDS[type(node)], text)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not child.name.startswith("_"):
            yield from _walk(child, file, module, f"{name}.{child.name}")


_KINDS = {
    ast.Module: "module",
    ast.ClassDef: "class",
    ast.FunctionDef: "function",
    ast.AsyncFunctionDef: "function",
}
