"""Errors as the outside sees them: one table from our codes to status and type, one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from likewise.base.errors import InputError, LikewiseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

RETRY_AFTER_S = 1

_REQUEST = "invalid_request_error"
_SERVER = "server_error"

STATUS: dict[str, tuple[int, str]] = {
    "error": (500, _SERVER),
    "invalid_input": (400, _REQUEST),
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
    "database_error": (500, _SERVER),
    "database_locked": (503, _SERVER),
    "database_read_only": (500, _SERVER),
    "database_full": (507, _SERVER),
    "database_corrupt": (500, _SERVER),
    "database_missing": (500, _SERVER),
    "binding_error": (500, _SERVER),
    "binding_not_found": (404, _REQUEST),
    "binding_exists": (409, _REQUEST),
    "no_key": (400, _REQUEST),
    "schema_drift": (409, _SERVER),
    "lease_lost": (503, _SERVER),
    "space_mismatch": (409, _REQUEST),
    "overloaded": (503, _SERVER),
    "address_in_use": (500, _SERVER),
}
"""For each `LikewiseError.code`: the HTTP status, and the `type` field of the answer."""


@dataclass(frozen=True)
class Refusal:
    """An answer that isn't a success, in OpenAI's error shape."""

    status: int
    type: str
    message: str
    code: str
    param: str | None = None
    retryable: bool = False

    def response(self) -> Response:
        """As it goes out, with `Retry-After` where a retry can help."""
        body = {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }
        headers = {"retry-after": str(RETRY_AFTER_S)} if self.retryable else None
        return json_response(body, self.status, headers)


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body), status, headers, "application/json")


def refusal_of(error: LikewiseError) -> Refusal:
    """Our error, as the outside sees it."""
    status, kind = STATUS[error.code]
    return Refusal(status, kind, str(error), error.code, error.param, error.retryable)


async def on_likewise_error(_request: Request, error: Exception) -> Response:
    """Answers for a `LikewiseError` that a route raised."""
    if not isinstance(error, LikewiseError):
        raise AssertionError("registered for LikewiseError only; this is a bug")
    return refusal_of(error).response()


_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


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
    answer = Refusal(error.status_code, _REQUEST, message, code).response()
    answer.headers.update(error.headers or {})
    return answer


def internal_error() -> Response:
    """The answer when the failure is ours; what happened is in the log, not in the answer."""
    message = "the server failed to answer; this is a bug, its log has the details"
    return Refusal(500, _SERVER, message, "internal_error").response()


def bad_input(message: str, param: str | None = None) -> InputError:
    """A request that can't be answered as it was sent."""
    return InputError(message, param=param)
