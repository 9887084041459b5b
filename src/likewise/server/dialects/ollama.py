"""Ollama's dialect: `/api/embed`, and the older `/api/embeddings`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import msgspec
import numpy as np
from starlette.responses import Response

from likewise.base.errors import InputError, ModelNotFound
from likewise.server import body, encode, notices
from likewise.server.choosing import VECTORS
from likewise.server.defaults import overflow, unnamed_prompt
from likewise.server.dialects import (
    keep_alive,
    ollama_bodies,
    ollama_models,
    ollama_pull,
    ollama_unload,
)
from likewise.server.dialects.ollama_names import AskedNames, chosen_name, require_name, shown_names
from likewise.server.errors import json_response
from likewise.server.routing import Spoken
from likewise.server.serving import computed, using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.runtime.pending import Embedded
    from likewise.server.serving import Catalogue, Model

T = TypeVar("T", bound=msgspec.Struct)


class Options(msgspec.Struct, forbid_unknown_fields=True):
    """What clients put into `options`. Of these `num_ctx` alone can change a vector."""

    num_ctx: int | None = None
    num_batch: float | None = None
    num_gpu: float | None = None
    num_gqa: float | None = None
    num_keep: float | None = None
    num_predict: float | None = None
    num_thread: float | None = None
    main_gpu: float | None = None
    numa: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    logits_all: bool | None = None
    vocab_only: bool | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    embedding_only: bool | None = None
    seed: float | None = None
    temperature: float | None = None
    top_k: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    tfs_z: float | None = None
    typical_p: float | None = None
    repeat_last_n: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: float | None = None
    mirostat_eta: float | None = None
    mirostat_tau: float | None = None
    penalize_newline: bool | None = None
    stop: str | list[str] | None = None


class EmbedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/embed`."""

    model: str | None = None
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    options: Options | None = None
    keep_alive: float | str | None = None


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/embeddings`."""

    model: str | None = None
    prompt: str | None = None
    options: Options | None = None
    keep_alive: float | str | None = None


class EmbedAnswer(TypedDict):
    """The answer of `POST /api/embed`; durations are in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]


class EmbeddingsAnswer(TypedDict):
    """The answer of `POST /api/embeddings`."""

    embedding: list[float]


_IN_OPTIONS = " - at `$.options`"
_EMBED = msgspec.json.Decoder(EmbedRequest)
_EMBEDDINGS = msgspec.json.Decoder(EmbeddingsRequest)


def routes() -> list[Route]:
    """What this dialect answers."""
    return [
        Spoken(
            "/api/embed",
            embed,
            methods=["POST"],
            dialect="ollama",
            body=EmbedRequest,
            answer=EmbedAnswer,
        ),
        Spoken(
            "/api/embeddings",
            embeddings,
            methods=["POST"],
            dialect="ollama",
            body=EmbeddingsRequest,
            answer=EmbeddingsAnswer,
        ),
        *ollama_models.routes(),
        *ollama_pull.routes(),
        *ollama_unload.routes(),
    ]


async def embed(request: Request) -> Response:
    """Vectors of length 1 for one or many texts; without any, the model is only loaded."""
    began = time.perf_counter_ns()
    asked = await _asked(request, _EMBED)
    ollama_bodies.require_texts(request, "input", asked.input)
    # An empty text alone asks for nothing; in a list it is a text.
    texts = [asked.input] if asked.input and isinstance(asked.input, str) else asked.input or []
    wanted = _Wanted.of(request, asked.model, asked.keep_alive, asked.options)
    shown = asked.model or wanted.name
    if not texts and wanted.only_unloads:
        return json_response({"model": shown, "embeddings": []})
    loading = time.perf_counter_ns()
    async with using(request, wanted.name, keep_alive_s=wanted.stays_s) as (_, model):
        loaded = time.perf_counter_ns() - loading
        if not texts:
            return json_response({"model": shown, "embeddings": []})
        found: Embedded = await computed(
            request,
            model.submit,
            texts,
            **unnamed_prompt(request, model),
            dimensions=_dimensions(model, asked.dimensions),
            unit=True,
            limit=wanted.limit,
            overflow=overflow(request, asked.truncate),
        )
    content: dict[str, Any] = {
        "model": shown,
        "embeddings": np.ascontiguousarray(found.vectors, dtype=np.float32),
    }
    facts: dict[str, Any] = {
        "total_duration": time.perf_counter_ns() - began,
        "load_duration": loaded,
        "prompt_eval_count": int(sum(found.tokens)),
    }
    content |= {name: value for name, value in facts.items() if value}
    return Response(encode.to_json(content), 200, encode.headers(found), "application/json")


async def embeddings(request: Request) -> Response:
    """The vector of one text; a text that is too long is refused, for the answer can't say so."""
    asked = await _asked(request, _EMBEDDINGS)
    ollama_bodies.require_texts(request, "prompt", asked.prompt)
    wanted = _Wanted.of(request, asked.model, asked.keep_alive, asked.options)
    if not asked.prompt and wanted.only_unloads:
        return json_response({"embedding": []})
    async with using(request, wanted.name, keep_alive_s=wanted.stays_s) as (_, model):
        if not asked.prompt:
            return json_response({"embedding": []})
        found: Embedded = await computed(
            request,
            model.submit,
            [asked.prompt],
            **unnamed_prompt(request, model),
            unit=True,
            limit=wanted.limit,
            overflow="refuse",
        )
    content = {"embedding": np.ascontiguousarray(found.vectors[0], dtype=np.float32)}
    return Response(encode.to_json(content), 200, encode.headers(found), "application/json")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What both routes ask for beside texts."""

    name: str
    stays_s: float | None
    limit: int | None
    only_unloads: bool
    """Whether there is nothing to do for a request without texts: it would load to unload."""

    @classmethod
    def of(
        cls,
        request: Request,
        name: str | None,
        stays: float | str | None,
        options: Options | None,
    ) -> _Wanted:
        """What the fields mean.

        Raises:
            InputError: one isn't what it must be, or no model is named and several fit.
            ModelNotFound: there is no such model.
        """
        stays_s, limit = keep_alive.seconds(stays), _limit(request, options)
        try:
            full = chosen_name(request, name, (VECTORS,))
        except ModelNotFound:
            require_name(name)
            raise
        catalogue: Catalogue = request.app.state.models
        one = next((each for each in catalogue.models() if each.name == full), None)
        if name and one is not None:
            asked: AskedNames = request.app.state.asked_names
            asked.add(full, name, shown_names(one.name, one.aliases))
        is_out = one is not None and one.state == "unloaded"
        return cls(full, stays_s, limit, stays_s == 0 and is_out)


def _limit(request: Request, options: Options | None) -> int | None:
    """Tokens of one text, as `num_ctx` says; the model's own limit holds beside it.

    Programs write 0 where nothing is set, and -1 for no limit.
    """
    limit = None if options is None else options.num_ctx
    if limit is None or limit > 0:
        return limit
    if limit < 0:
        notices.ignored(request, ["options.num_ctx"])
    return None


def _dimensions(model: Model, asked: int | None) -> int | None:
    """The width to cut to; as in Ollama, one that isn't smaller than the model's asks nothing."""
    return asked if asked is not None and 0 < asked < model.space.dimensions else None


async def _asked(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body, its faults said in Ollama's words where it has some."""
    try:
        return await ollama_bodies.read(request, decoder)
    except InputError as wrong:
        said = str(wrong.__cause__)
        if "unknown field" in said and said.endswith(_IN_OPTIONS):
            said = said.removesuffix(_IN_OPTIONS)
            raise body.explained(said, Options.__struct_fields__) from wrong
        if (wrong.param or "").partition("[")[0] in ("input", "prompt"):
            raise InputError(
                f"invalid input type: {wrong}; send a text or a list of texts, not token ids",
                param=wrong.param,
            ) from wrong
        raise
