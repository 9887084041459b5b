"""What all tasks of Text Embeddings Inference's dialect share: model, prompt, cuts, headers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast

import msgspec
import numpy as np
from starlette.responses import Response

from likewise.base.errors import InputEmpty, InputError
from likewise.base.names import nearest
from likewise.runtime.sinks import Times
from likewise.server import body, encode, lenient
from likewise.server.choosing import choose
from likewise.server.defaults import overflow, unnamed_prompt
from likewise.server.serving import characters, computed, lane_of, noted, using

if TYPE_CHECKING:
    from starlette.requests import Request

    from likewise.base.types import CutSide, Lane, Overflow
    from likewise.server.choosing import Need
    from likewise.server.routing import Endpoint
    from likewise.server.serving import Model

Direction = Literal["Left", "Right", "left", "right"]

_S = TypeVar("_S", bound=msgspec.Struct)
_T = TypeVar("_T")


class HubOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What older clients of Hugging Face send along; none of it changes an answer here."""

    use_cache: bool | None = None
    wait_for_model: bool | None = None


class Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What each body may say. `model` is ours: it chooses where several models are served."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None
    options: HubOptions | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One task to do: a request's body, or one instance of a body that holds several."""

    request: Request
    raw: bytes
    model: str | None = None
    """The model when the body names none."""
    lane: Lane | None = None
    """None: as many inputs as the task has ask for it."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What an answer took."""

    characters: int
    tokens: int
    truncated: tuple[int, ...]
    """Positions of inputs that were cut."""
    times: Times
    runs_on: str
    """`cpu`, `gpu`, or `gpu+optimized` where padding isn't computed either."""


@dataclass(frozen=True, slots=True)
class Done:
    """The JSON of a 200, and what it took where a model computed."""

    content: Any
    metered: Metered | None = None


@dataclass(slots=True)
class Tally:
    """Adds up what a task submitted, in one go or several."""

    characters: int = 0
    tokens: int = 0
    truncated: set[int] = field(default_factory=set)
    times: list[Times] = field(default_factory=list)

    def add(
        self,
        inputs: Sequence[Any],
        tokens: Sequence[int],
        found: encode.Found,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Count `found`, made of `inputs`, which stand at `positions` of the whole task."""
        self.characters += characters(inputs)
        self.tokens += sum(tokens)
        self.truncated |= {at if positions is None else positions[at] for at in found.truncated}
        self.times.append(found.times)

    def metered(self, model: Model) -> Metered:
        """All of it, computed by `model`."""
        return Metered(
            self.characters,
            self.tokens,
            tuple(sorted(self.truncated)),
            Times.mean(self.times),
            _runs_on(model.info()),
        )


Task = Callable[[Ask], Awaitable[Done]]


def endpoint(task: Task) -> Endpoint:
    """A route's endpoint that reads the body and does `task`."""

    async def answer(request: Request) -> Response:
        raw = await body.read(request, request.app.state.max_body_bytes)
        return await answered(request, raw, task)

    answer.__doc__ = task.__doc__
    return answer


async def answered(request: Request, raw: bytes, task: Task) -> Response:
    """The response to a body: what `task` makes of it, and the headers that say what it took."""
    began = time.perf_counter()
    done = await task(Ask(request, raw))
    content = encode.to_json(done.content)
    headers = {} if done.metered is None else _headers(done.metered, time.perf_counter() - began)
    return Response(content, 200, headers, "application/json")


def _headers(metered: Metered, total_s: float) -> dict[str, str]:
    timing = encode.timing_headers(metered.times, total_s)
    return {
        "x-compute-type": metered.runs_on,
        "x-compute-time": timing["x-total-time"],
        "x-compute-characters": str(metered.characters),
        "x-compute-tokens": str(metered.tokens),
        **timing,
        **encode.truncation_headers(metered.truncated),
    }


def _runs_on(info: dict[str, Any]) -> str:
    # An engine's version names the device after " on ", where that isn't the CPU.
    device = str(info.get("engine_version", "")).partition(" on ")[2]
    if not device or device.startswith("cpu"):
        return "cpu"
    return "gpu" if info.get("slow") else "gpu+optimized"


def decoded(ask: Ask, decoder: msgspec.json.Decoder[_S]) -> _S:
    """The task's body as the decoder's type; raises `InputError` as `lenient.decode` does."""
    return lenient.decode(ask.request, ask.raw, decoder)


@contextlib.asynccontextmanager
async def opened(ask: Ask, name: str | None, needs: Sequence[Need] = ()) -> AsyncIterator[Model]:
    """The model that the body names, or `?model=`, or else the first one that fits `needs`.

    TEI never looks at a name: one that isn't served stands for the only model that fits.

    Raises:
        InputError: body and query string name two.
        LikewiseError: as `serving.using` raises them.
    """
    request = ask.request
    named = {each for each in (name or ask.model, request.query_params.get("model")) if each}
    if len(named) > 1:
        raise InputError(f"two models are named: {', '.join(sorted(named))}", param="model")
    chosen = choose(request, next(iter(named), None), needs, takes_any_name=True, takes_first=True)
    async with using(request, chosen) as (_, model):
        yield model


async def submitted(
    ask: Ask,
    submit: Callable[..., Future[_T]],
    inputs: Sequence[Any],
    **options: Any,
) -> _T:
    """What a model's `submit` gives for `inputs`, in the lane of the whole request."""
    lane = ask.lane or lane_of(ask.request, len(inputs))
    return await computed(ask.request, submit, inputs, **{"lane": lane, **options})


class Cutting(TypedDict):
    """What is done with a text that is too long, as a model's `submit` takes it."""

    overflow: Overflow
    side: CutSide | None


def cutting(ask: Ask, asked: Any) -> Cutting:
    """What `truncate` and `truncation_direction` ask for, where the model's files say."""
    side = asked.truncation_direction
    return {
        "overflow": overflow(ask.request, asked.truncate),
        "side": None if side is None else cast("CutSide", side.lower()),
    }


def shortest(value: Any) -> float:
    """A float32 as the number with the fewest digits that stands for it."""
    return float(str(np.float32(value)))


def prompt_of(ask: Ask, model: Model, name: str | None) -> str:
    """The text of the prompt called `name`; None: of the one that is put before texts anyway.

    Raises:
        InputError: the folder has no prompt of that name; those it has are named.
        SettingsError: nor of the name that the operator gave.
    """
    prompts = model.card.prompts
    if name is None:
        said = unnamed_prompt(ask.request, model)
        return str(said.get("prompt", model.card.prompt(None)))
    if name not in prompts:
        noted(ask.request)["te_failure"] = "tokenization"
        known = ", ".join(prompts) or "none"
        raise InputError(
            f"{model.name} has no prompt called {name!r}{nearest(name, prompts)}; its prompts: "
            f"{known}",
            param="prompt_name",
        )
    return prompts[name]


def listed(ask: Ask, given: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """`inputs` as a list of texts and lists of token ids.

    Raises:
        InputEmpty: there is none, or one is empty.
        InputError: too many, or token ids stand among texts.
    """
    if isinstance(given, str):
        given = [given]
    elif not any(isinstance(each, int) for each in given):
        noted(ask.request)["te_method"] = "batch"
    numbers = [each for each in given if isinstance(each, int)]
    if numbers:
        if len(numbers) < len(given):
            raise InputError(
                "inputs mixes token ids with texts or lists; put each text's ids into a list",
                param="inputs",
            )
        require_count(ask, 1, "inputs")
        return [numbers]
    inputs = [each for each in given if not isinstance(each, int)]
    require_count(ask, len(inputs), "inputs")
    if empty := [str(at) for at, each in enumerate(inputs) if not each]:
        raise InputEmpty(f"empty input at position {', '.join(empty[:20])}", param="inputs")
    return inputs


def require_count(ask: Ask, count: int, param: str) -> None:
    """Raises `InputEmpty` for none and `InputError` for more than may come in one request."""
    notes = noted(ask.request)
    if not count:
        notes["te_failure"] = "validation"
        raise InputEmpty(f"`{param}` cannot be empty; send at least one", param=param)
    most: int = ask.request.app.state.max_inputs
    if count > most:
        notes["te_failure"] = "batch_size"
        raise InputError(
            f"{count} {param} in one request; the most is {most} (max_batch_inputs)", param=param
        )
    notes["te_inputs"] = notes.get("te_inputs", 0) + count
