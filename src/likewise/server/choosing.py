"""Which served model a request is for, where it names none or one that isn't served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.errors import InputError, ModelNotFound
from likewise.server import notices

if TYPE_CHECKING:
    from starlette.requests import Request

    from likewise.server.catalogue import Catalogue, Listed

Need = Callable[[Mapping[str, Any]], bool]
"""Whether a model of which these facts are known can do what is asked."""

ANY_NAME = "*"
"""An alias that stands for every name that isn't known."""


def _giving(kind: str) -> Need:
    return lambda facts: kind in facts["gives"]


VECTORS = _giving("vectors")
SPARSE = _giving("sparse")
TOKENS = _giving("tokens")
SCORES = _giving("scores")


def reranks(facts: Mapping[str, Any]) -> bool:
    """Whether it gives one score for a pair."""
    return SCORES(facts) and len(facts.get("labels", ())) == 1


def choose(
    request: Request,
    name: str | None,
    needs: Sequence[Need] = (),
    *,
    takes_any_name: bool = False,
    takes_first: bool = False,
) -> str:
    """The full name of the model that is asked for by `name`.

    None and "" name none: then it is the one that can do what is asked. `needs` are tried in turn
    until a model fits. Where several fit, it is the default model if that is among them, else the
    first of them where `takes_first`. With `takes_any_name` a name that isn't served stands for the
    only model that fits, and a warning header says so; a strict server refuses it.

    Raises:
        ModelNotFound: no such model is served.
        InputError: none is named and none or several fit.
    """
    catalogue: Catalogue = request.app.state.models
    if not name:
        return _unnamed(catalogue, needs, takes_first=takes_first)
    try:
        return catalogue.resolve(name)
    except ModelNotFound:
        chosen = _by_any_name(catalogue) or (
            _only(catalogue, needs)
            if takes_any_name and not getattr(request.app.state, "strict", False)
            else None
        )
        if chosen is None:
            raise
    notices.warn(request, f"the model {name!r} isn't served here; {chosen} answered")
    return chosen


def _by_any_name(catalogue: Catalogue) -> str | None:
    return next((one.name for one in catalogue.models() if ANY_NAME in one.aliases), None)


def _only(catalogue: Catalogue, needs: Sequence[Need]) -> str | None:
    served = catalogue.models()
    fitting = _fitting(served, needs) or [one.name for one in served]
    return fitting[0] if len(fitting) == 1 else None


def _unnamed(catalogue: Catalogue, needs: Sequence[Need], *, takes_first: bool) -> str:
    served = catalogue.models()
    if len(served) == 1:
        return served[0].name
    default = _default(catalogue)
    fitting = _fitting(served, needs)
    if len(fitting) == 1:
        return fitting[0]
    if default is not None and (default in fitting or not fitting):
        return default
    if not fitting:
        # Models that aren't loaded don't say what they give.
        unknown = [one.name for one in served if "gives" not in one.facts()]
        if len(unknown) == 1:
            return unknown[0]
        fitting = unknown or [one.name for one in served]
    if takes_first and fitting:
        return fitting[0]
    if not served:
        return catalogue.resolve(None)
    raise InputError(
        f"'model' is missing, and several models can do this: {', '.join(fitting)}. Name one, or "
        "start the server with --default-model",
        param="model",
    )


def _fitting(served: Sequence[Listed], needs: Sequence[Need]) -> list[str]:
    """The names of those that fit the first of `needs` that any fits."""
    known = [(one.name, facts) for one in served if "gives" in (facts := one.facts())]
    for need in needs:
        if found := [name for name, facts in known if need(facts)]:
            return found
    return [] if needs else [name for name, _ in known]


def _default(catalogue: Catalogue) -> str | None:
    """The default model, or the only one; None where there is neither."""
    try:
        return catalogue.resolve(None)
    except InputError:
        return None
