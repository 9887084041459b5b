"""For those who run the server: which models there are; load, unload, reload, rename, delete."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import msgspec

from likewise.base import durations
from likewise.base.errors import (
    AdminError,
    InputError,
    ModelNotFound,
    SettingsError,
)
from likewise.base.names import nearest
from likewise.base.precision import Precision
from likewise.engines.names import AUTO, ENGINES
from likewise.models.locate import named
from likewise.runtime.making import Wanted
from likewise.runtime.registry import Registry
from likewise.server import body
from likewise.server.described import with_weights
from likewise.server.errors import json_response
from likewise.server.local import require_admin
from likewise.server.routing import Endpoint, Spoken
from likewise.server.serving import give_back, noted, waited

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.runtime.entry import View


T = TypeVar("T", bound=msgspec.Struct)


class LoadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /admin/models/load`."""

    model: str
    precision: Precision | None = None
    engine: str | None = None
    keep_alive: str | float | None = None
    pinned: bool | None = None
    aliases: list[str] = []


class NameRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /admin/models/unload` and `/reload`."""

    model: str


class AliasRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /admin/models/alias`; `model` null takes the alias away."""

    alias: str
    model: str | None


class AdminModel(TypedDict, total=False):
    """What is said of one model; of one that is loaded, also what `/health` says."""

    model: str
    state: Literal["loaded", "loading", "unloaded", "failed"]
    aliases: list[str]
    source: str
    keep_alive_s: float | None
    pinned: bool
    bindings: list[str]
    watched: bool
    error: str | None
    retry_in_s: float | None
    loads: int
    seconds: float


class AdminModels(TypedDict):
    """The answer of `GET /admin/models`."""

    models: list[AdminModel]
    resident_bytes: int
    memory_budget_bytes: int | None
    troubles: dict[str, str]


class Unloaded(TypedDict):
    """The answer of `POST /admin/models/unload`."""

    model: str
    was_loaded: bool
    seconds: float


class Reloaded(TypedDict, total=False):
    """The answer of `POST /admin/models/reload`."""

    model: str
    generation: int
    space_changed: bool
    seconds: float
    note: str


class Aliased(TypedDict):
    """The answer of `POST /admin/models/alias`."""

    alias: str
    model: str | None


class Removed(TypedDict):
    """The answer of `DELETE /admin/models/{name}`."""

    model: str
    removed: bool


_LOAD = msgspec.json.Decoder(LoadRequest)
_NAME = msgspec.json.Decoder(NameRequest)
_ALIAS = msgspec.json.Decoder(AliasRequest)


def routes() -> list[Route]:
    """What operators may do."""
    at = "/admin/models"
    return [
        _route(at, models, "GET", answer=AdminModels),
        _route(f"{at}/load", load, "POST", body=LoadRequest, answer=AdminModel),
        _route(f"{at}/unload", unload, "POST", body=NameRequest, answer=Unloaded),
        _route(f"{at}/reload", reload, "POST", body=NameRequest, answer=Reloaded),
        _route(f"{at}/alias", alias, "POST", body=AliasRequest, answer=Aliased),
        _route(f"{at}/{{name:path}}", remove, "DELETE", answer=Removed),
    ]


def _route(path: str, endpoint: Endpoint, method: str, **described: Any) -> Spoken:
    return Spoken(path, endpoint, methods=[method], dialect="likewise", **described)


async def models(request: Request) -> Response:
    """All models, loaded or not, with everything that is known of them."""
    registry = _registry(request)
    told = await asyncio.to_thread(lambda: [_told(view) for view in registry.models()])
    return json_response(
        {
            "models": told,
            "resident_bytes": registry.resident_bytes,
            "memory_budget_bytes": registry.options.memory_budget,
            "troubles": dict(registry.troubles),
        }
    )


async def load(request: Request) -> Response:
    """Load a model, which needn't be in the list yet; answered once it is loaded.

    A client that hangs up stops nothing.
    """
    registry = _registry(request)
    asked = await _asked(request, _LOAD)
    began = time.perf_counter()
    name = _entered(registry, asked)
    noted(request)["model"] = name
    leasing = registry.load(name)
    # It is only to be there: nobody holds it.
    leasing.add_done_callback(give_back)
    await waited(request, leasing)
    told = await asyncio.to_thread(_told, registry.model(name))
    return json_response(told | {"seconds": _since(began)})


async def unload(request: Request) -> Response:
    """Unload a model; answered once who held it has given it back."""
    registry = _registry(request)
    asked = await _asked(request, _NAME)
    began = time.perf_counter()
    name = noted(request)["model"] = registry.resolve(asked.model)
    was_loaded = await waited(request, registry.unload(name))
    return json_response({"model": name, "was_loaded": was_loaded, "seconds": _since(began)})


async def reload(request: Request) -> Response:
    """Load a model anew from its files and give out the new one; no request fails meanwhile."""
    registry = _registry(request)
    asked = await _asked(request, _NAME)
    name = noted(request)["model"] = registry.resolve(asked.model)
    told: dict[str, Any] = await waited(request, registry.reload(name))
    if told["space_changed"]:
        told["note"] = "its vectors are of another space: stored ones can't be compared with them"
    return json_response(told)


async def alias(request: Request) -> Response:
    """Let a name stand for a model, or for none."""
    registry = _registry(request)
    asked = await _asked(request, _ALIAS)
    registry.alias(asked.alias, asked.model)
    full = None if asked.model is None else registry.resolve(asked.alias)
    return json_response({"alias": asked.alias, "model": full})


async def remove(request: Request) -> Response:
    """Serve a model no more, and delete it from the cache."""
    from starlette.concurrency import run_in_threadpool

    registry = _registry(request)
    name = registry.resolve(request.path_params["name"])
    await run_in_threadpool(registry.remove, name)
    return json_response({"model": name, "removed": True})


def _registry(request: Request) -> Registry:
    require_admin(request, "this")
    served = request.app.state.models
    if not isinstance(served, Registry):
        raise AdminError("this server's models are fixed")
    return served


async def _asked(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    raw = await body.read(request, request.app.state.max_body_bytes)
    return body.decode(raw, decoder, decoder.type.__struct_fields__)


def _entered(registry: Registry, asked: LoadRequest) -> str:
    """The full name of what is to be loaded, in the list from now on if it wasn't."""
    if asked.engine is not None and asked.engine not in (AUTO, *ENGINES):
        known = ", ".join((AUTO, *ENGINES))
        like = nearest(asked.engine, ENGINES)
        raise InputError(f"unknown engine {asked.engine!r}{like}; known: {known}", param="engine")
    given: dict[str, Any] = {
        "precision": asked.precision,
        "engine": asked.engine,
        "keep_alive_s": _keep_alive_s(asked.keep_alive),
        "pinned": asked.pinned,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        name = registry.resolve(asked.model)
    except ModelNotFound:
        name = named(asked.model)
        wanted = Wanted(asked.model, **changed)
        registry.add(name, wanted, asked.aliases, is_trial=True)
        return name
    registry.want(name, dataclasses.replace(registry.model(name).wanted, **changed))
    registry.add(name, registry.model(name).wanted, asked.aliases)
    return name


def _keep_alive_s(written: str | float | None) -> float | None:
    try:
        return None if written is None else durations.seconds(written, what="keep_alive")
    except SettingsError as wrong:
        raise InputError(str(wrong), param="keep_alive") from wrong


def _told(view: View) -> dict[str, Any]:
    """Reads files where it isn't loaded: not for the event loop."""
    names = {"model": view.name, "state": view.state, "aliases": list(view.aliases)}
    return {**with_weights(view), **names}


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
