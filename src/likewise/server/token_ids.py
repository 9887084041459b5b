"""Inputs that are token ids: made visible, for nothing shows which tokenizer they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.errors import InputError
from likewise.base.log import fields, logger
from likewise.server import notices
from likewise.server.defaults import defaults_of

if TYPE_CHECKING:
    from starlette.requests import Request

_log = logger("server")

_MOST_CLIENTS = 10_000
"""Clients that are remembered as told; after that all are told once more."""
_LANGCHAIN = "LangChain's OpenAIEmbeddings sends texts with check_embedding_ctx_length=False"
WARNING = (
    "token ids were read as this model's own; ids of another tokenizer give vectors of other "
    f"words. Send texts if they may be another's ({_LANGCHAIN})"
)


def check(request: Request, inputs: Sequence[Any]) -> None:
    """Count inputs that are lists of token ids, and say that they were there.

    The answer gets a warning in a header, the log a line for each key, or each address where there
    are no keys.

    Raises:
        InputError: there are some, and the server is set to refuse them.
    """
    count = sum(not isinstance(one, str | tuple) for one in inputs)
    if not count:
        return
    if defaults_of(request).token_ids == "refuse":
        raise InputError(
            "this server takes texts, not token ids (token_ids = refuse): ids mean something only "
            "with this model's own tokenizer, and nothing shows which one they were made with. "
            f"Send texts; {_LANGCHAIN}",
            param="input",
        )
    notices.warn(request, WARNING)
    notes: dict[str, Any] = request.scope.setdefault("likewise", {})
    notes["token_ids"] = notes.get("token_ids", 0) + count
    _log_once(request, notes)


def _log_once(request: Request, notes: dict[str, Any]) -> None:
    state = request.app.state
    if not hasattr(state, "told_of_token_ids"):
        state.told_of_token_ids = set()
    told: set[str] = state.told_of_token_ids
    key = request.scope.get("state", {}).get("caller", {}).get("name")
    who = {"key": key} if key else {"client": request.client.host if request.client else "local"}
    name = repr(who)
    if name in told:
        return
    if len(told) >= _MOST_CLIENTS:
        told.clear()
    told.add(name)
    _log.warning(
        fields(
            "token ids",
            **who,
            model=notes.get("model"),
            route=request.url.path,
            note="read as this model's own; ids of another tokenizer give vectors of other words. "
            "This is said once for each key or address",
        )
    )
