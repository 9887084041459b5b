"""Request ids, and the line that every request leaves in the log."""

import json
import logging
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import EngineError
from likewise.base.log import JsonFormatter
from likewise.server.app import build
from tests.unit.server.fakes import FakeModel

SECRET = "a text that is nobody's business"


class Lines(logging.Handler):
    """What JSON logs would have."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def access(self) -> dict[str, object]:
        (line,) = (line for line in self.lines if '"likewise.server.access"' in line)
        found: dict[str, object] = json.loads(line)
        return found


@pytest.fixture
def log() -> Iterator[Lines]:
    lines, root = Lines(), logging.getLogger("likewise")
    before = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(lines)
    root.setLevel(before)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(build({"m": FakeModel()})) as client:
        yield client


def test_the_callers_id_goes_into_answer_and_log(client: TestClient, log: Lines) -> None:
    headers = {"x-request-id": "abc-123", "authorization": "Bearer sk-secret"}
    answer = client.post("/v1/embeddings", json={"input": [SECRET, "a"]}, headers=headers)
    assert answer.headers["x-request-id"] == "abc-123"
    line = log.access()
    assert line.pop("ts")
    assert isinstance(line.pop("ms"), float)
    assert line == {
        "level": "info", "logger": "likewise.server.access", "message": "request",
        "request_id": "abc-123", "method": "POST", "route": "/v1/embeddings",
        "dialect": "openai", "status": 200, "inputs": 2, "tokens": 7, "model": "m",
        "lane": "interactive",
    }  # fmt: skip
    assert SECRET not in "".join(log.lines)
    assert "sk-secret" not in "".join(log.lines)


@pytest.mark.parametrize(
    "given", [None, "", "x" * 129, "a b", "a\tb", "ümlaut", "a\x7f", 'x" level="error\x1b']
)
def test_an_id_that_cant_be_shown_is_replaced(
    client: TestClient, log: Lines, given: str | None
) -> None:
    headers = {} if given is None else {b"x-request-id": given.encode("latin-1")}
    own = client.get("/health", headers=headers).headers["x-request-id"]
    assert own != given
    assert len(own) == 32
    assert log.access()["request_id"] == own
    assert client.get("/health").headers["x-request-id"] != own


def test_the_longest_id_is_kept(client: TestClient) -> None:
    answer = client.get("/health", headers={"x-request-id": "x" * 128})
    assert answer.headers["x-request-id"] == "x" * 128


def test_refusals_and_bugs_have_an_id_and_a_line(log: Lines) -> None:
    model = FakeModel(fails=EngineError("broken"))
    with TestClient(build({"m": model})) as client:
        answer = client.post("/v1/embeddings", json={"input": "a"})
        assert answer.headers["x-request-id"]
        assert (log.access()["status"], log.access()["error"]) == (500, "engine_error")
        log.lines.clear()
        model.fails = ZeroDivisionError("oh")  # type: ignore[assignment]
        answer = client.post("/v1/embeddings", json={"input": "a"}, headers={"x-request-id": "i"})
        assert answer.json()["error"]["code"] == "internal_error"
        assert answer.headers["x-request-id"] == "i"
        assert log.access()["status"] == 500
        (bug,) = (json.loads(line) for line in log.lines if '"bug"' in line)
        assert (bug["request_id"], bug["route"]) == ("i", "/v1/embeddings")
        assert "ZeroDivisionError" in bug["exception"]


def test_a_path_cant_forge_a_line(client: TestClient, log: Lines) -> None:
    client.get("/nothing%0aERROR%20forged%0d%1b[31m")
    assert log.access()["route"] == "unknown"
    assert len(log.lines) == 1
    assert "forged" not in log.lines[0]


def test_nothing_is_made_when_nobody_reads_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(event: str, **values: object) -> None:
        pytest.fail(f"made {event} {values}")

    monkeypatch.setattr("likewise.server.middleware.fields", fails)
    logging.getLogger("likewise.server.access").setLevel(logging.WARNING)
    try:
        assert client.get("/health").status_code == 200
    finally:
        logging.getLogger("likewise.server.access").setLevel(logging.NOTSET)
