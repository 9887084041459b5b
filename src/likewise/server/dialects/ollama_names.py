"""What Ollama's clients call models: refusals in its words, and names that may be fetched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from likewise.base.errors import InputError, ModelNotFound
from likewise.base.names import nearest
from likewise.models.short_names import OLLAMA, advice, full_name

if TYPE_CHECKING:
    from likewise.server.serving import Catalogue

_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def served_name(catalogue: Catalogue, asked: str | None) -> str:
    """The full name of the served model that a client of Ollama means by `asked`.

    Names are looked up as everywhere else; only the words of the refusal are Ollama's.

    Raises:
        ModelNotFound: no such model is served; the message lists what is.
        InputError: None, and several are served.
    """
    try:
        return catalogue.resolve(asked)
    except ModelNotFound:
        if asked is None:
            raise
    names = [one.name for one in catalogue.models()]
    near = nearest(asked, [*names, *(name.rpartition("/")[2] for name in names)])
    raise ModelNotFound(
        f'model "{asked}" not found, try pulling it first{advice(asked) or near}; '
        f"served: {', '.join(names) or 'none'}",
        param="model",
    )


def is_served(catalogue: Catalogue, asked: str) -> bool:
    """Whether `served_name` finds a model."""
    try:
        served_name(catalogue, asked)
    except ModelNotFound:
        return False
    return True


def fetchable(asked: str) -> str:
    """What `asked` is called on the hub, for fetching it; never a path.

    Raises:
        InputError: it is no name on the hub, and none that is known of Ollama's library.
    """
    name = full_name(asked)
    if _ON_HUB.fullmatch(name):
        return name
    raise InputError(
        f'"{asked}" can\'t be pulled: it is neither a name on the Hugging Face hub (org/name) nor '
        f"a short name that is known here{advice(asked) or nearest(asked, OLLAMA)}; known of "
        f"Ollama's library: {', '.join(OLLAMA)}",
        param="model",
    )
