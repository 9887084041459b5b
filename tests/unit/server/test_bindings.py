"""Live bindings and their routes, over real SQLite files and a model to compute by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest
from starlette.testclient import TestClient

from likewise.base.errors import SpaceMismatch
from likewise.base.spec import BindingSpec
from likewise.runtime.service import Service
from likewise.server import search
from likewise.server.app import build
from likewise.server.bindings import LiveBinding
from tests.binding_kit import create_binding, drop_binding, get_binding
from tests.support import BUSY_MS, wait_until
from tests.unit.server.fakes import FakeModel

Make = Callable[..., LiveBinding]


def service() -> Service:
    return cast("Service", FakeModel())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE t (a TEXT, b INTEGER, note, extra BLOB, PRIMARY KEY (a, b))")
    db.execute("INSERT INTO t VALUES ('x', 1, 'aeiou', x'00ff'), ('x', 2, 'bcdfg', NULL)")
    db.close()
    return path


@pytest.fixture
def make(database: Path) -> Iterator[Make]:
    made: list[LiveBinding] = []

    def make(name: str = "notes", text: str = "{note}{extra}") -> LiveBinding:
        spec = BindingSpec(name, f"sqlite:{database}", "t", text)
        model = service()
        record = create_binding(spec, model.space.with_chunker(spec.chunk))
        made.append(LiveBinding(record, lambda name: model))
        made[-1].start()
        wait_until(lambda: made[-1].status().current == 2, what="the first filling")
        wait_until(lambda: made[-1].state()["indexed"] == 2, what="the index")
        return made[-1]

    yield make
    for each in made:
        each.stop()


def client_of(*bindings: LiveBinding) -> TestClient:
    return TestClient(build({"fake/lengths": FakeModel()}, bindings))


def execute(path: Path, sql: str) -> None:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(BUSY_MS)
    db.execute(sql)
    db.close()


def test_an_answer_holds_the_row_its_place_and_its_passage(make: Make) -> None:
    # The BLOB isn't part of the text: it isn't read, however large it is.
    client = client_of(make(text="{note}"))
    answer = client.post("/search", json={"q": "aeiou", "k": 1}).json()
    assert (answer["binding"], answer["q"], answer["k"]) == ("notes", "aeiou", 1)
    assert answer["took_ms"] >= 0
    (found,) = answer["results"]
    assert found["score"] == pytest.approx(1)
    assert {**found, "score": 1} == {
        "score": 1,
        "table": "t",
        "key": ["x", 1],
        "row": {"a": "x", "b": 1, "note": "aeiou", "extra": None},
        "text": "aeiou",
        "passage": {"start": 0, "end": 5},
        "fresh": True,
    }


def test_a_change_is_searchable_and_a_deleted_row_is_never_returned(
    make: Make, database: Path
) -> None:
    client = client_of(make())

    def keys() -> list[Any]:
        answer = client.get("/search", params={"q": "iii iii iii", "k": 5}).json()
        return [(each["key"], each["fresh"]) for each in answer["results"]]

    execute(database, "INSERT INTO t VALUES ('y', 3, 'uuu uuu uuu', NULL)")
    wait_until(lambda: keys()[0] == (["y", 3], True))
    execute(database, "DELETE FROM t WHERE b = 3")
    # Not "soon": the rows are read with every search.
    assert ["y", 3] not in [key for key, _ in keys()]


def test_several_bindings_are_told_apart(make: Make) -> None:
    client = client_of(make("notes"), make("other"))
    assert [each["name"] for each in client.get("/bindings").json()["bindings"]] == [
        "notes",
        "other",
    ]
    missing = client.post("/search", json={"q": "a"})
    assert missing.status_code == 400
    assert "there are: notes, other" in missing.json()["error"]["message"]
    unknown = client.post("/search", json={"q": "a", "binding": "othr"})
    assert unknown.status_code == 404
    assert "did you mean 'other'" in unknown.json()["error"]["message"]
    assert client.post("/search", json={"q": "a", "binding": "other"}).status_code == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("q=", "the query is empty"),
        ("q=a&k=0", "k must be between 1 and 1000"),
        ("q=a&k=many", "k: expected int"),
        ("q=a&top=3", "unknown parameter 'top'"),
        ("k=3", "the field 'q' is missing"),
        ("q=a&freshness=perhaps", "freshness: invalid enum value 'perhaps'"),
        ("q=a&freshness=wait&wait_ms=60001", "wait_ms must be between 0 and 60000"),
    ],
)
def test_bad_searches(make: Make, query: str, words: str) -> None:
    answer = client_of(make()).get(f"/search?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_without_a_binding_a_search_says_so() -> None:
    answer = client_of().post("/search", json={"q": "a"})
    assert answer.status_code == 404
    assert "this server has no bindings" in answer.json()["error"]["message"]


def test_metrics_have_each_binding(make: Make) -> None:
    text = client_of(make()).get("/metrics").text
    for name, value in (("rows", 2), ("current", 2), ("pending", 0), ("parked", 0)):
        assert f'likewise_binding_{name}{{binding="notes"}} {value}.0' in text
    assert 'likewise_binding_lag_seconds{binding="notes"} 0.0' in text


def test_a_table_that_went_away_is_said_and_mended(make: Make, database: Path) -> None:
    live = make()
    client = client_of(live)
    execute(database, "ALTER TABLE t RENAME TO gone")
    wait_until(lambda: client.get("/health").json()["status"] == "degraded")
    health = client.get("/health")
    assert health.status_code == 200
    assert "t" in health.json()["troubles"]["notes"]
    (state,) = client.get("/bindings").json()["bindings"]
    assert state["error"]
    refused = client.post("/search", json={"q": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "schema_drift")
    execute(database, "ALTER TABLE gone RENAME TO t")
    wait_until(lambda: client.get("/health").json()["status"] == "ok")
    assert client.post("/search", json={"q": "a"}).status_code == 200


def test_a_binding_dropped_while_it_is_served_is_said(make: Make, database: Path) -> None:
    live = make()
    client = client_of(live)
    drop_binding(database, "notes")
    wait_until(lambda: client.get("/health").json()["status"] == "degraded")
    assert client.get("/bindings").status_code == 200
    assert client.post("/search", json={"q": "a"}).status_code in (404, 409)


def test_vectors_of_another_model_are_refused(make: Make, database: Path) -> None:
    make()

    class Other(FakeModel):
        @property
        def space(self) -> Any:
            import dataclasses

            return dataclasses.replace(super().space, weights="11")

    with pytest.raises(SpaceMismatch, match="weights: '00' there, '11' here"):
        LiveBinding(get_binding(database, "notes"), lambda name: cast("Service", Other()))


@pytest.mark.parametrize("remote", [False, True])
def test_searches_that_may_stand_still_have_threads_of_their_own(
    make: Make, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    monkeypatch.setattr(search, "is_remote", lambda model: remote)
    monkeypatch.setattr(search, "CapacityLimiter", lambda most: SimpleNamespace(available_tokens=0))
    client = client_of(make())
    for freshness in ("any", "wait"):
        answer = client.post("/search", json={"q": "a", "freshness": freshness})
        is_taken = remote or freshness == "wait"
        assert answer.status_code == (503 if is_taken else 200), answer.text
        if is_taken:
            assert answer.json()["error"]["code"] == "overloaded"
