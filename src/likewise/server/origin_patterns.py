"""Which origins of web pages are meant by what a setting says, and those let in by default."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from likewise.base.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ANY_ORIGIN = "*"

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")
_DESKTOP = ("app", "file", "tauri", "vscode-webview", "vscode-file")
DEFAULT_ORIGINS = (
    *(f"{scheme}://{host}:*" for host in _LOCAL for scheme in ("http", "https")),
    *(f"{scheme}://*" for scheme in _DESKTOP),
)
"""Origins that Ollama lets in too: pages that a program of this machine serves, and desktop
applications. Extensions of browsers and pages of files in a browser (`null`) are not among them."""

_OF_THE_WEB = frozenset({"http", "https", "ws", "wss", "ftp"})
_PATTERN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<any>\*)|(?P<host>[^\s/?#@*]+?)(?::\*)?)",
    re.IGNORECASE,
)
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>[^\s/?#@*]*)")
_PORT = re.compile(r":[0-9]{1,5}$")


class Patterns:
    """A list of origins and patterns of origins, as settings write them."""

    def __init__(self, written: Collection[str]) -> None:
        self.change(written)

    def change(self, written: Collection[str]) -> None:
        """Be the list `written` from now on; requests may ask meanwhile."""
        lower = [one.lower() for one in written]
        self.has_any = ANY_ORIGIN in lower
        self._exact = frozenset(one for one in lower if "*" not in one)
        self._any_port = frozenset(one[:-2] for one in lower if one.endswith(":*"))
        self._any_host = frozenset(one[:-4] for one in lower if one.endswith("://*"))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.has_any or self._exact or self._any_port or self._any_host)

    def match(self, origin: str) -> bool:
        """Whether a page of `origin`, as browsers write it, is meant."""
        if self.has_any:
            return True
        lower = origin.lower()
        if lower in self._exact:
            return True
        found = _ORIGIN.fullmatch(lower)
        if found is None:
            return False
        return found["scheme"] in self._any_host or _PORT.sub("", lower) in self._any_port


def require_origins(written: Iterable[str]) -> None:
    """Raises `SettingsError` unless each is an origin, a pattern that `Patterns` takes, or `*`."""
    for one in written:
        found = _PATTERN.fullmatch(one)
        if one == ANY_ORIGIN or (found and not (found["any"] and _is_web(found["scheme"]))):
            continue
        raise SettingsError(
            f"{one!r} isn't an origin; write scheme://host or scheme://host:port, such as "
            f"https://app.example, without a path. '*' may stand for a port, as in "
            f"http://localhost:*, for the host of a scheme that isn't the web's, as in app://*, or "
            f"alone for every origin",
            param="cors_origins",
        )


def _is_web(scheme: str) -> bool:
    return scheme.lower() in _OF_THE_WEB
