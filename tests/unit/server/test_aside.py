"""Nothing large is done where requests arrive, on any route."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server import aside, encode, scan
from likewise.server.app import ROOMS, build
from tests.conformance.tiny import write_bert, write_cross_encoder
from tests.support import wait_until

LONG = "w0 w1 w2 w3 " * 40_000
READ = 64
"""Tokens that the models here read."""

Make = Callable[[str], dict[str, Any]]
# What each route is sent: a long text where it reads one, and which model.
BODIES: dict[str, tuple[str, Make]] = {
    "/v1/embeddings": ("bert", lambda text: {"input": text}),
    "/embed": ("bert", lambda text: {"inputs": text, "truncate": True}),
    "/embed_all": ("bert", lambda text: {"inputs": text, "truncate": True}),
    "/similarity": (
        "bert",
        lambda text: {"inputs": {"source_sentence": text, "sentences": [text, "w1"]}},
    ),
    "/predict": ("cross", lambda text: {"inputs": text, "truncate": True}),
    "/": ("bert", lambda text: {"inputs": text, "truncate": True}),
    "/vertex": ("bert", lambda text: {"instances": [{"inputs": text, "truncate": True}]}),
    "/rerank": ("cross", lambda text: {"query": "w1", "texts": [text, "w2"], "truncate": True}),
    "/v1/rerank": ("cross", lambda text: {"query": "w1", "documents": [text, "w2"]}),
    "/api/embed": ("bert", lambda text: {"input": text, "truncate": True}),
    "/api/embeddings": ("bert", lambda text: {"prompt": text}),
    "/v1/embed": ("bert", lambda text: {"texts": [text], "truncate": "END"}),
    "/v2/embed": (
        "bert",
        lambda text: {"texts": [text], "input_type": "clustering", "truncate": "START"},
    ),
    "/score": ("cross", lambda text: {"text_1": "w1", "text_2": text}),
    "/pooling": ("bert", lambda text: {"input": text}),
    "/classify": ("cross", lambda text: {"input": text}),
    "/tokenize": ("bert", lambda text: {"inputs": text}),
    "/decode": ("bert", lambda text: {"ids": [4] * 100_000}),
    "/detokenize": ("bert", lambda text: {"tokens": [4] * 100_000}),
}
WHOLE = {"/tokenize", "/decode", "/detokenize", "/embed_sparse"}
"""What is asked for every token of a text."""
ODD = {"inputs": LONG, "texts": [LONG], "input": LONG, "prompt": LONG, "name": LONG, "query": LONG}
"""What any other route is sent: whatever it makes of it, not where requests arrive."""


class Noting:
    """A tokenizer that notes which thread reads how many characters."""

    def __init__(self, inner: Any, seen: list[tuple[int, int]]) -> None:
        self._inner = inner
        self._seen = seen

    def encode(self, text: str, *more: Any, **how: Any) -> Any:
        self._note([text, *(each for each in more if isinstance(each, str))])
        return self._inner.encode(text, *more, **how)

    def encode_batch(self, texts: list[Any], **how: Any) -> Any:
        self._note([part for each in texts for part in ([each] if isinstance(each, str) else each)])
        return self._inner.encode_batch(texts, **how)

    def encode_batch_fast(self, texts: list[Any], **how: Any) -> Any:
        self._note(texts)
        return self._inner.encode_batch_fast(texts, **how)

    def _note(self, texts: list[str]) -> None:
        self._seen.append((threading.get_ident(), sum(map(len, texts))))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture(scope="module")
def seen() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory, seen: list[tuple[int, int]]
) -> Iterator[dict[str, Service]]:
    folder = tmp_path_factory.mktemp("models")
    made = {"bert": write_bert(folder / "bert"), "cross": write_cross_encoder(folder / "cross")}
    loaded = {name: service.load(path, precision="f32") for name, path in made.items()}
    for one in loaded.values():
        tokenizer: Any = one._tokenizer
        noting = Noting(tokenizer._inner, seen)
        tokenizer._inner = tokenizer.long_texts._inner = noting
        pairs: Any = one._reader._pairs
        if pairs is not None:
            pairs._inner = noting
    yield loaded
    for one in loaded.values():
        one.close()


class Arriving:
    """An application, and the threads in which its requests arrive."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.threads: set[int] = set()
        self.largest = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.threads.add(threading.get_ident())

        async def noted(message: Message) -> None:
            self.largest = max(self.largest, len(message.get("body", b"")))
            await send(message)

        await self.app(scope, receive, noted)


def posted() -> list[str]:
    """Every path that takes a body."""
    taken = [route.path for room in ROOMS for route in room.routes() if _takes_body(route)]
    return sorted({path for path in taken})


def _takes_body(route: Any) -> bool:
    return bool(route.methods & {"POST", "PUT", "DELETE", "PATCH"})


def path_of(route: str) -> str:
    return route.replace("{name:path}", "x").replace("{name}", "x").replace("{deployment}", "bert")


@pytest.mark.parametrize("route", posted())
def test_large_requests_are_answered_elsewhere(
    route: str,
    models: dict[str, Service],
    seen: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, make = BODIES.get(route, ("bert", lambda text: ODD))
    app = Arriving(build({name: models[name]}))
    done_in: list[int] = []
    blank, written = scan.is_blank, encode.to_json

    def is_blank(body: bytes) -> bool:
        done_in.append(threading.get_ident())
        return blank(body)

    def to_json(body: object) -> bytes:
        done_in.append(threading.get_ident())
        return written(body)

    monkeypatch.setattr(scan, "is_blank", is_blank)
    monkeypatch.setattr(encode, "to_json", to_json)
    seen.clear()
    with TestClient(app) as client:
        answer = client.request(
            "DELETE" if route == "/api/delete" else "POST", path_of(route), json=make(LONG)
        )
    if route in BODIES:
        # Some servers refuse what is too long unless they are told otherwise.
        assert answer.status_code == 200 or "has at least" in answer.text, answer.text[:500]
        assert seen or route in WHOLE
    assert not app.threads & {thread for thread, _ in seen}
    assert not app.threads & set(done_in)
    assert app.largest <= aside.SENT_BYTES
    if route not in WHOLE:
        assert sum(characters for _, characters in seen) < 40 * 16 * READ


def test_the_routes_that_read_texts_are_known() -> None:
    assert set(BODIES) <= set(posted())


def test_a_small_request_is_answered_where_it_arrives(
    models: dict[str, Service], seen: list[tuple[int, int]]
) -> None:
    seen.clear()
    app = Arriving(build({"bert": models["bert"]}))
    with TestClient(app) as client:
        assert client.post("/v1/embeddings", json={"input": "w1"}).status_code == 200
    assert {thread for thread, _ in seen} == app.threads


def test_an_answer_comes_in_parts_and_is_whole(models: dict[str, Service]) -> None:
    app = Arriving(build({"bert": models["bert"]}))
    with TestClient(app) as client:
        texts = [f"w{at % 60} w{at // 60 % 60}" for at in range(2048)]
        answer = client.post("/v1/embeddings", json={"input": texts})
    assert app.largest <= aside.SENT_BYTES < len(answer.content)
    assert len(answer.json()["data"]) == 2048
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_loops_end_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_IDLE_S", 0.01)
    loop = aside.Loop("likewise-test")
    ran: list[int] = []

    async def work() -> None:
        await asyncio.to_thread(ran.append, threading.get_ident())

    for _ in range(3):
        loop.run(work()).result(30)
        wait_until(lambda: all(t.name != "likewise-test" for t in threading.enumerate()))
    assert len(ran) == 3


def test_an_error_and_a_cancellation_go_through() -> None:
    loop = aside.Loop("likewise-test")
    begun, ended = threading.Event(), threading.Event()

    async def fails() -> None:
        raise KeyError("here")

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(KeyError, match="here"):
        loop.run(fails()).result(30)
    waiting = loop.run(waits())
    assert begun.wait(30)
    waiting.cancel()
    assert ended.wait(30)


def test_small_messages_stay_as_they_are() -> None:
    small: Message = {"type": "http.response.body", "body": b"x", "more_body": False}
    assert aside._parts(small) == [small]
    large: Message = {"type": "http.response.body", "body": orjson.dumps(LONG * 2)}
    parts = aside._parts(large)
    assert b"".join(part["body"] for part in parts) == large["body"]
    assert [part["more_body"] for part in parts] == [True] * (len(parts) - 1) + [False]
