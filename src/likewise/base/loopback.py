"""Which hosts are this machine: what goes there never goes through a proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, always means this machine."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    # The unspecified address, as a server is told to listen at, reaches this machine.
    return mapped.is_loopback or mapped.is_unspecified


def is_loopback_url(url: str) -> bool:
    """Whether the URL's host is this machine; False where it has none."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
