"""A request to the application from within the process, through everything that guards it.

A call over gRPC is answered by the route that answers the same request over HTTP: keys, limits,
lanes, deadlines, metrics, traces and logs hold for both, and both give the same numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from likewise.runtime.sinks import Times

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.types import ASGIApp

_HOST = b"127.0.0.1"


@dataclass(slots=True)
class Answer:
    """What the application answered."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    runs: Sequence[Any] = ()
    """What a model computed for it (`request_record.Run`)."""

    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)

    def times(self) -> Times:
        """Where the time went, on average over what was computed."""
        return Times.mean([run.times for run in self.runs])


async def request(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    body: object = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    client: tuple[str, int] | None = None,
) -> Answer:
    """The answer to `method path` with `body` as JSON.

    Cancelling the task that waits here is what a client's hanging up is over HTTP.
    """
    sent = b"" if body is None else orjson.dumps(body)
    scope = _scope(method, path, query or {}, headers or {}, client, len(sent))
    answer = Answer()
    bodies = [sent]

    async def receive() -> dict[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        await asyncio.Future()
        raise AssertionError("nobody ends this wait; this is a bug")

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    answer.runs = scope.get("likewise", {}).get("runs", ())
    return answer


def _scope(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    client: tuple[str, int] | None,
    length: int,
) -> dict[str, Any]:
    fields = [(b"host", _HOST), (b"content-type", b"application/json")]
    fields.append((b"content-length", str(length).encode()))
    fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": urlencode(query).encode(),
        "root_path": "",
        "headers": fields,
        "client": client,
        "server": None,
    }
