"""By which host a request calls the server, and which of those a server on loopback answers to."""

from __future__ import annotations

import ipaddress
import socket
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from starlette.datastructures import Headers

from likewise.server.access import PUBLIC
from likewise.server.errors import Refusal
from likewise.server.routing import dialect_of_scope, serves_models

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

    Trust = Literal["sure", "private", "foreign"]

_PRIVATE_SUFFIXES = (".local", ".internal")
"""Ends of names that nobody can register: only the network that this machine is in answers them."""
_PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


class HostCheck:
    """Refuses requests meant for other hosts.

    A server on the loopback address is open to every web page in a browser on this machine unless
    it looks at the name it was called by: a page can let its own name point to 127.0.0.1 (DNS
    rebinding). An address can't be redirected that way, nor can `localhost`. A name of the private
    network (`*.local`, `*.internal`, this machine's own) can be redirected by whoever answers names
    in that network; containers need such names (`host.docker.internal`). They reach the routes of
    models, and no route that reads a database or changes the server.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """Answer to local addresses and names, and to the names in `allowed`, in lower case."""
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            name = name_of(Headers(scope=scope).get("host", ""))
            trust = "sure" if name in self._allowed else trust_of(name)
            _notes(scope)["host"] = trust
            is_open = serves_models(scope) or is_public(scope)
            if trust == "foreign" or (trust == "private" and not is_open):
                await _refusal(name, trust).response(dialect_of_scope(scope))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refusal(name: str, trust: Trust) -> Refusal:
    here = "" if trust == "foreign" else " at this path"
    message = (
        f"this server doesn't answer for the host {name[:200]!r}{here}; "
        f"allow it with --allow-host or server.allowed_hosts"
    )
    return Refusal(421, "invalid_request_error", message, "host_not_allowed")


def is_doubtful(scope: Scope) -> bool:
    """Whether the request named a host that somebody else in the network may have redirected."""
    return bool(_notes(scope).get("host") == "private")


def is_public(scope: Scope) -> bool:
    """Whether the request is one that needs no key."""
    return (scope["method"], scope["path"]) in PUBLIC


def name_of(host: str) -> str:
    """The name or address in a Host header, in lower case, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def trust_of(name: str) -> Trust:
    """What a host's name says of who can have chosen it.

    `sure`: no web page elsewhere can have its browser send it here. `private`: only somebody in
    the same network can. `foreign`: anybody can.
    """
    if name in ("", "localhost") or name.endswith(".localhost"):
        # A browser always names a host; `:7997` is what OLLAMA_HOST=:7997 makes of a client.
        return "sure"
    is_v6 = name.startswith("[") and name.endswith("]")
    try:
        address = ipaddress.ip_address(name[1:-1] if is_v6 else name)
    except ValueError:
        is_private = name.endswith(_PRIVATE_SUFFIXES) or name == _own_name()
        return "private" if is_private else "foreign"
    if (address.version == 6) is not is_v6:
        return "foreign"
    mapped = getattr(address, "ipv4_mapped", None) or address
    is_here = mapped.is_loopback or mapped.is_unspecified
    return "sure" if is_here or any(mapped in one for one in _PRIVATE_NETWORKS) else "foreign"


@cache
def _own_name() -> str:
    return socket.gethostname().lower()


def _notes(scope: Scope) -> dict[str, Any]:
    notes: dict[str, Any] = scope.setdefault("likewise", {})
    return notes
