"""No test waits for a short time only: what is quick here takes long where much else runs.

A short time is right where it is what is tested: that something gives up. Those are listed, each
with its reason.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

LEAST = 30.0
"""Seconds that a wait may be limited to."""
BY_NAME = {"timeout", "timeout_s"}
"""Keywords that limit a wait, in seconds."""
BY_PLACE = {
    "wait": 0,
    "join": 0,
    "result": 0,
    "settimeout": 0,
    "exception": 0,
    "wait_for": 1,
    "wait_until": 1,
}
"""What waits for as long as the argument at that place says, in seconds."""
IN_MS = {"set_busy_timeout", "set_default_timeout", "set_default_navigation_timeout"}
CLIENTS = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream",
           "Client", "AsyncClient"}  # fmt: skip
"""Of httpx: without a word they wait for 5 s."""

ALLOWED: dict[str, str] = {
    "acceptance/duckdb_applications.py::DuckdbApplication._opened": "looks again until it is free",
    "acceptance/programs.py::-": "the moments of writes are random, and a model takes time",
    "acceptance/test_nothing_lost.py::kill_at_random": "the moment of the kill is random",
    "faults/machine_programs.py::-": "a model takes time",
    "faults/programs.py::-": "the moments of writes are random, and a model takes time",
    "faults/test_fuzz.py::kill_at_random": "the moment of the kill is random",
    "faults/test_hostile_clients.py::test_a_slow_client_is_cut_off": "a slow client's pauses",
    "remote_kit.py::scripted.Handler._answer": "an answer of which a byte comes now and then",
    "support.py::wait_until": "looks again until it is so",
}
"""File, and function or class, with the reason why a wait there is short."""


def short_waits(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """Each wait that is too short: the function or class it is in, its line, and what it says."""
    yield from _found(tree, [])


def _found(node: ast.AST, inside: list[str]) -> Iterator[tuple[str, int, str]]:
    for child in ast.iter_child_nodes(node):
        within = inside
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = [*inside, child.name]
        if isinstance(child, ast.Call) and _is_short(child):
            yield ".".join(within) or "-", child.lineno, ast.unparse(child)[:100]
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield from _in_program(child, within)
        yield from _found(child, within)


def _in_program(constant: ast.Constant, inside: list[str]) -> Iterator[tuple[str, int, str]]:
    """Those of a program that a test runs in another process."""
    text = str(constant.value)
    if "\n" not in text or "import" not in text:
        return
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for _, _, call in _found(tree, inside):
        yield ".".join(inside) or "-", constant.lineno, call


def _is_short(call: ast.Call) -> bool:
    name = _name(call.func)
    if name == "sleep":
        # For no time at all: others have their turn.
        return not (call.args and _number(call.args[0]) == 0)
    if _is_httpx(call.func) and name in CLIENTS:
        words = {keyword.arg for keyword in call.keywords}
        if not words & {"timeout", "transport"}:
            return True
    limits = [each.value for each in call.keywords if each.arg in BY_NAME]
    limits += call.args[BY_PLACE[name] :][:1] if name in BY_PLACE else []
    # 0 is no wait: it says that something has happened.
    if any((value := _number(each)) is not None and 0 < value < LEAST for each in limits):
        return True
    in_ms = [_number(each) for each in call.args[:1]] if name in IN_MS else []
    return any(value is not None and 0 < value < 1000 * LEAST for value in in_ms)


def _name(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _is_httpx(func: ast.expr) -> bool:
    return (
        isinstance(func, ast.Attribute)
        and isinstance(func.value, ast.Name)
        and func.value.id == "httpx"
    )


def _number(node: ast.expr) -> float | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    return None


@functools.cache
def found_in(folder: Path) -> dict[str, list[str]]:
    """All of them, by file and function."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        file = path.relative_to(folder).as_posix()
        for where, line, call in short_waits(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(f"{file}::{where}", []).append(f"{file}:{line}: {call}")
    return found


def test_no_wait_is_short(repo: Path) -> None:
    found = found_in(repo / "tests")
    bad = [line for where, lines in found.items() if where not in ALLOWED for line in lines]
    shown = "\n".join(bad)
    assert not bad, (
        f"waits that a busy machine exceeds; take LIMIT, wait_until or joined of tests/support.py, "
        f"or list the function in {Path(__file__).name} with the reason:\n{shown}"
    )


def test_each_exception_is_needed_and_has_its_reason(repo: Path) -> None:
    assert ALLOWED.keys() <= found_in(repo / "tests").keys()
    assert all(len(reason) > 10 for reason in ALLOWED.values())


@pytest.mark.parametrize(
    ("code", "is_short"),
    [
        ("process.wait(20)", True),
        ("process.wait(LIMIT)", False),
        ("process.wait()", False),
        ("future.result(5)", True),
        ("future.result(0)", False),
        ("wait_until(is_done, 5)", True),
        ("', '.join(names)", False),
        ("thread.join(10)", True),
        ("process.communicate(timeout=29)", True),
        ("process.communicate(timeout=30)", False),
        ("httpx.get(url)", True),
        ("httpx.Client(transport=inside)", False),
        ("time.sleep(1)", True),
        ("await asyncio.sleep(0)", False),
        ("await asyncio.sleep(0.1)", True),
        ("db.set_busy_timeout(10_000)", True),
        ("db.set_busy_timeout(60_000)", False),
        ("asyncio.wait_for(task, 5)", True),
        ("RUN = '''\\nimport time\\ntime.sleep(3)\\n'''", True),
    ],
)
def test_what_counts(code: str, is_short: bool) -> None:
    assert bool(list(short_waits(ast.parse(code.replace("\\n", "\n"))))) == is_short
