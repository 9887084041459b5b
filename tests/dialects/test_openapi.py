"""The OpenAPI document is served, whole, and true: no crash, no status or shape it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route
from starlette.testclient import TestClient

from likewise.runtime.service import Service, load
from likewise.server import page
from likewise.server.app import build
from likewise.server.errors import STATUS, STATUS_BY_DIALECT
from likewise.server.openapi import document, statuses
from tests.conformance.tiny import write_bert, write_cross_encoder
from tests.unit.server.fakes import FakeModel

pytestmark = pytest.mark.filterwarnings("ignore")

EXAMPLES = 25
CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """An embedding model and a reranker, tiny and real."""
    place = tmp_path_factory.mktemp("models")
    folders = {
        "tiny/bert": write_bert(place / "bert"),
        "tiny/reranker": write_cross_encoder(place / "reranker"),
    }
    loaded = {
        name: load(folder, name=name, precision="exact", threads=1)
        for name, folder in folders.items()
    }
    yield loaded
    for service in loaded.values():
        service.close()


@pytest.fixture(scope="module")
def app(served: dict[str, Service]) -> Any:
    """The whole application."""
    return build(served)


@pytest.fixture(scope="module")
def api(app: Any) -> Any:
    """What schemathesis makes of the document."""
    return schemathesis.openapi.from_asgi("/openapi.json", app)


OPERATIONS = [
    (path, method)
    for path, methods in document(build({"m": FakeModel()}).routes)["paths"].items()
    for method in methods
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_the_document_allows_is_answered_as_it_says(
    api: Any, path: str, method: str
) -> None:
    @given(case=api[path][method.upper()].as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def tried(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    tried()


def test_every_route_is_in_the_document(app: Any) -> None:
    served = TestClient(app).get("/openapi.json").json()
    own = {route.path for route in page.routes()}
    paths = {route.path.replace(":path", "") for route in app.routes if isinstance(route, Route)}
    assert set(served["paths"]) == paths - (own - {"/"})


def test_every_answer_that_is_json_has_a_schema(app: Any) -> None:
    served = TestClient(app).get("/openapi.json").json()
    without = [
        (path, method)
        for path, methods in served["paths"].items()
        for method, operation in methods.items()
        if operation["responses"]["200"].get("content", {}).get("application/json", "none") == {}
    ]
    assert not without


def test_the_schemas_are_schemas(app: Any) -> None:
    served = TestClient(app).get("/openapi.json").json()
    for shape in served["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(shape)


@pytest.mark.parametrize("dialect", ["openai", *STATUS_BY_DIALECT])
def test_every_status_of_the_table_is_in_the_document(dialect: str) -> None:
    own = STATUS_BY_DIALECT.get(dialect, {})
    assert statuses(dialect) >= {own.get(code, status) for code, (status, _) in STATUS.items()}


def test_the_document_needs_no_file_beside_it(app: Any, tmp_path: Path) -> None:
    text = TestClient(app).get("/api-doc/openapi.json").text
    assert '"$ref":"#/components/schemas/' in text.replace(" ", "")
    assert "http" not in text.replace('"http"', "")
