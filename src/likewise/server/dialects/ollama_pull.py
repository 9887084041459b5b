"""Ollama's dialect, what changes the models that are served: `/api/pull` and `/api/delete`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, runtime_checkable

import msgspec
import orjson
from starlette.responses import Response, StreamingResponse

from likewise.base.errors import AdminError, InputError, LikewiseError
from likewise.base.log import fields, logger
from likewise.server.dialects import ollama_bodies
from likewise.server.dialects.ollama_names import fetchable, is_served, served_name
from likewise.server.errors import json_response
from likewise.server.local import require_admin
from likewise.server.routing import Spoken
from likewise.server.serving import waited

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.models.locate import Fetching, Progress
    from likewise.server.serving import Catalogue

_log = logger("server")

_NDJSON = "application/x-ndjson"


@runtime_checkable
class Changeable(Protocol):
    """A catalogue that models can be added to and taken from."""

    def fetch(self, name: str, *, progress: Progress) -> str:
        """Fetch the model that the hub calls `name` and serve it; its full name.

        Waits until it is there. `progress` is called on any thread.
        """
        ...

    def remove(self, name: str) -> None:
        """Stop serving the model called `name` (a full one) and delete it from the cache.

        Raises:
            AdminError: it lies in a folder of the user's own.
        """
        ...


class PullRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/pull`; `name` is what `model` was called once.

    Ollama's own client sends `username` and `password` too; the hub is asked with its own token.
    """

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    insecure: bool | None = None
    username: str | None = None
    password: str | None = None


class DeleteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `DELETE /api/delete`; `name` is what `model` was called once."""

    model: str | None = None
    name: str | None = None


class PullAnswer(TypedDict):
    """One line of the answer of `POST /api/pull`, or all of it."""

    status: str
    digest: NotRequired[str]
    total: NotRequired[int]
    completed: NotRequired[int]


_PULL = msgspec.json.Decoder(PullRequest)
_DELETE = msgspec.json.Decoder(DeleteRequest)
_SUCCESS: PullAnswer = {"status": "success"}
_BEGIN: PullAnswer = {"status": "pulling manifest"}


def routes() -> list[Route]:
    """What is for admins."""
    return [
        Spoken(
            "/api/pull",
            pull,
            methods=["POST"],
            dialect="ollama",
            body=PullRequest,
            answer=PullAnswer,
            media_types=(_NDJSON, "application/json"),
        ),
        Spoken(
            "/api/delete",
            delete,
            methods=["DELETE"],
            dialect="ollama",
            body=DeleteRequest,
            media_types=(),
        ),
    ]


async def pull(request: Request) -> Response:
    """Fetch a model from the hub and serve it; one that is served is there already."""
    asked = await ollama_bodies.read(request, _PULL)
    name = _named(asked)
    streams = asked.stream is not False
    catalogue: Catalogue = request.app.state.models
    if is_served(catalogue, name):
        if not streams:
            return json_response(_SUCCESS)
        return Response(_line(_BEGIN) + _line(_SUCCESS), media_type=_NDJSON)
    require_admin(request, "pulling a model")
    pulling = _Pulling(_changeable(catalogue), fetchable(name))
    if not streams:
        await waited(request, pulling.done)
        return json_response(_SUCCESS)
    # What fails before the first byte still gets its status.
    first = await pulling.steps.get()
    if first is None:
        pulling.done.result()
    return StreamingResponse(pulling.lines(first), media_type=_NDJSON)


async def delete(request: Request) -> Response:
    """Stop serving a model, and delete it from the cache."""
    asked = await ollama_bodies.read(request, _DELETE)
    require_admin(request, "deleting a model")
    catalogue: Catalogue = request.app.state.models
    name = served_name(catalogue, _named(asked))
    await asyncio.to_thread(_changeable(catalogue).remove, name)
    return Response()


def _named(asked: PullRequest | DeleteRequest) -> str:
    name = asked.model or asked.name
    if not name:
        raise InputError("the field 'model' is missing", param="model")
    return name


def _changeable(catalogue: object) -> Changeable:
    if isinstance(catalogue, Changeable):
        return catalogue
    raise AdminError("this server serves a fixed list of models; none can be added or taken away")


class _Pulling:
    """A model on its way here; it goes on when the client that asked for it leaves."""

    def __init__(self, catalogue: Changeable, name: str) -> None:
        """Begin; in an event loop."""
        self.done: Future[str] = Future()
        self.steps: asyncio.Queue[Fetching | None] = asyncio.Queue()
        """How far it is, then None."""
        self._loop = asyncio.get_running_loop()
        self.done.set_running_or_notify_cancel()
        # A thread of its own: a long download would take one that answers wait for.
        threading.Thread(
            target=self._fetch, args=(catalogue, name), name="likewise-pull", daemon=True
        ).start()

    def _fetch(self, catalogue: Changeable, name: str) -> None:
        try:
            self.done.set_result(catalogue.fetch(name, progress=self._tell))
        except BaseException as failure:  # noqa: BLE001 - whoever waits gets it
            self.done.set_exception(failure)
        self._tell(None)

    def _tell(self, step: Fetching | None) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            self._loop.call_soon_threadsafe(self.steps.put_nowait, step)

    async def lines(self, step: Fetching | None) -> AsyncIterator[bytes]:
        """The answer, from `step` on."""
        yield _line(_BEGIN)
        while step is not None:
            yield _line(_progress(step))
            step = await self.steps.get()
        yield _line(self._ending())

    def _ending(self) -> Mapping[str, Any]:
        failure = self.done.exception()
        if failure is None:
            return _SUCCESS
        if isinstance(failure, LikewiseError):
            return {"error": str(failure)}
        _log.error(fields("bug", path="/api/pull"), exc_info=failure)
        return {"error": "the server failed to fetch it; this is a bug, its log has the details"}


def _progress(step: Fetching) -> PullAnswer:
    # Clients keep a bar for each digest; the files' real ones are known only afterwards.
    found: PullAnswer = {
        "status": f"pulling {step.name} from the {step.place}",
        "digest": step.name,
        "completed": step.done_bytes,
    }
    if step.total_bytes is not None:
        found["total"] = step.total_bytes
    return found


def _line(content: Mapping[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
