"""What tests of remote models share: an endpoint on the loopback that answers as it is told."""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.binding_kit import fake_vector
from tests.support import LIMIT


@dataclass
class Reply:
    """One answer. `body` is sent as JSON unless it is bytes; `cut` sends only half of it."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    after: threading.Event | None = None
    """Not before this is set."""
    drips: bool = False
    """A byte now and then, for as long as the client listens."""


@dataclass
class Asked:
    """One request."""

    path: str
    body: Any
    headers: Mapping[str, str]

    @property
    def texts(self) -> list[str]:
        return list(self.body["input"])


def right(asked: Asked) -> Reply:
    """What an OpenAI endpoint says whose model is `fake_vector`."""
    rows = []
    for at, text in enumerate(asked.texts):
        raw = fake_vector(text).astype("<f4")
        is_base64 = asked.body.get("encoding_format") == "base64"
        vector: Any = base64.b64encode(raw.tobytes()).decode() if is_base64 else raw.tolist()
        rows.append({"object": "embedding", "index": at, "embedding": vector})
    return Reply(body={"object": "list", "model": "m", "data": rows})


Answering = Callable[[Asked], Reply]


class Scripted:
    """Answers requests by `script`, each entry once, and then by `otherwise`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: deque[Reply | Answering] = deque()
        self.otherwise: Answering = right
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"openai:m@{self.url}/v1"

    def answer(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            turn: Reply | Answering = self.script.popleft() if self.script else self.otherwise
        return turn if isinstance(turn, Reply) else turn(asked)

    def say(self, *turns: Reply | Answering) -> None:
        self.script.extend(turns)


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A server on a port of its own while the block runs."""

    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        """Head and body leave together: apart, the second waits for the other end to say it has
        the first."""

        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = made.answer(Asked(self.path, json.loads(raw) if raw else None, headers))
            if reply.after is not None:
                reply.after.wait(LIMIT)
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            while reply.drips and not ending.wait(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()
            self.wfile.write(body[: len(body) // 2] if reply.cut else body)
            self.close_connection = reply.cut

        do_GET = do_POST = _answer

        def log_message(self, *values: object) -> None:
            """Nothing is printed."""

        def handle(self) -> None:
            # A client that went away is what some tests are about.
            try:
                super().handle()
            except ConnectionError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Scripted(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Time:
    """A clock that goes on only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


def without_key() -> Callable[[str], Callable[[], str | None]]:
    """No variable of the environment has a key."""
    return keys({})


def keys(environment: Mapping[str, str]) -> Callable[[str], Callable[[], str | None]]:
    """The keys in `environment`, as it is at each request."""
    return lambda variable: lambda: environment.get(variable)


def vectors(texts: Sequence[str]) -> list[list[float]]:
    return [fake_vector(text).tolist() for text in texts]
