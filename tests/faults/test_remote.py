"""A binding whose model is behind an endpoint: no row is blamed for what the endpoint does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from likewise.base.errors import EndpointKeyRefused, LikewiseError, SpaceMismatch
from likewise.base.spec import BindingSpec
from likewise.binding.canary import require_same_model
from likewise.binding.reconcile import verify
from likewise.binding.status import status
from likewise.binding.worker import Options, Worker
from likewise.client.names import connected
from likewise.server import databases
from tests.binding_kit import DOCS, App, fake_vector, running
from tests.remote_kit import Answering, Asked, Reply, Scripted, keys, right, scripted
from tests.support import wait_until

ROWS = 40
CHUNK = "tokens:64/8"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


class Remote:
    """A bound table, and a worker whose model is remote."""

    def __init__(self, app: App, server: Scripted) -> None:
        self.app = app
        self.environment = {"LIKEWISE_REMOTE_KEY": "a-key"}
        self.model = connected(f"{server.address}?batch=4", keys(self.environment))
        spec = BindingSpec("docs", f"sqlite:{app.path}", "docs", "{title}", model="any")
        self.record = databases.create(spec, self.model.space.with_chunker(CHUNK))
        self.source, self.table = databases.open_ends(self.record)
        self.worker = Worker(
            self.source,
            self.table,
            self.model,
            self.model.splitter(CHUNK),
            options=Options(
                reconcile_seconds=None,
                batch_rows=8,
                most_rows=8,
                first_delay=0.01,
                longest_delay=0.05,
            ),
        )

    def fill(self, count: int = ROWS, text: str = "text {}") -> None:
        self.app("BEGIN")
        for n in range(count):
            self.app(
                "INSERT OR REPLACE INTO docs VALUES (?, ?, ?, 'b')", [n, str(n), text.format(n)]
            )
        self.app("COMMIT")

    def stored(self) -> dict[str, np.ndarray]:
        """Vectors by their text."""
        texts = dict(self.app("SELECT id, title FROM docs"))
        return {
            texts[key[0]]: vector
            for block in self.table.scan()
            for key, vector in zip(block.keys, block.vectors, strict=True)
        }

    def assert_right(self, *, parked: int = 0) -> None:
        now = status(self.source, self.table)
        assert (now.parked, now.pending) == (parked, 0)
        assert verify(self.source, self.table, repair=False).is_clean
        found = self.stored()
        assert len(found) == ROWS - parked
        for text, vector in found.items():
            assert np.array_equal(vector, fake_vector(text)), text

    def close(self) -> None:
        self.worker.close()
        self.source.close()
        self.table.close()
        self.model.close()


@pytest.fixture
def bound(tmp_path: Path, server: Scripted) -> Iterator[Remote]:
    app = App(tmp_path / "app.db", "wal", DOCS)
    made = Remote(app, server)
    yield made
    made.close()
    app.close()


def after(count: int, then: Reply) -> tuple[threading.Event, Answering]:
    """Answers rightly so many times, then `then`, until the event is set."""
    mended = threading.Event()
    lock = threading.Lock()
    seen = 0

    def answer(asked: Asked) -> Reply:
        nonlocal seen
        with lock:
            seen += 1
            return right(asked) if seen <= count or mended.is_set() else then

    return mended, answer


NOT_OF_A_TEXT = {
    "the key is refused": Reply(401, {"error": {"message": "revoked"}}),
    "the key may not": Reply(403),
    "the model is gone": Reply(404, {"error": {"message": "no such model"}}),
    "it moved": Reply(301, None, {"location": "http://elsewhere.example/"}),
    "the account is empty": Reply(402),
    "every request is refused": Reply(400, {"error": {"message": "unknown field"}}),
    "every text is too long": Reply(413),
    "it is broken": Reply(500),
    "it answers nonsense": Reply(body=b"<html>"),
    "it is busy": Reply(503, None, {"retry-after-ms": "10"}),
}


@pytest.mark.parametrize("what", NOT_OF_A_TEXT)
def test_in_the_midst_of_a_backfill(
    bound: Remote, server: Scripted, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, nothing is parked, and the worker goes on once it is mended."""
    monkeypatch.setattr("likewise.client.pace.FIRST_DELAY_S", 0.001)
    monkeypatch.setattr("likewise.client.endpoint.PATIENCE_S", {"bulk": 0.05, "interactive": 0.05})
    mended, answering = after(3, NOT_OF_A_TEXT[what])
    server.otherwise = answering
    bound.fill()
    with running(bound.worker):
        wait_until(lambda: status(bound.source, bound.table).error, what="the error to be shown")
        asked = len(server.asked)
        wait_until(lambda: len(server.asked) > asked + 12, what="it to be tried again")
        now = status(bound.source, bound.table)
        assert (now.state, now.parked) == ("failing", 0)
        assert now.current < ROWS
        mended.set()
        wait_until(lambda: status(bound.source, bound.table).current == ROWS)
        wait_until(lambda: status(bound.source, bound.table).error is None)
    bound.assert_right()


def test_a_key_that_is_put_right_is_used(bound: Remote, server: Scripted) -> None:
    def guarded(asked: Asked) -> Reply:
        is_right = asked.headers.get("authorization") == "Bearer the-new-one"
        return right(asked) if is_right else Reply(401)

    server.otherwise = guarded
    bound.fill()
    with pytest.raises(EndpointKeyRefused, match="LIKEWISE_REMOTE_KEY"):
        bound.worker.drain()
    with running(bound.worker):
        wait_until(lambda: bound.worker.error)
        bound.environment["LIKEWISE_REMOTE_KEY"] = "the-new-one"
        wait_until(lambda: status(bound.source, bound.table).current == ROWS)
    bound.assert_right()


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(400, {"error": {"message": "no"}}),
        Reply(413, {"error": "`inputs` must have less than 512 tokens. Given: 9000"}),
        Reply(500, {"error": "the backend failed"}),
        Reply(body={"data": []}),
    ],
    ids=["refused", "too long", "failed", "garbled"],
)
def test_a_text_that_it_cannot_take_is_parked_alone(
    bound: Remote, server: Scripted, refusal: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.client.pace.FIRST_DELAY_S", 0.001)

    def choosy(asked: Asked) -> Reply:
        return refusal if any("17" in text for text in asked.texts) else right(asked)

    server.otherwise = choosy
    bound.fill()
    bound.worker.drain()
    bound.assert_right(parked=1)
    (parked,) = bound.table.parked(None)
    assert parked.key == (17,)
    server.otherwise = right
    databases.retry_parked(bound.record)
    bound.worker.drain()
    bound.assert_right()


def test_another_model_at_the_same_address(bound: Remote, server: Scripted) -> None:
    require_same_model(bound.table, bound.model)

    def other(asked: Asked) -> Reply:
        reply = right(asked)
        for row, text in zip(reply.body["data"], asked.texts, strict=True):
            row["embedding"] = fake_vector(f"other {text}").tolist()
        return reply

    server.otherwise = other
    with pytest.raises(SpaceMismatch, match="other vectors"):
        require_same_model(bound.table, bound.model)


def test_another_width_ends_the_worker(bound: Remote, server: Scripted) -> None:
    def wide(asked: Asked) -> Reply:
        return Reply(body={"data": [{"embedding": [1.0] * 16} for _ in asked.texts]})

    server.otherwise = wide
    bound.fill()
    bound.worker.run(threading.Event())
    now = status(bound.source, bound.table)
    assert (now.parked, now.current) == (0, 0)
    assert "space_mismatch" in (now.error or "")


def test_many_faults_at_once(
    bound: Remote, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all requests fail in some way that passes; every row gets its vector."""
    monkeypatch.setattr("likewise.client.pace.FIRST_DELAY_S", 0.001)
    pick = np.random.default_rng(7)
    faults = [
        Reply(429, None, {"retry-after-ms": "1"}),
        Reply(503, None, {"retry-after-ms": "1"}),
    ]
    lock = threading.Lock()

    def unlucky(asked: Asked) -> Reply:
        with lock:
            drawn = int(pick.integers(0, 5))
        if drawn == 2:
            reply = right(asked)
            reply.cut = True
            return reply
        return faults[drawn] if drawn < 2 else right(asked)

    server.otherwise = unlucky
    bound.fill()
    try:
        bound.worker.drain()
    except LikewiseError as failed:
        assert failed.retryable
    server.otherwise = right
    bound.worker.drain()
    bound.assert_right()
