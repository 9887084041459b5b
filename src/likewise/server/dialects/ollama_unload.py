"""Ollama's `/api/generate` and `/api/chat`, of which a server of embeddings has the unloading."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec

from likewise.base.clock import wall
from likewise.base.errors import InputError
from likewise.server.dialects import keep_alive, ollama_bodies
from likewise.server.dialects.ollama_names import chosen_name
from likewise.server.errors import json_response
from likewise.server.routing import Spoken
from likewise.server.serving import using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.server.serving import Catalogue


class _Generating(msgspec.Struct, forbid_unknown_fields=True):
    """What Ollama's clients send along about generating, which nothing here looks at."""

    stream: Any = None
    format: Any = None
    options: Any = None
    think: Any = None
    truncate: Any = None
    shift: Any = None
    logprobs: Any = None
    top_logprobs: Any = None


class GenerateRequest(_Generating, forbid_unknown_fields=True):
    """The body of `POST /api/generate`; the first three fields unload a model."""

    model: str | None = None
    prompt: str | None = None
    keep_alive: float | str | None = None
    suffix: Any = None
    system: Any = None
    template: Any = None
    context: Any = None
    raw: Any = None
    images: Any = None


class ChatRequest(_Generating, forbid_unknown_fields=True):
    """The body of `POST /api/chat`; the first three fields unload a model."""

    model: str | None = None
    messages: list[Any] | None = None
    keep_alive: float | str | None = None
    tools: Any = None


class Message(TypedDict):
    """What a chat answers when there is nothing to say."""

    role: str
    content: str


class UnloadAnswer(TypedDict):
    """The answer of both routes: `response` of `/api/generate`, `message` of `/api/chat`."""

    model: str
    created_at: str
    response: NotRequired[str]
    message: NotRequired[Message]
    done: bool
    done_reason: str


_GENERATE = msgspec.json.Decoder(GenerateRequest)
_CHAT = msgspec.json.Decoder(ChatRequest)


def routes() -> list[Route]:
    """What `ollama stop` and the unload buttons of programs send."""
    return [
        _post("/api/generate", generate, GenerateRequest),
        _post("/api/chat", chat, ChatRequest),
    ]


def _post(path: str, endpoint: Any, asked: Any) -> Spoken:
    return Spoken(
        path, endpoint, methods=["POST"], dialect="ollama", body=asked, answer=UnloadAnswer
    )


async def generate(request: Request) -> Response:
    """Unload a model: `keep_alive` 0 without a prompt."""
    asked = await ollama_bodies.read(request, _GENERATE)
    name = _served(request, asked.model)
    if asked.prompt or not _ends(asked.keep_alive):
        raise _unable(asked.model or name, "generate")
    await _unload(request, name)
    return json_response(_answer(asked.model or name) | {"response": ""})


async def chat(request: Request) -> Response:
    """Unload a model: `keep_alive` 0 without messages."""
    asked = await ollama_bodies.read(request, _CHAT)
    name = _served(request, asked.model)
    if asked.messages or not _ends(asked.keep_alive):
        raise _unable(asked.model or name, "chat")
    await _unload(request, name)
    said: Message = {"role": "assistant", "content": ""}
    return json_response(_answer(asked.model or name) | {"message": said})


def _served(request: Request, asked: str | None) -> str:
    return chosen_name(request, asked, is_plain=True)


def _ends(stays: float | str | None) -> bool:
    """Whether the model is to be unloaded at once; Ollama counts whole seconds."""
    stays_s = keep_alive.seconds(stays)
    return stays_s is not None and stays_s < 1


def _unable(name: str, what: str) -> InputError:
    return InputError(
        f'"{name}" does not support {what}: this server gives embeddings and scores', param="model"
    )


async def _unload(request: Request, name: str) -> None:
    """Stop keeping a model in memory; one that isn't there is left alone."""
    catalogue: Catalogue = request.app.state.models
    if any(one.name == name and one.state == "unloaded" for one in catalogue.models()):
        return
    async with using(request, name, keep_alive_s=0):
        pass


def _answer(name: str) -> dict[str, Any]:
    now = datetime.fromtimestamp(wall(), UTC).isoformat().replace("+00:00", "Z")
    return {"model": name, "created_at": now, "done": True, "done_reason": "unload"}
