"""Signals: what the first and the second one do, with and without time to drain."""

import asyncio
import signal

import pytest

from likewise.server import run
from likewise.server.app import build
from tests.unit.server.fakes import FakeModel


def tick(server: run.Server) -> bool:
    return asyncio.run(server.on_tick(1))


def test_without_time_to_drain_it_stops_at_once() -> None:
    stopped: list[str] = []
    server = run.server(build({"m": FakeModel()}), on_stop=lambda: stopped.append("told"))
    assert not tick(server)
    server.handle_exit(signal.SIGTERM, None)
    assert stopped == ["told"]
    assert server.should_exit
    assert not server.force_exit


def test_it_takes_connections_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(run, "monotonic", lambda: now)
    stopped: list[str] = []
    app = build({"m": FakeModel()})
    server = run.server(app, on_stop=lambda: stopped.append("told"), drain_s=5)
    server.handle_exit(signal.SIGTERM, None)
    # Readiness is down before the port is closed.
    assert stopped == ["told"]
    assert not tick(server)
    now = 104.9
    assert not tick(server)
    now = 105.0
    assert tick(server)
    assert not server.force_exit


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_drops_what_runs(second: signal.Signals) -> None:
    stopped: list[str] = []
    app = build({"m": FakeModel()})
    server = run.server(app, on_stop=lambda: stopped.append("told"), drain_s=600)
    server.handle_exit(signal.SIGTERM, None)
    server.handle_exit(second, None)
    assert stopped == ["told"]
    assert tick(server)
    assert server.force_exit
