"""What a request for embeddings may say: the words of OpenAI, Jina, Voyage, vLLM and infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from likewise.base.errors import DimensionsError, InputError
from likewise.server.defaults import overflow, prompt_for, unnamed_prompt
from likewise.server.notices import ignored

if TYPE_CHECKING:
    from starlette.requests import Request

    from likewise.server.serving import Model

Output = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]


class TextObject(msgspec.Struct, forbid_unknown_fields=True):
    """An input as Jina's clients may send it."""

    IS_CONTENT: ClassVar[bool] = True
    text: str


class ContentPart(msgspec.Struct):
    """A part of what a message says; only those of the type `text` are read."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One turn of a conversation."""

    IS_CONTENT: ClassVar[bool] = True
    role: str
    content: str | list[ContentPart]


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`; null is the same as leaving a field out."""

    input: str | list[str | int | list[int] | TextObject] | None = None
    messages: list[Message | list[Message]] | None = None
    model: str | None = None
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] | None = None
    embed_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    endianness: Literal["native", "little", "big"] | None = None
    embedding_type: Output | list[Output] | None = None
    encoding_type: Output | list[Output] | None = None
    embedding_types: Output | list[Output] | None = None
    output_dtype: Output | list[Output] | None = None
    dimensions: int | None = None
    output_dimension: int | None = None
    normalize: bool | None = None
    normalized: bool | None = None
    use_activation: bool | None = None
    embd_normalize: int | None = None
    input_type: str | None = None
    task: str | None = None
    prompt_name: str | None = None
    truncate: bool | Literal["NONE", "START", "END"] | None = None
    truncation: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool | None = None
    late_chunking: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    modality: str | list[str] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    priority: int | None = None
    request_id: str | None = None
    cache_salt: str | None = None
    user: str | None = None


_KINDS: Mapping[str, Literal["document", "query"]] = {
    "document": "document",
    "query": "query",
    "passage": "document",
    "search_document": "document",
    "search_query": "query",
    "retrieval.passage": "document",
    "retrieval.query": "query",
}
"""What clients call the two kinds of text; a prompt of the same name in the model goes before."""


_LENGTH_ONE, _AS_IT_IS = 2, -1
_TASKS = ("text-matching", "classification", "separation")
"""Jina's tasks that are neither of the two; where a model has no prompts there is none for them."""


def agreed(asked: msgspec.Struct, *names: str) -> Any:
    """The value of whichever of the fields `names` was sent; None when none was.

    Raises:
        InputError: several were sent and say different things.
    """
    given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    values = list(given.values())
    if any(value != values[0] for value in values[1:]):
        raise InputError(
            f"{' and '.join(given)} mean the same and say different things; send one of them",
            param=list(given)[-1],
        )
    return values[0] if values else None


def wants_raw(asked: EmbeddingsRequest) -> bool:
    """Whether vectors are asked for as they are before they are scaled to length 1.

    Raises:
        InputError: two fields contradict each other, or one asks for another norm.
    """
    unit = agreed(asked, "normalize", "normalized", "use_activation")
    norm = of_length_one(asked.embd_normalize)
    if None not in (unit, norm) and unit != norm:
        raise InputError(
            "embd_normalize and normalize say different things; send one of them",
            param="embd_normalize",
        )
    return (norm if unit is None else unit) is False


def of_length_one(norm: int | None) -> bool | None:
    """What llama.cpp's `embd_normalize` asks for; None: nothing.

    Raises:
        InputError: it asks for another norm than that of length 1.
    """
    if norm not in (None, _LENGTH_ONE, _AS_IT_IS):
        raise InputError(
            f"embd_normalize is {norm}; known: {_LENGTH_ONE} for vectors of length 1, "
            f"{_AS_IT_IS} for vectors as the model gives them",
            param="embd_normalize",
        )
    return None if norm is None else norm == _LENGTH_ONE


def options(request: Request, asked: EmbeddingsRequest, model: Model) -> dict[str, Any]:
    """What `submit` of `model` is told.

    Raises:
        InputError: two fields contradict each other, or one asks for what isn't done here.
    """
    _refuse_what_isnt_followed(asked)
    is_raw = wants_raw(asked)
    dimensions = agreed(asked, "dimensions", "output_dimension")
    if dimensions == 0:
        # infinity's client sends 0 unless told otherwise, and Ollama takes it: the model's own.
        dimensions = None
        ignored(request, ["dimensions"])
    if dimensions is not None and dimensions < 1:
        raise DimensionsError("dimensions must be at least 1", param="dimensions")
    chosen = _cutting(request, asked) | {"dimensions": dimensions}
    chosen |= {"unit": not is_raw, "raw": is_raw}
    if asked.messages is not None:
        if named := _named(asked):
            raise InputError(
                f"messages are written by the model's chat template alone; leave out {named[0]}",
                param=named[0],
            )
        chosen |= {"prompt": "", "special": asked.add_special_tokens is True}
    else:
        chosen |= _prompt(asked, model.prompts) or unnamed_prompt(request, model)
        chosen |= {"special": asked.add_special_tokens is not False}
    if (asked.priority or 0) > 0:
        chosen["lane"] = "bulk"
    return chosen


def late_options(asked: EmbeddingsRequest, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """`options` for a request with `late_chunking`, as the model's `submit_late` is told them.

    Raises:
        InputError: something was asked for that doesn't go with it.
    """
    if asked.messages is not None:
        raise InputError("late_chunking doesn't go with messages", param="late_chunking")
    if not chosen["special"]:
        raise InputError(
            "late_chunking doesn't go with add_special_tokens: false", param="add_special_tokens"
        )
    return {name: value for name, value in chosen.items() if name != "special"}


def _named(asked: EmbeddingsRequest) -> list[str]:
    """Which of the fields that choose a prompt were sent."""
    names = ("input_type", "task", "prompt_name")
    return [name for name in names if getattr(asked, name) is not None]


def _prompt(asked: EmbeddingsRequest, prompts: Mapping[str, str]) -> dict[str, str]:
    """Which prompt the request names, as `submit` wants it said; nothing where it names none."""
    named = _named(asked)
    if len(named) > 1:
        raise InputError(
            f"{' and '.join(named)} both choose the prompt; send one of them", param=named[-1]
        )
    if not named:
        return {}
    (field,) = named
    value: str = getattr(asked, field)
    if field == "prompt_name":
        return {"prompt_name": value}
    if value in _KINDS and (value not in prompts or value in ("document", "query")):
        return prompt_for(_KINDS[value], prompts)
    if value in prompts:
        return {"prompt_name": value}
    if field == "task" and value in _TASKS and not prompts:
        return {}
    known = ", ".join(dict.fromkeys([*_KINDS, *prompts]))
    raise InputError(
        f"{field} is {value!r}, and the model has no prompt of that name; known: {known}",
        param=field,
    )


def _cutting(request: Request, asked: EmbeddingsRequest) -> dict[str, Any]:
    """What happens to texts that are too long, as `submit` wants it said."""
    cuts = agreed(asked, "truncate", "truncation")
    most = asked.truncate_prompt_tokens
    is_asked = cuts is None and most is not None
    chosen: dict[str, Any] = {"overflow": "cut" if is_asked else overflow(request, cuts)}
    if most is not None:
        if cuts is False:
            raise InputError(
                "truncate_prompt_tokens asks for texts to be cut, and truncate for them not to be",
                param="truncate_prompt_tokens",
            )
        if most != -1 and most < 1:
            raise InputError(
                f"truncate_prompt_tokens is {most}; it is a number of tokens, or -1 for as many as "
                "the model reads",
                param="truncate_prompt_tokens",
            )
        if most > 0:
            chosen["limit"] = most
    if asked.truncation_side is not None:
        chosen["side"] = asked.truncation_side
    return chosen


def _refuse_what_isnt_followed(asked: EmbeddingsRequest) -> None:
    if asked.modality not in (None, "text"):
        raise InputError(
            f"modality is {asked.modality!r}; only 'text' is read here", param="modality"
        )
    if asked.mm_processor_kwargs:
        raise InputError(
            "mm_processor_kwargs: only texts are read here", param="mm_processor_kwargs"
        )
    if asked.chat_template is not None:
        raise InputError(
            "chat_template: messages are written with the model's own template only",
            param="chat_template",
        )
    if asked.continue_final_message:
        raise InputError("continue_final_message isn't followed", param="continue_final_message")
    if asked.messages is None and (asked.add_generation_prompt or asked.chat_template_kwargs):
        field = "add_generation_prompt" if asked.add_generation_prompt else "chat_template_kwargs"
        raise InputError(f"{field} goes with messages, not with input", param=field)
