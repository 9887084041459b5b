"""What guards a server: keys, limits, origins and the certificate, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.server.defaults import Defaults
from likewise.server.origin_patterns import Patterns

if TYPE_CHECKING:
    from likewise.server.keys import KeyRing

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
MAX_URL_BYTES = 16 * 1024
MAX_INPUTS = 2048


@dataclass(frozen=True)
class Guard:
    """Who may ask, and how much of the server one client can hold."""

    keys: KeyRing | None = None
    """None lets everybody in."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the server from a browser, as `origin_patterns` reads them; `*`
    means every one."""
    max_inputs: int = MAX_INPUTS
    """Inputs in one request."""
    strict: bool = False
    """Refuse fields that a dialect doesn't know, in place of ignoring and naming them."""
    defaults: Defaults = Defaults()
    """What holds for requests that don't say otherwise."""
    max_headers: int = MAX_HEADERS
    max_header_bytes: int = MAX_HEADER_BYTES
    """Names and values of all headers together."""
    max_url_bytes: int = MAX_URL_BYTES
    """The path with its query string."""
    max_connections: int = 1000
    """Open connections; a request on one beyond them is refused."""
    head_timeout_s: float = 20.0
    """How long a client may take to send a request's head."""
    body_timeout_s: float = 60.0
    """How long a client may take to send a request's body."""
    keep_alive_s: float = 75.0
    """How long a connection without a request is kept."""
    certificate: tuple[Path, Path] | None = None
    """PEM files of the certificate, with those between it and its root, and of its key."""
    origins: Patterns = field(init=False, compare=False, repr=False)
    """What `cors_origins` means; it can be changed while requests are answered."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "origins", Patterns(self.cors_origins))
