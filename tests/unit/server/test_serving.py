"""Lanes and deadlines from headers, hang-ups while a model loads, and what is noted for the log."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.server.app import build
from likewise.server.serving import Fixed, Listed
from tests.unit.server.fakes import FakeModel

NAME = "fake/lengths"


class Lending:
    """A catalogue of one model that is lent when the test says so; it counts who holds it."""

    def __init__(self, model: FakeModel) -> None:
        self._inner = Fixed({NAME: model})
        self.model = model
        self.held = 0
        self.leases: list[Future[contextlib.AbstractContextManager[Any]]] = []
        self.is_loaded = True

    def models(self) -> Sequence[Listed]:
        """The one."""
        return self._inner.models()

    def resolve(self, name: str | None) -> str:
        """Its name."""
        return self._inner.resolve(name)

    def lease(self, name: str, *, keep_alive_s: float | None = None) -> Future[Any]:
        """Granted at once, or when `grant` is called."""
        del name, keep_alive_s
        self.leases.append(Future())
        # Loading has begun: whoever waits for it can't call it off.
        self.leases[-1].set_running_or_notify_cancel()
        if self.is_loaded:
            self.grant()
        return self.leases[-1]

    def grant(self) -> None:
        """The last lease is held from now on."""
        self.held += 1
        self.leases[-1].set_result(self._lent())

    def _lent(self) -> contextlib.AbstractContextManager[Any]:
        lending = self

        class Lent(contextlib.AbstractContextManager[Any]):
            def __enter__(self) -> FakeModel:
                return lending.model

            def __exit__(self, *error: object) -> None:
                lending.held -= 1

        return Lent()


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def lending(model: FakeModel) -> Lending:
    return Lending(model)


@pytest.mark.parametrize(
    ("count", "header", "lane"),
    [
        (1, None, "interactive"),
        (4, None, "interactive"),
        (5, None, "bulk"),
        (1, "bulk", "bulk"),
        (9, "interactive", "interactive"),
    ],
)
def test_the_lane(model: FakeModel, count: int, header: str | None, lane: str) -> None:
    headers = {} if header is None else {"X-Likewise-Lane": header}
    with TestClient(build({NAME: model})) as client:
        client.post("/v1/embeddings", json={"input": ["a"] * count}, headers=headers)
    assert model.asked[0]["lane"] == lane


def test_a_lane_that_is_none(model: FakeModel) -> None:
    with TestClient(build({NAME: model})) as client:
        headers = {"X-Likewise-Lane": "fast"}
        answer = client.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    assert answer.status_code == 400
    assert "known: interactive, bulk" in answer.json()["error"]["message"]


@pytest.mark.parametrize("written", ["0", "-5", "1.5", "", "x", "9" * 30, "٣"])
def test_times_that_are_none(model: FakeModel, written: str) -> None:
    with TestClient(build({NAME: model})) as client:
        headers = {b"X-Likewise-Timeout-Ms": written.encode()}
        answer = client.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    assert answer.status_code == 400
    assert not model.asked


def test_the_deadline_is_the_callers_or_the_servers(model: FakeModel) -> None:
    app = build({NAME: model})
    with TestClient(app) as client:
        client.post("/v1/embeddings", json={"input": "a"})
        app.state.timeout_s = 5.0
        client.post("/v1/embeddings", json={"input": "a"})
        headers = {"X-Likewise-Timeout-Ms": "1000"}
        client.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    none, servers, callers = (asked["deadline"] for asked in model.asked)
    assert none is None
    assert 3 < servers - callers < 6


def test_a_model_is_held_while_it_answers_and_given_back(lending: Lending) -> None:
    with TestClient(build(lending)) as client:
        assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 200
        assert client.post("/v1/embeddings", json={"input": [""]}).status_code == 400
    assert lending.held == 0 and len(lending.leases) == 1


def test_who_hangs_up_while_a_model_loads_holds_nothing(lending: Lending) -> None:
    import asyncio

    lending.is_loaded = False
    app = build(lending)

    async def talk() -> None:
        body = {"type": "http.request", "body": b'{"input": "a"}', "more_body": False}
        messages = iter([body, {"type": "http.disconnect"}])

        async def receive() -> object:
            return next(messages)

        async def send(message: object) -> None:
            raise AssertionError(f"nobody is there: {message}")

        scope = {
            "type": "http", "method": "POST", "path": "/v1/embeddings", "headers": [],
            "query_string": b"", "root_path": "",
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(talk())
    lending.grant()
    assert lending.held == 0, "what is granted too late is given back"
