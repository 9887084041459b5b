"""Who may change what is served: an admin's key, or without any keys a program on this machine."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from likewise.base.errors import Forbidden
from likewise.server.serving import caller_of

if TYPE_CHECKING:
    from starlette.requests import Request

_FORWARDED = ("x-forwarded-for", "x-real-ip", "forwarded")


def require_admin(request: Request, what: str) -> None:
    """Let the request go on if its caller may change what is served; `what` is for the message.

    Without keys only programs on this machine may: neither what a proxy here passes on, nor a web
    page from elsewhere in a browser here, which can post to any server on the loopback address.

    Raises:
        Forbidden: it may not.
    """
    if caller_of(request).get("is_admin"):
        return
    if getattr(request.app.state, "keys", None) is not None:
        raise Forbidden(f"{what} needs an admin key")
    if not _is_from_here(request) or _is_foreign_page(request):
        raise Forbidden(
            f"{what} is for programs on the server's own machine, as long as no keys are set"
        )


def _is_from_here(request: Request) -> bool:
    if any(header in request.headers for header in _FORWARDED):
        return False
    if request.client is None or not request.client.host:
        return True  # a Unix socket
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _is_foreign_page(request: Request) -> bool:
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")
