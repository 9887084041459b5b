"""Likewise: embeddings as a property of your data, on your own machine.

`load()` gives a model, `connect()` one of another server, `bind()` makes vectors follow a table,
`open()` opens a binding to search.
Nothing heavy is imported until one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from likewise.version import __version__

if TYPE_CHECKING:
    from likewise.api import Binding as Binding
    from likewise.api import bind as bind
    from likewise.api import connect as connect
    from likewise.api import load as load
    from likewise.api import open as open
    from likewise.base.errors import LikewiseError as LikewiseError
    from likewise.base.space import Space as Space

_LAZY = {
    "Binding": "likewise.api",
    "LikewiseError": "likewise.base.errors",
    "Space": "likewise.base.space",
    "bind": "likewise.api",
    "connect": "likewise.api",
    "load": "likewise.api",
    "open": "likewise.api",
}

__all__ = ["Binding", "LikewiseError", "Space", "__version__", "bind", "connect", "load", "open"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
