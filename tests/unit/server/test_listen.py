"""Taking a port, and saying why it can't be had."""

import socket

import pytest

from likewise.base.errors import AddressInUse, SettingsError
from likewise.server.listen import address_of, listen
from tests.support import LIMIT


def test_a_free_port_is_listened_on_at_once() -> None:
    with listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert address_of(listener) == f"http://127.0.0.1:{port}"
        # Before anything accepts: the connection waits, it isn't refused.
        with socket.create_connection((host, port), timeout=LIMIT):
            pass


def test_a_taken_port_is_named() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"port {port} on 127.0.0.1 is taken.*--port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no such host", "203.0.113.1", "host.invalid"])
def test_a_host_that_isnt_here(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        listen(host, 0)
    assert refused.value.param == "host"
    assert host in str(refused.value)


def test_ipv6_addresses_are_bracketed() -> None:
    try:
        listener = listen("::1", 0)
    except SettingsError:
        pytest.skip("no IPv6 on this machine")
    with listener:
        assert address_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
