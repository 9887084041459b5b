"""Errors as the outside sees them: one table from our codes to statuses, one shape a dialect."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from likewise.base.errors import InputError, InputTooLong, LikewiseError
from likewise.base.extras import missing
from likewise.server.routing import dialect_of_scope

if TYPE_CHECKING:
    from starlette.requests import Request

RETRY_AFTER_S = 1
_LONGEST_MESSAGE = 2000
_LONGEST_PARAM = 200
"""A message repeats names that came with the request, which may have any length."""

_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_RATE = "rate_limit_error"

STATUS: dict[str, tuple[int, str]] = {
    "error": (500, _SERVER),
    "invalid_input": (400, _REQUEST),
    "body_malformed": (400, _REQUEST),
    "input_empty": (400, _REQUEST),
    "input_unreadable": (400, _REQUEST),
    "input_too_long": (400, _REQUEST),
    "invalid_dimensions": (400, _REQUEST),
    "invalid_settings": (400, _REQUEST),
    "missing_extra": (501, _SERVER),
    "model_error": (500, _SERVER),
    "model_not_found": (404, _REQUEST),
    "model_unsupported": (400, _REQUEST),
    "model_corrupt": (500, _SERVER),
    "engine_error": (500, _SERVER),
    "not_finite": (500, _SERVER),
    "endpoint_error": (502, _SERVER),
    "endpoint_unavailable": (503, _SERVER),
    "endpoint_key_refused": (502, _SERVER),
    "endpoint_refused": (502, _SERVER),
    "endpoint_garbled": (502, _SERVER),
    "database_error": (500, _SERVER),
    "database_locked": (503, _SERVER),
    "database_unavailable": (503, _SERVER),
    "database_read_only": (500, _SERVER),
    "database_full": (507, _SERVER),
    "database_corrupt": (500, _SERVER),
    "database_missing": (500, _SERVER),
    "binding_error": (500, _SERVER),
    "binding_not_found": (404, _REQUEST),
    "binding_exists": (409, _REQUEST),
    "no_key": (400, _REQUEST),
    "schema_drift": (409, _SERVER),
    "mass_delete": (409, _SERVER),
    "lease_lost": (503, _SERVER),
    "not_yet_searchable": (503, _SERVER),
    "file_unreadable": (500, _SERVER),
    "root_missing": (503, _SERVER),
    "space_mismatch": (409, _REQUEST),
    "overloaded": (503, _SERVER),
    "deadline_exceeded": (503, _SERVER),
    "rate_limited": (429, _RATE),
    "access_error": (403, _REQUEST),
    "unauthorised": (401, _REQUEST),
    "forbidden": (403, _REQUEST),
    "admin_error": (409, _REQUEST),
    "address_in_use": (500, _SERVER),
}
"""For each `LikewiseError.code`: the HTTP status, and OpenAI's `type` of the answer."""

TEI_STATUS: dict[str, int] = {
    "invalid_input": 422,
    "input_unreadable": 422,
    "input_too_long": 422,
    "invalid_dimensions": 422,
    "missing_extra": 424,
    "model_error": 424,
    "model_unsupported": 424,
    "model_corrupt": 424,
    "engine_error": 424,
    "not_finite": 424,
    "overloaded": 429,
    "deadline_exceeded": 429,
}
"""Where Text Embeddings Inference answers with another status."""

OLLAMA_STATUS: dict[str, int] = {"not_finite": 400}
"""Where Ollama answers with another status."""

OLLAMA_WORDS: dict[str, str] = {
    "input_too_long": "the input length exceeds the context length",
    "not_finite": "embedding contains NaN or Inf values",
    "overloaded": "server busy, please try again.  maximum pending requests exceeded",
}
"""What Ollama says first, for clients that look for it; our own words come after."""

STATUS_BY_DIALECT: dict[str, dict[str, int]] = {"tei": TEI_STATUS, "ollama": OLLAMA_STATUS}

_TEI_TYPES = {424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
_TEI_TYPES_BY_CODE = {"input_empty": "Empty", "input_unreadable": "Tokenizer"}


@dataclass(frozen=True)
class Refusal:
    """An answer that isn't a success."""

    status: int
    type: str
    message: str
    code: str
    param: str | None = None
    retry_after_s: float | None = None
    inputs: tuple[int, ...] = ()
    """Positions of the inputs that failed, where it is about some of them."""
    lengths: tuple[int, int] | None = None
    """Of a text that is too long: the tokens that the model reads, and those that it has."""

    def response(self, dialect: str = "openai") -> Response:
        """As `dialect` says it, with `Retry-After` where a retry can help."""
        status = STATUS_BY_DIALECT.get(dialect, {}).get(self.code, self.status)
        body = SHAPES.get(dialect, _openai)(self._short(), status)
        headers = {"x-likewise-error": self.code}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return json_response(body, status, headers)

    def _short(self) -> Refusal:
        if len(self.message) <= _LONGEST_MESSAGE and len(self.param or "") <= _LONGEST_PARAM:
            return self
        half = _LONGEST_MESSAGE // 2
        message = self.message
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:half]} ... {message[-half:]}"
        return replace(self, message=message, param=self.param and self.param[:_LONGEST_PARAM])


Shape = Callable[[Refusal, int], Mapping[str, Any]]


OPENAI_CODES: dict[str, str] = {
    "body_malformed": "invalid_input",
    "input_empty": "invalid_input",
    "unauthorised": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
}
"""What OpenAI calls them; `X-Likewise-Error` has our own code."""


def _openai(refusal: Refusal, status: int) -> Mapping[str, Any]:
    """OpenAI's clients read `error`, those of Jina and Voyage `detail`, those of TEI the rest."""
    told = _likewise(refusal, status)
    error = {**told["error"], "code": OPENAI_CODES.get(refusal.code, refusal.code)}
    kind = _tei_type(refusal, status)
    words = refusal.message
    return {"error": error, "detail": words, "message": words, "code": status, "type": kind}


def _likewise(refusal: Refusal, status: int) -> Mapping[str, Any]:
    del status
    error: dict[str, Any] = {
        "message": refusal.message,
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.code,
    }
    if refusal.inputs:
        error["inputs"] = list(refusal.inputs)
    return {"error": error}


def _tei_type(refusal: Refusal, status: int) -> str:
    """What Text Embeddings Inference calls a refusal."""
    kind = _TEI_TYPES_BY_CODE.get(refusal.code) or _TEI_TYPES.get(status)
    return kind or ("Validation" if status < 500 else "Backend")


def _tei(refusal: Refusal, status: int) -> Mapping[str, Any]:
    kind = _tei_type(refusal, status)
    message = refusal.message
    if refusal.lengths is not None:
        # The sentence that clients of TEI look for.
        most, given = refusal.lengths
        theirs = f"Input validation error: `inputs` must have less than {most} tokens."
        message = f"{theirs} Given: {given} ({message})"
    return {"error": message, "error_type": kind}


def _ollama(refusal: Refusal, status: int) -> Mapping[str, Any]:
    theirs = OLLAMA_WORDS.get(refusal.code)
    message = refusal.message if theirs is None else f"{theirs}: {refusal.message}"
    # At 401 Ollama's own client for Go, and every program on it, reads `status` alone.
    return {"error": message, "status": message} if status == 401 else {"error": message}


def _cohere(refusal: Refusal, status: int) -> Mapping[str, Any]:
    """Cohere's client reads `message`; others that rerank at the same paths read the rest."""
    return _openai(refusal, status)


def _llama_cpp(refusal: Refusal, status: int) -> Mapping[str, Any]:
    """The status stands where OpenAI's clients look for a word."""
    error = {"code": status, "message": refusal.message, "type": refusal.type}
    return {"error": error, "detail": refusal.message}


SHAPES: dict[str, Shape] = {
    "openai": _openai,
    "likewise": _likewise,
    "vllm": _openai,
    "jina": _openai,
    "infinity": _openai,
    "nim": _openai,
    "llamacpp": _llama_cpp,
    "tei": _tei,
    "ollama": _ollama,
    "cohere": _cohere,
}
"""How each dialect writes an error."""


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body), status, headers, "application/json")


def refusal_of(error: LikewiseError) -> Refusal:
    """Our error, as the outside sees it."""
    status, kind = STATUS[error.code]
    after = error.retry_after_s
    if after is None and error.retryable:
        after = RETRY_AFTER_S
    refusal = Refusal(status, kind, str(error), error.code, error.param, after, error.inputs)
    if isinstance(error, InputTooLong) and error.limit is not None and error.tokens is not None:
        return replace(refusal, lengths=(error.limit, error.tokens))
    return refusal


async def on_likewise_error(request: Request, error: Exception) -> Response:
    """Answers for a `LikewiseError` that a route raised."""
    if not isinstance(error, LikewiseError):
        raise AssertionError("registered for LikewiseError only; this is a bug")
    return refusal_of(error).response(dialect_of_scope(request.scope))


async def on_import_error(request: Request, error: Exception) -> Response:
    """Answers for a package of an extra that a route found missing."""
    found = missing(error, "this request") if isinstance(error, ImportError) else None
    if found is None:
        raise error
    return await on_likewise_error(request, found)


_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
}


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answers for paths, methods and bodies that no route takes."""
    if not isinstance(error, HTTPException):
        raise AssertionError("registered for HTTPException only; this is a bug")
    message = error.detail
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path}"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{request.url.path} takes {allowed}, not {request.method}"
    code = _HTTP_CODES.get(error.status_code, "http_error")
    refusal = Refusal(error.status_code, _REQUEST, message, code)
    answer = refusal.response(dialect_of_scope(request.scope))
    answer.headers.update(error.headers or {})
    return answer


def internal_error(dialect: str = "openai") -> Response:
    """The answer when the failure is ours; what happened is in the log, not in the answer."""
    message = "the server failed to answer; this is a bug, its log has the details"
    return Refusal(500, _SERVER, message, "internal_error").response(dialect)


def bad_input(message: str, param: str | None = None) -> InputError:
    """A request that can't be answered as it was sent."""
    return InputError(message, param=param)
