"""Which hosts always mean this machine."""

import pytest

from likewise.base.loopback import is_loopback, is_loopback_url


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::",
     "::ffff:127.0.0.1"],
)  # fmt: skip
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert is_loopback_url(f"https://[{host}]:1/v1" if ":" in host else f"http://{host}:1/v1")


@pytest.mark.parametrize(
    "host", ["", "example.com", "localhost.example.com", "10.0.0.1", "128.0.0.1", "::2", "127.1.x"]
)
def test_another(host: str) -> None:
    assert not is_loopback(host)
    assert not is_loopback_url(f"http://{host}/")


def test_what_is_no_url() -> None:
    assert not is_loopback_url("http://[::1")
