"""Which names of models are addresses of remote ones, and what reaches those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from likewise.base.names import resolve
from likewise.client.address import FORMS, Address, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from likewise.client.embedder import RemoteEmbedder
    from likewise.client.endpoint import Endpoint

ENDPOINTS: Mapping[str, str] = {kind: "likewise.client.endpoint:Endpoint" for kind in FORMS}
EMBEDDER: Mapping[str, str] = {kind: "likewise.client.embedder:RemoteEmbedder" for kind in FORMS}
EXTRAS: Mapping[str, str] = dict.fromkeys(FORMS, "remote")
"""The extra that brings what speaks HTTP."""

Keys = "Callable[[str], Callable[[], str | None]]"
"""What reads the key in an environment variable, again each time it is asked."""


def is_remote(name: str | None) -> bool:
    """Whether `name` is the address of a remote model, not the name of one to run here."""
    return name is not None and name.partition(":")[0] in FORMS and ":" in name


def endpoint_at(name: str, keys: Callable[[str], Callable[[], str | None]]) -> Endpoint:
    """The endpoint at the address `name`, not asked yet; `keys` reads variables of secrets.

    Raises:
        SettingsError: it isn't an address.
        MissingExtra: what speaks HTTP isn't installed.
    """
    address: Address = parse(name)
    made: Any = resolve(address.kind, ENDPOINTS, what="remote model", extras=EXTRAS)
    found: Endpoint = made(address, keys(address.key_variable))
    return found


def embedder_of(endpoint: Endpoint, *, owns: bool = False) -> RemoteEmbedder:
    """The model of an endpoint, which is asked now what it is.

    Raises:
        LikewiseError: it can't be asked, or doesn't have that model.
    """
    made: Any = resolve(endpoint.address.kind, EMBEDDER, what="remote model", extras=EXTRAS)
    found: RemoteEmbedder = made(endpoint, owns=owns)
    return found


def connected(name: str, keys: Callable[[str], Callable[[], str | None]]) -> RemoteEmbedder:
    """The remote model at the address `name`; closing it closes the connections.

    Raises:
        SettingsError: it isn't an address, or the model doesn't do what it says.
        MissingExtra: what speaks HTTP isn't installed.
        LikewiseError: the endpoint can't be asked, or doesn't have that model.
    """
    endpoint = endpoint_at(name, keys)
    try:
        return embedder_of(endpoint, owns=True)
    except BaseException:
        endpoint.close()
        raise
