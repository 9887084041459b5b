"""The page: one small application of static files, allowed to load nothing from elsewhere."""

from __future__ import annotations

import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from likewise.server import openapi
from likewise.server.prefix import HEADER

if TYPE_CHECKING:
    from starlette.requests import Request

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console/page.css": ("page.css", "text/css; charset=utf-8"),
    "/console/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes() -> list[Route]:
    """The page and its parts."""
    return [
        *(Route(path, _root if path == "/" else _file, methods=["GET"]) for path in _FILES),
        Route("/docs", _to_docs, methods=["GET"]),
        Route("/docs/", _docs, methods=["GET"]),
    ]


async def _to_docs(request: Request) -> Response:
    """To the page of routes; relative, so that it holds behind a path prefix too."""
    del request
    return Response(status_code=303, headers={"location": "docs/"})


async def _docs(request: Request) -> Response:
    """What the OpenAPI document says, as a page: routes with what they do."""
    described = await openapi.described(request)
    rows = [
        f"<tr><td>{escape(operation['tags'][0])}</td><td>{method.upper()}</td>"
        f"<td><code>{escape(path)}</code></td><td>{escape(operation['summary'])}</td></tr>"
        for path, methods in sorted(described["paths"].items())
        for method, operation in methods.items()
    ]
    content = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Likewise: routes</title>"
        "<h1>Routes</h1><p>The whole description is <a href=../openapi.json>openapi.json</a>.</p>"
        "<table><tr><th>dialect<th>method<th>path<th>what it does</tr>"
        f"{''.join(rows)}</table></html>"
    )
    return Response(content, headers=_HEADERS, media_type="text/html; charset=utf-8")


_RUNNING = "Ollama is running"
"""What programs and health checks written for Ollama look for at `/`; browsers get the page."""


async def _root(request: Request) -> Response:
    """The page for who asks for HTML, as browsers do; else Ollama's words.

    Ollama's are looked for at the root of a host: behind a proxy that serves a path there is the
    page for everybody.
    """
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page or HEADER in request.headers:
        answer = await _file(request)
    else:
        answer = Response(_RUNNING, media_type="text/plain")
    answer.headers["vary"] = "Accept"
    return answer


async def _file(request: Request) -> Response:
    name, media_type = _FILES[request.url.path]
    content, etag = _content(name)
    headers = _HEADERS | {"etag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


@cache
def _content(name: str) -> tuple[bytes, str]:
    content = files("likewise.server").joinpath("console", name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'
