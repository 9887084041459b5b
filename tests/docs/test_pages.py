"""The pages say what the code does: made pages are up to date, the HTTP page leaves nothing out."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from likewise.cli import settings
from likewise.runtime import metrics
from likewise.server import page
from likewise.server.app import build
from likewise.server.errors import STATUS
from likewise.server.routing import Spoken
from likewise.server.search import SearchRequest
from tests.docs.pages import EXAMPLE, PAGES
from tests.unit.server.fakes import FakeModel


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_up_to_date(repo: Path, name: str) -> None:
    written = (repo / "docs" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run: python -m tests.docs.pages"


def test_the_example_is_a_settings_file() -> None:
    read = settings.parse(EXAMPLE)
    assert read.binding[0].text == "{title}\n{body}"


@pytest.fixture(scope="module")
def http(repo: Path) -> str:
    """All pages: each dialect has its own."""
    pages = sorted((repo / "docs").glob("*.md"))
    return "\n".join(path.read_text(encoding="utf-8") for path in pages)


def test_every_route_is_documented(http: str) -> None:
    routes = [route for route in build({"m": FakeModel()}).routes if isinstance(route, Route)]
    own = {route.path for route in page.routes()}
    for path in {route.path for route in routes} - own:
        assert f"`{path.replace(':path', '')}`" in http, path
    assert own >= {"/"}


def test_every_field_is_documented(http: str) -> None:
    routes = [route for route in build({"m": FakeModel()}).routes if isinstance(route, Spoken)]
    given = [route.body if isinstance(route.body, tuple) else (route.body,) for route in routes]
    bodies = [body for each in given for body in each if hasattr(body, "__struct_fields__")]
    assert bodies
    for body in (*bodies, SearchRequest):
        for field in body.__struct_fields__:
            assert f"`{field}`" in http, (body, field)


def test_every_error_code_is_documented_with_its_status(http: str) -> None:
    for code, (status, _) in STATUS.items():
        assert re.search(rf"\| `{code}` \| {status} \|", http), code


def test_every_metric_is_documented(http: str) -> None:
    registry = CollectorRegistry()
    build({"m": FakeModel()}, registry=registry)
    for each in (registry, metrics.REGISTRY):
        for family in each.collect():
            assert f"`{family.name}" in http, family.name
