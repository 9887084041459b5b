"""What holds for requests that don't say otherwise: the prompt, long texts, and token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from likewise.base.errors import InputError, SettingsError
from likewise.base.names import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from likewise.base.types import Kind, Overflow
    from likewise.runtime.service import Service

TokenIds = Literal["warn", "refuse"]
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True)
class Defaults:
    """The operator's word on what requests leave open."""

    prompt: str | None = None
    """Text put before each text of a request that names no prompt; None: what the model says."""
    prompt_name: str | None = None
    """The same, as the name of one of the model's prompts."""
    truncate: bool = True
    """Whether a text that is too long is cut where the request doesn't say."""
    token_ids: TokenIds = "warn"
    """Whether inputs that are token ids are computed, with a warning, or refused."""

    def __post_init__(self) -> None:
        """Raises `SettingsError` when both say which prompt."""
        if self.prompt is not None and self.prompt_name is not None:
            raise SettingsError(
                "default_prompt and default_prompt_name both say which prompt is put before texts; "
                "give one of them",
                param="default_prompt",
            )

    @property
    def has_prompt(self) -> bool:
        """Whether a prompt is put before texts of its own accord."""
        return self.prompt is not None or self.prompt_name is not None


_USUAL = Defaults()


def defaults_of(request: Request) -> Defaults:
    """The server's."""
    found: Defaults = getattr(request.app.state, "defaults", _USUAL)
    return found


def unnamed_prompt(request: Request, model: Service) -> dict[str, Any]:
    """What a model's `submit` is told of the prompt where a request names none.

    Raises:
        SettingsError: the model has no prompt of the name that the operator gave.
    """
    said = defaults_of(request)
    if said.prompt_name is None:
        return {} if said.prompt is None else {"prompt": said.prompt}
    prompts = model.card.prompts
    if said.prompt_name not in prompts:
        raise SettingsError(
            f"default_prompt_name is {said.prompt_name!r}, and {model.name} has no such prompt"
            f"{nearest(said.prompt_name, prompts)}; its prompts: {', '.join(prompts) or 'none'}. "
            "Start the server with another, or name a prompt in the request",
            param="default_prompt_name",
        )
    return {"prompt": prompts[said.prompt_name]}


def prompt_for(kind: Kind, prompts: Mapping[str, str]) -> dict[str, Any]:
    """What `submit` is told where a request says that its texts are queries, or documents.

    Whoever says "document" means the prompt for documents, which many folders call "passage".
    """
    if kind == "document":
        for name in _DOCUMENT_PROMPTS:
            if name in prompts:
                return {"prompt_name": name}
    return {"kind": kind}


def refuse_prompted_pairs(request: Request) -> None:
    """Raises `InputError` where texts get a prompt: it has no place before two texts together."""
    if defaults_of(request).has_prompt:
        raise InputError(
            "this server puts a default prompt before every text, which can't be done to a pair of "
            "texts; serve the reranker without default_prompt and default_prompt_name"
        )


def overflow(request: Request, cuts: bool | None) -> Overflow:
    """What is done with a text that is too long, where the request says `cuts`, or nothing."""
    is_cut = defaults_of(request).truncate if cuts is None else cuts
    return "cut" if is_cut else "refuse"
