"""`grpc.health.v1`: whether the server is ready, as `/ready` says over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from likewise.server.grpc import inner_http

if TYPE_CHECKING:
    from starlette.applications import Starlette

_STATUS = health_pb2.HealthCheckResponse
LOOK_EVERY_S = 1.0
"""How often a watched status is looked at."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc, unused-ignore]
    """Every service is ready when the server is; needs no key, as `/ready` doesn't."""

    def __init__(self, app: Starlette, services: frozenset[str]) -> None:
        """For `services`, by their full names, and for the empty name, which means all."""
        self._app = app
        self._services = services | {""}

    async def Check(self, request: Any, context: Any) -> Any:
        """Whether it is ready now; NOT_FOUND for a service that isn't here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return await self._status()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Whether it is ready now, and each change, until the caller goes."""
        del context
        if request.service not in self._services:
            yield _STATUS(status=_STATUS.SERVICE_UNKNOWN)
            return
        last = None
        while True:
            status = await self._status()
            if status != last:
                yield status
                last = status
            await asyncio.sleep(LOOK_EVERY_S)

    async def _status(self) -> Any:
        answer = await inner_http.request(self._app, "GET", "/ready")
        is_ready = answer.status == 200
        return _STATUS(status=_STATUS.SERVING if is_ready else _STATUS.NOT_SERVING)
