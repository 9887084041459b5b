"""The inputs of a request for embeddings: texts, token ids or conversations, always as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from likewise.base.errors import InputEmpty, InputError
from likewise.server.dialects.openai_request import Message, TextObject

if TYPE_CHECKING:
    from likewise.models.chat import Turn
    from likewise.server.dialects.openai_request import EmbeddingsRequest

MAX_INPUTS = 2048


def inputs_of(asked: EmbeddingsRequest) -> list[str] | list[list[int]]:
    """The texts, or lists of token ids, of `input`.

    Raises:
        InputError: there are none, too many, or of several sorts; or one is empty.
    """
    given = asked.input
    if given is None:
        raise InputError("the field 'input' is missing", param="input")
    if isinstance(given, str):
        return _texts([given])
    if not given:
        raise InputEmpty("input is an empty list; send at least one text", param="input")
    items: list[Any] = [one.text if isinstance(one, TextObject) else one for one in given]
    if _all(items, int):
        items = [items]
    _require_few(len(items), "input")
    if _all(items, str):
        return _texts(items)
    if _all(items, list):
        return _token_lists(items)
    raise InputError(
        "input mixes texts and token ids; send a string, a list of strings, a list of token ids, "
        "or a list of lists of token ids",
        param="input",
    )


def conversations(asked: EmbeddingsRequest) -> list[list[Turn]]:
    """The conversations of `messages`: one, or several where they are lists of lists.

    Raises:
        InputError: there is `input` too, there are none, or a message says what isn't a text.
    """
    given: list[Any] = asked.messages or []
    if asked.input is not None:
        raise InputError("send input or messages, not both", param="messages")
    if not given:
        raise InputError("messages is an empty list", param="messages")
    if _all(given, Message):
        given = [given]
    elif not _all(given, list):
        raise InputError("messages mixes messages and lists of messages", param="messages")
    _require_few(len(given), "messages")
    if not all(given):
        raise InputError("messages holds an empty conversation", param="messages")
    return [[_turn(message) for message in one] for one in given]


def _turn(message: Message) -> Turn:
    if isinstance(message.content, str):
        return message.role, message.content
    texts = []
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise InputError(
                f"a message has a part of the type {part.type!r}; only 'text' is read here",
                param="messages",
            )
        texts.append(part.text)
    return message.role, texts


def _all(given: list[Any], kind: type) -> bool:
    return all(isinstance(item, kind) for item in given)


def _require_few(count: int, param: str) -> None:
    if count > MAX_INPUTS:
        raise InputError(f"{count} inputs in one request; the most is {MAX_INPUTS}", param=param)


def _texts(texts: list[str]) -> list[str]:
    if empty := [str(at) for at, text in enumerate(texts) if not text]:
        raise InputEmpty(f"empty text at input position {', '.join(empty[:20])}", param="input")
    return texts


def _token_lists(lists: list[list[int]]) -> list[list[int]]:
    if empty := [str(at) for at, ids in enumerate(lists) if not ids]:
        raise InputEmpty(f"no token ids at input position {', '.join(empty[:20])}", param="input")
    return lists
