"""Readiness: what is asked, when, and what the answer is while a model fails."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import EngineError, Overloaded
from likewise.runtime import metrics
from likewise.server import readiness
from likewise.server.app import build
from tests.support import wait_until
from tests.unit.server.fakes import FakeModel

READY = {"ready": True, "draining": False, "waiting_for": [], "failing": {}}


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({"m": model})) as client:
        yield client


def asked(model: FakeModel) -> int:
    return sum(one.get("dialect") == "ready" for one in model.asked)


def now(client: TestClient, seconds: float) -> None:
    """Move the clock of readiness."""
    state: Any = client.app
    state.state.readiness._clock = lambda: seconds


def test_a_model_is_asked_once_and_again_when_idle(client: TestClient, model: FakeModel) -> None:
    now(client, 0)
    for _ in range(3):
        assert client.get("/ready").json() == READY
    assert asked(model) == 1
    now(client, readiness.IDLE_S + 1)
    client.get("/ready")
    assert asked(model) == 2


def test_requests_that_are_answered_are_as_good(client: TestClient, model: FakeModel) -> None:
    now(client, 0)
    client.post("/v1/embeddings", json={"input": "a"})
    client.get("/ready")
    assert asked(model) == 0


def test_a_failed_batch_makes_it_ask(client: TestClient, model: FakeModel) -> None:
    now(client, 0)
    client.get("/ready")
    metrics.FAILED_BATCHES.labels("m", "engine_error").inc()
    client.get("/ready")
    assert asked(model) == 2
    client.get("/ready")
    assert asked(model) == 2


def test_a_model_that_fails_is_named_and_recovers(client: TestClient, model: FakeModel) -> None:
    now(client, 0)
    assert client.get("/ready").json() == READY
    model.fails = EngineError("the device is gone")
    now(client, readiness.IDLE_S + 1)
    for _ in range(2):
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert answer.json() == READY | {
            "ready": False, "failing": {"m": "engine_error: the device is gone"}
        }  # fmt: skip
    assert client.get("/health").status_code == 200
    # Whoever wants to know whether the process lives asks no model.
    assert asked(model) == 3
    model.fails = None
    assert client.get("/ready").json() == READY


def test_a_model_that_fails_is_asked_again_at_once(client: TestClient, model: FakeModel) -> None:
    now(client, 0)
    client.get("/ready")
    metrics.FAILED_BATCHES.labels("m", "engine_error").inc()
    model.fails = EngineError("once")
    assert client.get("/ready").status_code == 503
    # Counted with those that had failed when it answered last.
    metrics.FAILED_BATCHES.remove("m", "engine_error")
    model.fails = None
    assert client.get("/ready").json() == READY


def test_too_much_work_is_no_failure(client: TestClient, model: FakeModel) -> None:
    model.fails = Overloaded("too much")
    assert client.get("/ready").json() == READY


def test_a_model_that_hangs_is_not_ready(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FIRST_WAIT_S", 0.01)
    now(client, 0)
    model.held = threading.Event()
    assert "first time" in client.get("/ready").json()["failing"]["m"]
    now(client, readiness.PATIENCE_S + 1)
    assert "asked 31 s ago" in client.get("/ready").json()["failing"]["m"]
    assert asked(model) == 1
    model.held.set()
    wait_until(lambda: client.get("/ready").json() == READY)


def test_what_gives_scores_alone_is_asked_for_one() -> None:
    asked: list[object] = []

    class Reranker(FakeModel):
        def info(self) -> dict[str, Any]:
            return super().info() | {"gives": ["scores"]}

        def submit_pairs(self, pairs: Any, **how: Any) -> Future[Any]:
            asked.append(pairs)
            return super().submit_all(["a"])

    with TestClient(build({"m": Reranker()})) as client:
        assert client.get("/ready").json() == READY
    assert len(asked) == 1


def test_while_draining_it_isnt_ready_and_connections_close(client: TestClient) -> None:
    assert client.get("/ready").json() == READY
    state: Any = client.app
    state.state.readiness.drain()
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == READY | {"ready": False, "draining": True}
    answer = client.post("/v1/embeddings", json={"input": "a"})
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
