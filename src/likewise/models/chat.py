"""Conversations as one text, written with the chat template that a model brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likewise.base.errors import InputError, ModelUnsupported
from likewise.models.parts import read_json
from likewise.models.template import compiled, special_tokens

Turn = tuple[str, str | Sequence[str]]
"""Who speaks (`user`, `system`, ...), and what: one text, or several parts of one."""

_PROBE = "alpha"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template over messages."""

    text: str
    where: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What else the template may ask for, such as special tokens."""
    reads_text: bool = True
    """Whether a message's content may be a text."""
    reads_parts: bool = False
    """Whether it may be a list of parts."""

    def write(
        self,
        turns: Sequence[Turn],
        *,
        generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation, special tokens included.

        `generation_prompt` adds what the template puts before an answer; `variables` are further
        ones that it may ask for.

        Raises:
            InputError: the template refuses these messages.
            ModelCorrupt: it isn't a template.
            MissingExtra: Jinja isn't installed.
        """
        made = compiled(self.text, self.where)
        own = {**self.variables, "add_generation_prompt": generation_prompt, **(variables or {})}
        own["messages"] = [{"role": role, "content": self._content(said)} for role, said in turns]
        try:
            return str(made.render(own))
        except Exception as broken:  # a template may raise anything
            raise InputError(
                f"{self.where} can't be filled in with these messages: {broken}", param="messages"
            ) from broken

    def _content(self, said: str | Sequence[str]) -> Any:
        if isinstance(said, str):
            return said if self.reads_text else _parts([said])
        return _parts(said) if self.reads_parts else "\n".join(said)


def read_chat_template(*folders: Path) -> ChatTemplate | None:
    """The chat template in the first of `folders` that has one; None where there is none.

    Raises:
        ModelUnsupported: there are several and none is the default, or it shows no texts.
        ModelCorrupt: a file is damaged.
        MissingExtra: Jinja isn't installed.
    """
    for folder in folders:
        settings = read_json(folder / "tokenizer_config.json", missing={})
        path = folder / "chat_template.jinja"
        if path.is_file():
            return _checked(path.read_text(encoding="utf-8"), str(path), settings)
        text = settings.get("chat_template")
        where = f"chat_template of {folder / 'tokenizer_config.json'}"
        if isinstance(text, list):
            text = _default(text, where)
        if isinstance(text, str):
            return _checked(text, where, settings)
    return None


def _default(named: list[Any], where: str) -> str:
    texts = {one["name"]: one["template"] for one in named if {"name", "template"} <= set(one)}
    if isinstance(default := texts.get("default"), str):
        return default
    raise ModelUnsupported(f"{where} has {', '.join(texts) or 'none'}, and none called 'default'")


def _checked(text: str, where: str, settings: dict[str, Any]) -> ChatTemplate:
    variables = {"tools": None, "documents": None, **special_tokens(settings)}
    whole = _probed(ChatTemplate(text, where, variables))
    parts = _probed(ChatTemplate(text, where, variables, reads_text=False))
    reads_text = whole is not None and _PROBE in whole
    # A template that only knows texts may write a list as Python shows it: not what is meant.
    reads_parts = parts is not None and (parts == whole if reads_text else _PROBE in parts)
    if not reads_text and not reads_parts:
        raise ModelUnsupported(
            f"{where} doesn't show the text of a message of the role 'user'", param="messages"
        )
    return ChatTemplate(text, where, variables, reads_text, reads_parts)


def _probed(template: ChatTemplate) -> str | None:
    try:
        return template.write([("user", _PROBE)])
    except InputError:
        return None


def _parts(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]
