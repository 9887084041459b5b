"""Packages that may be missing: the extra that brings each, and what to type to install it.

Every import of such a package goes through `needed` (or a table given to `names.resolve`), so that
one that is missing is a `MissingExtra` and never a traceback.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from likewise.base.errors import MissingExtra

EXTRAS: Mapping[str, str] = {
    "bs4": "files",
    "duckdb": "duckdb",
    "google": "grpc",
    "grpc": "grpc",
    "grpc_health": "grpc",
    "grpc_reflection": "grpc",
    "httpcore": "remote",
    "httpx": "remote",
    "jinja2": "rerank",
    "opentelemetry": "otel",
    "psycopg": "postgres",
    "pyarrow": "parquet",
    "pypdf": "files",
    "requests": "otel",
    "torch": "torch",
    "transformers": "torch-any",
    "watchfiles": "files",
}
"""Each importable package that only an extra brings; where several do, the smallest."""

OTHERS: Mapping[str, str] = {
    "model2vec": "model2vec",
    "sentence_transformers": "sentence-transformers",
}
"""Packages of no extra, which one option asks for: what to compare with."""

OPTIONAL = frozenset({"flash_attn"})
"""Packages that are used where they are there, and that nothing asks for."""


def install(*requirements: str) -> str:
    """The command that installs `requirements` for the interpreter that runs this."""
    python = shlex.quote(sys.executable or "python3")
    what = " ".join(shlex.quote(each) for each in requirements)
    if is_installed("pip"):
        return f"{python} -m pip install {what}"
    # Environments that uv makes have no pip.
    return f"uv pip install --python {python} {what}"


def is_installed(package: str) -> bool:
    """Whether `import package` finds something; nothing is imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def missing(
    error: ImportError, what: str, *, extra: str | None = None, param: str | None = None
) -> MissingExtra | None:
    """What to say where `what` failed with `error`; None when no package of an extra is behind it.

    Where what is missing is needed by such a package in turn, that is the one. Without `extra` the
    package says which it is.
    """
    if isinstance(error, MissingExtra):
        return error
    package = (error.name or "").partition(".")[0]
    asking = next((name for name in (package, *_importing(error)) if name in _KNOWN), None)
    if asking is None or package == "likewise":
        return None
    is_absent = isinstance(error, ModuleNotFoundError) and bool(package)
    why = "isn't installed" if is_absent else f"can't be imported ({error})"
    requirement = f"likewise[{extra}]" if extra is not None else _KNOWN[asking]
    return MissingExtra(
        f"{what} needs the package {package or asking}, which {why}. Install it with: "
        f"{install(requirement)}",
        param=param,
    )


@contextlib.contextmanager
def needed(what: str, *, extra: str | None = None, param: str | None = None) -> Iterator[None]:
    """Import what `what` needs in the block.

    `extra` is the one that brings it, where a package is brought by several.

    Raises:
        MissingExtra: a package isn't installed, or can't be imported.
    """
    try:
        yield
    except ImportError as failed:
        found = missing(failed, what, extra=extra, param=param)
        if found is None or found is failed:
            raise
        raise found from failed


_KNOWN: Mapping[str, str] = {
    **OTHERS,
    **{name: f"likewise[{extra}]" for name, extra in EXTRAS.items()},
}


def _importing(error: ImportError) -> Iterator[str]:
    """The packages whose code was running when `error` was raised, the innermost first."""
    names, trace = [], error.__traceback__
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        trace = trace.tb_next
    yield from reversed(names)
