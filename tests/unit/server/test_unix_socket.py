"""A Unix socket: its mode, what is replaced and what never is, and what is left behind."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import httpx
import pytest

from likewise.base.errors import AddressInUse, SettingsError
from likewise.cli.reaching import Reaching
from likewise.server.app import build
from likewise.server.listen import address_of
from likewise.server.run import server
from likewise.server.unix_socket import unix_listener
from tests.unit.server.fakes import FakeModel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def stale(path: Path) -> None:
    """A socket file whose server is gone."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_it_has_its_mode_and_is_removed_at_the_end(path: Path, mode: int) -> None:
    before = os.umask(0o022)
    try:
        with unix_listener(path, mode) as listener:
            there = path.lstat().st_mode
            assert stat.S_ISSOCK(there) and stat.S_IMODE(there) == mode
            assert address_of(listener) == f"unix:{path}"
        assert not path.exists()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_one_that_nobody_listens_on_is_replaced(path: Path) -> None:
    stale(path)
    with unix_listener(path, 0o660), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))


def test_one_that_is_listened_on_is_left_alone(path: Path) -> None:
    with unix_listener(path, 0o660):
        there = path.lstat().st_ino
        with pytest.raises(AddressInUse, match="another program listens"):
            unix_listener(path, 0o660).__enter__()
        assert path.lstat().st_ino == there


def test_what_is_no_socket_is_never_removed(path: Path, tmp_path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(SettingsError, match="isn't a socket"):
        unix_listener(path, 0o660).__enter__()
    assert path.read_text() == "mine"
    link = tmp_path / "link"
    stale(tmp_path / "old")
    link.symlink_to(tmp_path / "old")
    with pytest.raises(SettingsError, match="isn't a socket"):
        unix_listener(link, 0o660).__enter__()
    assert (tmp_path / "old").exists()


def test_that_of_another_server_is_not_removed_at_the_end(path: Path) -> None:
    with unix_listener(path, 0o660):
        path.unlink()
        stale(path)
    assert path.exists()


@pytest.mark.parametrize("where", ["missing/s", "x" * 200])
def test_where_no_socket_can_be(tmp_path: Path, where: str) -> None:
    with pytest.raises(SettingsError, match="can't listen on the Unix socket"):
        unix_listener(tmp_path / where, 0o660).__enter__()


@pytest.mark.parametrize(("written", "mode"), [("660", 0o660), ("0666", 0o666), ("0o600", 0o600)])
def test_modes(written: str, mode: int) -> None:
    assert Reaching(uds_mode=written).mode == mode


@pytest.mark.parametrize("written", ["rw", "888", "6600", "-1", "٦٦٠"])
def test_what_is_no_mode_is_refused(written: str) -> None:
    with pytest.raises(SettingsError, match="mode of the Unix socket"):
        _ = Reaching(uds_mode=written).mode


def test_requests_over_it(path: Path) -> None:
    with unix_listener(path, 0o660) as listener:
        running = server(build({"m": FakeModel()}))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            transport = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=transport, base_url="http://any.name", timeout=30) as asks:
                assert asks.post("/v1/embeddings", json={"input": "a"}).status_code == 200
                # Who may open the socket is on this machine; a proxy says for whom it asks.
                assert asks.post("/admin/models/unload", json={}).status_code != 403
                told = {"x-forwarded-for": "192.0.2.1"}
                assert asks.post("/admin/models/unload", json={}, headers=told).status_code == 403
        finally:
            running.should_exit = True
            thread.join()
