"""Text Embeddings Inference's tasks around tokens: `/tokenize` and `/decode`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

import msgspec
import numpy as np

from likewise.base.errors import InputEmpty, InputError
from likewise.server.dialects.tei_asking import (
    Ask,
    Done,
    decoded,
    opened,
    prompt_of,
    require_count,
)
from likewise.server.encode import Written
from likewise.server.notices import warn

if TYPE_CHECKING:
    from likewise.models.tokenize import Token
    from likewise.server.serving import Model


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tokenize` with `inputs`."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None
    model: str | None = None


class SimpleToken(TypedDict):
    """A token, and the bytes of prompt and text, in UTF-8, that it stands for."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /decode`."""

    ids: list[int | list[int]]
    skip_special_tokens: bool = True
    model: str | None = None


_NO_ID = 2**32
"""What TEI refuses as an id; smaller ones that a model doesn't have stand for nothing."""

_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DECODE = msgspec.json.Decoder(DecodeRequest)


async def tokens(ask: Ask) -> Done:
    """The tokens of each text, uncut."""
    asked = decoded(ask, _TOKENIZE)
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    require_count(ask, len(texts), "inputs")
    async with opened(ask, asked.model) as model:
        prompt = prompt_of(ask, model, asked.prompt_name)

        def found() -> list[Written]:
            return [_written(model, prompt, text, asked.add_special_tokens) for text in texts]

        return Done(await asyncio.to_thread(found))


def _written(model: Model, prompt: str, text: str, special: bool) -> Written:
    """The JSON of the tokens of one text, a list of `SimpleToken`."""
    whole = prompt + text
    bytes_at = _bytes_at(whole)
    return Written.list_of(
        [_shown(token, whole, bytes_at) for token in tokens]
        for tokens in model.token_parts(whole, special=special)
    )


def _bytes_at(text: str) -> Callable[[int], int]:
    """Where the byte of a character stands in UTF-8, by the character's place."""
    if text.isascii():
        return lambda at: at
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    widths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
    places = np.concatenate([[0], np.cumsum(widths)])
    return lambda at: int(places[at])


def _shown(token: Token, whole: str, bytes_at: Callable[[int], int]) -> SimpleToken:
    start, stop = token.span or (None, None)
    return {
        "id": token.id,
        "text": token.text if token.span is None else whole[start:stop],
        "special": token.is_special,
        "start": None if start is None else bytes_at(start),
        "stop": None if stop is None else bytes_at(stop),
    }


async def decode(ask: Ask) -> Done:
    """The text of each list of token ids."""
    asked = decoded(ask, _DECODE)
    lists = _lists(ask, asked.ids)
    async with opened(ask, asked.model) as model:

        def found() -> list[str]:
            known = [_known(ask, model, ids) for ids in lists]
            return [model.text(ids, skip_special=asked.skip_special_tokens) for ids in known]

        return Done(await asyncio.to_thread(found))


def _known(ask: Ask, model: Model, ids: list[int]) -> list[int]:
    """Those of `ids` that the model has, as TEI reads them; a warning tells of the others."""
    size = int(model.card.config.get("vocab_size", 0))
    if not size:
        return ids
    unknown = [each for each in ids if size <= each < _NO_ID]
    if not unknown:
        return ids
    shown = ", ".join(map(str, unknown[:5]))
    warn(ask.request, f"token ids that {model.name} doesn't have were left out: {shown}")
    return [each for each in ids if not size <= each < _NO_ID]


def _lists(ask: Ask, given: list[int | list[int]]) -> list[list[int]]:
    numbers = [each for each in given if isinstance(each, int)]
    lists = [each for each in given if isinstance(each, list)]
    if numbers and lists:
        raise InputError("ids mixes numbers and lists of numbers", param="ids")
    lists = [numbers] if numbers else lists
    require_count(ask, len(lists), "ids")
    if empty := [str(at) for at, each in enumerate(lists) if not each]:
        raise InputEmpty(f"no token ids at position {', '.join(empty[:20])}", param="ids")
    return lists
