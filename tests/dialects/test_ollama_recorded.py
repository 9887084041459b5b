"""What Ollama 0.24 answered, asked of this server: the same, or a difference kept on purpose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from likewise.runtime.service import Service
from likewise.server.app import LOOPBACK_HOSTS, build
from tests.recorded.ollama_differences import KEPT, Kept
from tests.recorded.ollama_replay import Recorded, differences, recorded

pytestmark = pytest.mark.model

ASKED = recorded()


@pytest.fixture(scope="module")
def differing(model: Service, model_name: str) -> dict[int, list[str]]:
    """What is different, by request; those that agree have no entry."""
    app = build({model_name: model}, allowed_hosts=LOOPBACK_HOSTS)
    with TestClient(app, base_url="http://127.0.0.1:7997", client=("127.0.0.1", 50_000)) as client:
        found = {theirs.name: list(differences(theirs, theirs.ask(client))) for theirs in ASKED}
    return {name: said for name, said in found.items() if said}


@pytest.mark.parametrize("theirs", ASKED, ids=str)
def test_the_answer_agrees_or_differs_on_purpose(
    differing: dict[int, list[str]], theirs: Recorded
) -> None:
    kept = [each.seen for each in KEPT if theirs.name in each.names]
    others = [
        said
        for said in differing.get(theirs.name, [])
        if not any(re.search(pattern, said) for pattern in kept)
    ]
    assert others == []


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.request)
def test_every_difference_on_purpose_is_seen(differing: dict[int, list[str]], kept: Kept) -> None:
    assert kept.names - differing.keys() == set()
    said = [one for name in kept.names for one in differing[name]]
    for pattern in kept.seen.split("|"):
        assert any(re.search(pattern, one) for one in said), pattern


def test_what_ollama_answers_is_answered(differing: dict[int, list[str]]) -> None:
    """Of what it answers with 200: how much is refused here, and how much has another shape."""
    answered = [theirs.name for theirs in ASKED if theirs.status == 200]
    refused = [n for n in answered if any(s.startswith("status") for s in differing.get(n, ()))]
    others = [n for n in answered if n in differing and n not in refused]
    assert len(ASKED) == 162
    assert len(answered) == 88
    assert (len(refused) <= 10, len(others) <= 10) == (True, True), (refused, others)


def test_the_page_prints_the_differences(repo: Path) -> None:
    page = (repo / "docs" / "ollama.md").read_text(encoding="utf-8")
    rows = [kept.row() for kept in KEPT]
    assert [row for row in rows if row not in page] == []
    start = page.index("### Answers that differ")
    printed = [
        line for line in page[start:].split("\n## ")[0].splitlines() if line.startswith("| ")
    ]
    assert printed[1:] == rows
