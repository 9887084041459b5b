"""What Ollama's clients call models: refusals in its words, and names that may be fetched."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from likewise.base.errors import InputError, ModelNotFound
from likewise.base.names import nearest
from likewise.models.short_names import OLLAMA, advice, bare, full_name, tagged
from likewise.runtime.naming import client_names
from likewise.server.choosing import choose

if TYPE_CHECKING:
    from starlette.requests import Request

    from likewise.server.catalogue import Catalogue
    from likewise.server.choosing import Need

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_VALID = re.compile(
    rf"(?:https?://)?(?:[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,349}}/)?(?:{_PART}/)?{_PART}(?::{_PART})?"
)
"""What Ollama takes for a name: host, namespace, model and tag."""
_MOST_ASKED = 8
"""Names of one model that are remembered."""
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def chosen_name(
    request: Request, asked: str | None, needs: Sequence[Need] = (), *, is_plain: bool = False
) -> str:
    """The full name of the served model that a client of Ollama means by `asked`.

    Names are looked up, and models chosen where none is named, as everywhere else (`choosing`);
    only the words of the refusal are Ollama's: those of the routes that embed, or with `is_plain`
    those of the others.

    Raises:
        ModelNotFound: no such model is served; the message lists what is.
        InputError: none is named, and none or several fit.
    """
    try:
        return choose(request, asked, needs)
    except ModelNotFound:
        if not asked:
            raise
    raise _not_found(request.app.state.models, asked, is_plain=is_plain)


def served_name(catalogue: Catalogue, asked: str) -> str:
    """The full name of the model that is called `asked`, and of no other.

    Raises:
        ModelNotFound: no such model is served; the message lists what is.
    """
    try:
        return catalogue.resolve(asked)
    except ModelNotFound:
        raise _not_found(catalogue, asked, is_plain=True) from None


def _not_found(catalogue: Catalogue, asked: str, *, is_plain: bool) -> ModelNotFound:
    names = [one.name for one in catalogue.models()]
    near = nearest(asked, [*names, *(name.rpartition("/")[2] for name in names)])
    said = f'model "{asked}" not found, try pulling it first'
    if is_plain:
        said = f"model '{asked}' not found"
    return ModelNotFound(
        f"{said}{advice(asked) or near}; served: {', '.join(names) or 'none'}", param="model"
    )


def require_name(asked: str | None) -> None:
    """Raises `InputError` where `asked` is no name that a model could have in Ollama."""
    if asked and not _VALID.fullmatch(asked.strip()):
        raise InputError(f"invalid model name: {asked!r}", param="model")


class AskedNames:
    """By which names clients asked for models, to show these models under the same names.

    Requests are answered in several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_model: dict[str, dict[str, None]] = {}

    def add(self, full: str, asked: str, known: Iterable[str]) -> None:
        """A client called the model `full` by `asked`; `known` are names that lists show."""
        shown = tagged(bare(asked))
        shown = next((name for name in known if name.lower() == shown.lower()), shown)
        with self._lock:
            names = self._by_model.setdefault(full, {})
            names.pop(shown, None)
            names[shown] = None
            if len(names) > _MOST_ASKED:
                del names[next(iter(names))]

    def of(self, full: str) -> list[str]:
        """The names of one model, the last asked at the end."""
        with self._lock:
            return list(self._by_model.get(full, ()))

    def forget(self, full: str) -> None:
        """The model isn't loaded any more."""
        with self._lock:
            self._by_model.pop(full, None)


def shown_names(name: str, aliases: Sequence[str]) -> list[str]:
    """The names under which lists show a model: the full one first, each with a tag."""
    return list(dict.fromkeys(map(tagged, client_names(name, aliases))))


def is_served(catalogue: Catalogue, asked: str) -> bool:
    """Whether `served_name` finds a model."""
    try:
        catalogue.resolve(asked)
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
