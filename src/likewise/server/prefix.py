"""Below a path of another address: the prefix is taken from paths, and known where it is shown."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from likewise.base.errors import SettingsError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HEADER = "x-forwarded-prefix"
UNIX = "unix"
"""Who comes over the Unix socket, among trusted proxies."""

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,16}")
_DOTS = frozenset((".", ".."))

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Behind:
    """What stands before the server."""

    root_path: str = ""
    """The path that it stands below, such as `/likewise`; a request may come with it or without."""
    proxies: frozenset[_Network] = frozenset()
    """Whose `X-Forwarded-Prefix` is believed."""
    trusts_unix: bool = False
    """Whether that of whoever comes over the Unix socket is."""


def behind(root_path: str, proxies: Iterable[str]) -> Behind:
    """What stands before the server, as it is written in settings.

    Raises:
        SettingsError: the prefix isn't a path, or a proxy isn't an address or a network.
    """
    prefix = root_path.rstrip("/")
    if prefix and not is_prefix(prefix):
        raise SettingsError(
            f"{root_path!r} isn't a path prefix; write one such as /likewise, of letters, digits "
            "and ._~-",
            param="root_path",
        )
    networks: set[_Network] = set()
    written = list(proxies)
    for proxy in written:
        if proxy == UNIX:
            continue
        try:
            networks.add(ipaddress.ip_network(proxy, strict=False))
        except ValueError:
            raise SettingsError(
                f"the trusted proxy {proxy!r} isn't an address such as 10.0.0.7, a network such as "
                f"10.0.0.0/8, or '{UNIX}' for who comes over the Unix socket",
                param="trusted_proxies",
            ) from None
    return Behind(prefix, frozenset(networks), UNIX in written)


def is_prefix(path: str) -> bool:
    """Whether a path may be a prefix: nothing that means something else in a link or a header."""
    return _PREFIX.fullmatch(path) is not None and not _DOTS & set(path.split("/"))


def prefix_of(scope: Scope) -> str:
    """The path that the server stands below for who sent a request: `` or such as `/likewise`."""
    return str(scope.get("likewise", {}).get("prefix", ""))


class Prefix:
    """Takes the prefix from the path of each request, and notes it for what shows links."""

    def __init__(self, app: ASGIApp, behind: Behind) -> None:
        self._app = app
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            root, path, told = self._behind.root_path, str(scope["path"]), self._told(scope)
            prefix = told or root
            if root and path.startswith(f"/{root}/"):
                # The slash stays doubled: which routes may be spelled so is seen later.
                scope = _without(f"/{root}", scope, before="/")
            elif root and (path == root or path.startswith(f"{root}/")):
                prefix = told + root if told != root else root
                if path == root and scope["method"] in ("GET", "HEAD"):
                    # What a page links to is looked for beside its last slash.
                    await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
                    return
                scope = _without(root, scope)
            if prefix:
                scope["likewise"] = {**scope.get("likewise", {}), "prefix": prefix}
        await self._app(scope, receive, send)

    def _told(self, scope: Scope) -> str:
        """What a trusted proxy says that it took away."""
        written = Headers(scope=scope).get(HEADER, "").rstrip("/")
        return written if written and is_prefix(written) and self._trusts(scope) else ""

    def _trusts(self, scope: Scope) -> bool:
        client = scope.get("client")
        if not client or not client[0]:
            return self._behind.trusts_unix
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        # What a socket for both versions calls a client of version 4.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._behind.proxies)


def _without(prefix: str, scope: Scope, *, before: str = "") -> Scope:
    """The request with `before` in the place of a prefix of its path."""
    path = before + (scope["path"].removeprefix(prefix) or "/")
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    rest = before.encode() + (raw.removeprefix(prefix.encode()) or b"/")
    return {**scope, "path": path, "raw_path": rest}
