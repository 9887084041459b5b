"""`Launch`: what a server is to serve, and where, as flags and settings say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.cli.guarding import Guarding
from likewise.cli.reaching import Reaching
from likewise.cli.resolve import Keeping
from likewise.cli.settings import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from likewise.base.spec import BindingSpec
    from likewise.cli.resolve import Place


@dataclass(frozen=True)
class Launch:
    """What to serve, and where."""

    place: Place
    models: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    """Addresses of stores; every binding in them is kept in step and served."""
    specs: tuple[BindingSpec, ...] = ()
    """Bindings that are made if they aren't there, kept in step and served."""
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    grpc_port: int | None = None
    """Where gRPC is served too, on the same host; nowhere when None."""
    allowed_hosts: tuple[str, ...] = ()
    max_body_mib: int = 32
    guarding: Guarding = Guarding()
    """Who may ask, and how much."""
    reaching: Reaching = Reaching()
    """Over what, and below which path."""
    drain_s: float = 0.0
    """Seconds to take connections after a signal to stop, while `/ready` says no."""
    otlp_endpoint: str | None = None
    """Where traces are sent; nowhere when None."""
    keeping: Keeping = Keeping()
    again: Callable[[], Launch] | None = None
    """Reads the settings again, on SIGHUP; None where there are only flags."""
