"""Text Embeddings Inference's tasks around tokens: `/tokenize` and `/decode`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypedDict

import msgspec

from likewise.base.errors import InputEmpty, InputError
from likewise.server.dialects.tei_asking import (
    Ask,
    Done,
    decoded,
    opened,
    prompt_of,
    require_count,
)

if TYPE_CHECKING:
    from likewise.models.tokenize import Token


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /tokenize` with `inputs`."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None
    model: str | None = None


class SimpleToken(TypedDict):
    """A token, and the characters of prompt and text that it stands for."""

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


_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DECODE = msgspec.json.Decoder(DecodeRequest)


async def tokens(ask: Ask) -> Done:
    """The tokens of each text, uncut."""
    asked = decoded(ask, _TOKENIZE)
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    require_count(len(texts), "inputs")
    async with opened(ask, asked.model) as model:
        prompt = prompt_of(ask, model, asked.prompt_name)

        def found() -> list[list[SimpleToken]]:
            return [
                [
                    _shown(token, prompt + text)
                    for token in model.tokens(prompt + text, special=asked.add_special_tokens)
                ]
                for text in texts
            ]

        return Done(await asyncio.to_thread(found))


def _shown(token: Token, whole: str) -> SimpleToken:
    start, stop = token.span or (None, None)
    return {
        "id": token.id,
        "text": token.text if token.span is None else whole[start:stop],
        "special": token.is_special,
        "start": start,
        "stop": stop,
    }


async def decode(ask: Ask) -> Done:
    """The text of each list of token ids."""
    asked = decoded(ask, _DECODE)
    lists = _lists(asked.ids)
    async with opened(ask, asked.model) as model:

        def found() -> list[str]:
            return [model.text(ids, skip_special=asked.skip_special_tokens) for ids in lists]

        return Done(await asyncio.to_thread(found))


def _lists(given: list[int | list[int]]) -> list[list[int]]:
    numbers = [each for each in given if isinstance(each, int)]
    lists = [each for each in given if isinstance(each, list)]
    if numbers and lists:
        raise InputError("ids mixes numbers and lists of numbers", param="ids")
    lists = [numbers] if numbers else lists
    require_count(len(lists), "ids")
    if empty := [str(at) for at, each in enumerate(lists) if not each]:
        raise InputEmpty(f"no token ids at position {', '.join(empty[:20])}", param="ids")
    return lists
