"""A gRPC server beside the HTTP one, in its event loop, over the same application."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from likewise.base.errors import AddressInUse, InputError
from likewise.base.extras import needed
from likewise.server.errors import refusal_of
from likewise.server.grpc import inner_http
from likewise.server.grpc.inner_http import Answer

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from starlette.applications import Starlette

    from likewise.server.grpc.proto_file import Method
    from likewise.server.grpc.tei_calls import Call

IN_FLIGHT = 1024
"""Messages of one stream that are computed at a time; the next ones wait unread (TEI's number)."""

_CODES = {
    "Unhealthy": "UNAVAILABLE",
    "Backend": "INTERNAL",
    "Overloaded": "RESOURCE_EXHAUSTED",
    "Validation": "INVALID_ARGUMENT",
    "Empty": "INVALID_ARGUMENT",
    "Tokenizer": "FAILED_PRECONDITION",
}
"""TEI's status for each of its `error_type`s."""

_CODES_BY_STATUS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_CODES_BY_ERROR = {"deadline_exceeded": "DEADLINE_EXCEEDED"}

_PASSED_ON = (
    "authorization",
    "api-key",
    "x-api-key",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-likewise-lane",
    "x-likewise-timeout-ms",
)
"""Metadata of a call that is a header of the request."""
_TIMEOUT = "x-likewise-timeout-ms"
_LANE = "x-likewise-lane"
_MODEL = "model"
"""Metadata that names one of several models."""
_NO_ANSWER = frozenset(("content-type", "content-length", "connection"))


def require_grpc() -> None:
    """Raises `MissingExtra` unless what speaks gRPC is installed."""
    with needed("gRPC (grpc_port)", extra="grpc", param="grpc_port"):
        import grpc  # noqa: F401 - only whether it is there
        import grpc_health.v1.health  # noqa: F401
        import grpc_reflection.v1alpha.reflection  # noqa: F401


class GrpcServer:
    """Answers `tei.v1`, `grpc.health.v1` and reflection on a port of its own."""

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        *,
        certificate: tuple[Path, Path] | None = None,
        held: socket.socket | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Over `app`, on `host` and `port`; a port of 0 takes a free one when it starts.

        `certificate` are PEM files of a certificate and its key: calls are then encrypted. `held`
        is a socket that keeps the port from others until then; it is closed at the start, since
        gRPC binds the port itself.
        """
        self._held = held
        self._app = app
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._certificate = certificate
        self._in_flight = in_flight
        self._server: Any = None
        self.port = port

    async def start(self) -> None:
        """Begin to answer, in the running event loop.

        Raises:
            AddressInUse: the port is taken.
            MissingExtra: what speaks gRPC isn't installed.
        """
        require_grpc()
        import grpc
        from grpc_health.v1 import health_pb2_grpc
        from grpc_reflection.v1alpha import reflection

        from likewise.server.grpc.health import Health
        from likewise.server.grpc.tei_calls import PROTO

        size = self._app.state.max_body_bytes
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", size)]
        # Answers may be larger than what was asked: a state for each token.
        self._server = grpc.aio.server(options=[*options, ("grpc.max_send_message_length", -1)])
        services = sorted({method.service for method in PROTO.methods})
        for service in services:
            handlers = {
                each.name: self._handler(each) for each in PROTO.methods if each.service == service
            }
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        health = Health(self._app, frozenset(services))
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        names = (*services, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=_reflected(PROTO.pool))
        if self._held is not None:
            self._held.close()
        try:
            self.port = self._bound()
        except RuntimeError as taken:
            raise AddressInUse(
                f"the gRPC address {self._address} can't be listened on: {taken}", param="grpc_port"
            ) from taken
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; those that run may take `grace_s` seconds to end."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def _bound(self) -> int:
        import grpc

        if self._certificate is None:
            return int(self._server.add_insecure_port(self._address))
        chain, key = (path.read_bytes() for path in self._certificate)
        credentials = grpc.ssl_server_credentials([(key, chain)])
        return int(self._server.add_secure_port(self._address, credentials))

    def _handler(self, method: Method) -> Any:
        import grpc

        coded = {
            "request_deserializer": method.request.FromString,
            "response_serializer": method.response.SerializeToString,
        }
        if method.is_server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._streaming(method), **coded)
        if method.is_client_streaming:
            return grpc.stream_unary_rpc_method_handler(self._gathering(method), **coded)
        return grpc.unary_unary_rpc_method_handler(self._unary(method), **coded)

    def _unary(self, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(message: Any, context: Any) -> Any:
            async with _ended(context):
                return await self._answer(method, message, context, _headers(context))

        return answer

    def _gathering(self, method: Method) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(messages: AsyncIterator[Any], context: Any) -> Any:
            import grpc

            from likewise.server.grpc.tei_calls import gathered

            # As much as one request's body may be, however many messages it comes in.
            most, size, taken = self._app.state.max_body_bytes, 0, []
            async for each in messages:
                size += each.ByteSize()
                if size > most:
                    await context.abort(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        f"the stream is longer than {most} bytes",
                    )
                taken.append(each)
            if not taken:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the stream has no message")
            async with _ended(context):
                return await self._answer(method, gathered(taken), context, _headers(context))

        return answer

    def _streaming(self, method: Method) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def answer(messages: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            # Many texts are bulk work, though each comes alone.
            headers = {_LANE: "bulk", **_headers(context)}

            async def one(message: Any) -> Any:
                return await self._answer(method, message, context, headers)

            answers = in_order(messages, one, self._in_flight)
            async with _ended(context), contextlib.aclosing(answers):
                async for each in answers:
                    yield each

        return answer

    async def _answer(
        self, method: Method, message: Any, context: Any, headers: Mapping[str, str]
    ) -> Any:
        """The response to one message.

        Raises:
            _Refused: the message is no request, or the route answered with no 200.
        """
        from likewise.server.grpc.tei_calls import call_of, metadata

        began = time.perf_counter()
        call = call_of(method)
        try:
            body = call.body(message)
        except InputError as wrong:
            refusal = refusal_of(wrong).response("tei")
            raise _Refused(Answer(refusal.status_code, body=bytearray(refusal.body))) from wrong
        answer = await self._request(call, body, context, headers)
        if answer.status != 200:
            raise _Refused(answer)
        response = method.response()
        call.fill(response, answer.json())
        if "metadata" in method.response.DESCRIPTOR.fields_by_name:
            response.metadata.CopyFrom(metadata(answer, began))
        if not method.is_server_streaming:
            context.set_trailing_metadata(_said(answer))
        return response

    async def _request(
        self, call: Call, body: Any, context: Any, headers: Mapping[str, str]
    ) -> Answer:
        passed = dict(headers)
        model = passed.pop(_MODEL, None)
        return await inner_http.request(
            self._app,
            call.method,
            call.path,
            body=body,
            query={} if model is None else {"model": model},
            headers=passed,
            client=_client(context.peer()),
        )


async def in_order(
    messages: AsyncIterator[Any], do: Callable[[Any], Awaitable[Any]], most: int
) -> AsyncGenerator[Any]:
    """What `do` gives for each message, in order; at most `most` of them are being done.

    Raises:
        Exception: whatever `do` raises for the first message that fails; the rest is cancelled.
    """
    waiting: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue(most)
    begun: set[asyncio.Future[Any]] = set()

    async def read() -> None:
        try:
            async for message in messages:
                work = asyncio.ensure_future(do(message))
                begun.add(work)
                work.add_done_callback(begun.discard)
                await waiting.put(work)
        finally:
            await waiting.put(None)

    reading = asyncio.ensure_future(read())
    try:
        while (work := await waiting.get()) is not None:
            yield await work
        await reading
    finally:
        left = [reading, *begun]
        for each in left:
            each.cancel()
        while not waiting.empty():
            waiting.get_nowait()
        await asyncio.gather(*left, return_exceptions=True)


def _headers(context: Any) -> dict[str, str]:
    """The call's metadata that counts, and its deadline."""
    given = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    passed = {name: given[name] for name in (*_PASSED_ON, _MODEL) if name in given}
    left = context.time_remaining()
    if left is not None and _TIMEOUT not in passed and 0 < left < 24 * 3600:
        passed[_TIMEOUT] = str(max(1, int(left * 1000)))
    return passed


def _client(peer: str) -> tuple[str, int] | None:
    """Address and port of a peer such as `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = peer.partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return host.replace("%5B", "").replace("%5D", "").strip("[]"), int(port)


def _said(answer: Answer) -> tuple[tuple[str, str], ...]:
    """The answer's headers of its own, as trailing metadata."""
    return tuple(
        (name, value)
        for name, value in answer.headers.items()
        if name not in _NO_ANSWER and value.isascii()
    )


class _Refused(Exception):
    """A request that wasn't answered with 200."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@contextlib.asynccontextmanager
async def _ended(context: Any) -> AsyncIterator[None]:
    """Ends the call with a status where a message of it was refused.

    Not where the message is answered: in a stream those before it may still be computed, and are
    owed their answers.
    """
    try:
        yield
    except _Refused as refused:
        await _refuse(context, refused.answer)


async def _refuse(context: Any, answer: Answer) -> None:
    import grpc

    said = answer.json() if answer.body else {}
    error = said.get("error", "")
    message = error.get("message", "") if isinstance(error, dict) else str(error)
    name = (
        _CODES_BY_ERROR.get(answer.headers.get("x-likewise-error", ""))
        or _CODES_BY_STATUS.get(answer.status)
        or _CODES.get(str(said.get("error_type", "")))
        or ("INTERNAL" if answer.status >= 500 else "INVALID_ARGUMENT")
    )
    await context.abort(grpc.StatusCode[name], message, _said(answer))


def _reflected(pool: Any) -> Any:
    """A pool with the file's descriptors and those of health and reflection."""
    from google.protobuf import descriptor_pool
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    together = descriptor_pool.DescriptorPool()
    for described in (
        pool.FindFileByName("tei.proto"),
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    ):
        together.AddSerializedFile(described.serialized_pb)
    return together
