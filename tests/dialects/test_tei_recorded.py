"""What TEI 1.9.3 answered, asked of this server: the same, or a difference kept on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from likewise.runtime import service
from likewise.server.app import build
from tests.recorded.tei_differences import KEPT, Kept, table
from tests.recorded.tei_replay import HERE, KINDS, Answer, Recorded, recorded, verdict

pytestmark = pytest.mark.model

NAMES = {"embed": "/models/all-minilm"}
"""What TEI called the embedder; names of the others aren't in its answers."""

COUNT = 861
ANSWERED = 135
"""Requests, and those to the embedder that TEI answers."""

Replayed = list[tuple[Recorded, Answer, str]]


@pytest.fixture(scope="module")
def replayed(model_folder: Path) -> Replayed:
    """Every request with what this server answers, and how that differs."""
    found: Replayed = []
    for kind in KINDS:
        folder = model_folder if kind == "embed" else HERE / "models" / kind
        name = NAMES.get(kind, kind)
        loaded = service.load(folder, name=name, precision="exact", threads=1)
        try:
            with TestClient(build({name: loaded})) as client:
                found += _asked(client, kind)
        finally:
            loaded.close()
    return found


def _asked(client: TestClient, kind: str) -> Iterator[tuple[Recorded, Answer, str]]:
    for row in recorded(kind):
        answer = row.sent(client)
        yield row, answer, verdict(row, answer)


def _shown(row: Recorded, answer: Answer, said: str) -> str:
    asked = (row.body or b"")[:120]
    return f"{said}: {row.kind} {row.name} {row.method} {row.path} {asked!r} {answer.status}"


def test_each_answer_agrees_or_differs_on_purpose(replayed: Replayed) -> None:
    assert len(replayed) == COUNT
    unexplained = [
        _shown(row, answer, said)
        for row, answer, said in replayed
        if said != "same" and not any(kept.covers(row, answer, said) for kept in KEPT)
    ]
    assert unexplained == []


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.request)
def test_every_difference_on_purpose_is_seen(replayed: Replayed, kept: Kept) -> None:
    seen = [
        row
        for row, answer, said in replayed
        if next((one for one in KEPT if said != "same" and one.covers(row, answer, said)), None)
        is kept
    ]
    assert seen


def test_what_tei_answers_is_answered(replayed: Replayed) -> None:
    """Of what it answers for an embedder: how much is refused, and how much is of another shape."""
    answered = [
        (row, said) for row, _, said in replayed if row.kind == "embed" and row.status < 300
    ]
    assert len(answered) == ANSWERED
    refused = [row.name for row, said in answered if said == "refused"]
    others = [row.name for row, said in answered if said == "shape"]
    assert (len(refused), len(others)) == (5, 2), (refused, others)


def test_what_was_ignored_is_named(replayed: Replayed) -> None:
    for row, answer, _ in replayed:
        if answer.status == 200 and isinstance(row.asked, dict) and "foo" in row.asked:
            assert "foo" in answer.headers["x-likewise-ignored"], row.name


def test_the_page_prints_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "tei.md"
    assert table() in page.read_text(encoding="utf-8")
