"""What an edited word costs with a real model's tokens: passages that the model is given."""

from __future__ import annotations

import pydoc_data.topics
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.spec import BindingSpec
from likewise.base.types import Kind
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options, Worker
from likewise.runtime.service import Service, load
from likewise.server import databases
from tests.acceptance.applications import SqliteApplication

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def service(model_folder: Path) -> Iterator[Service]:
    made = load(model_folder)
    yield made
    made.close()


class Counted:
    """A model that remembers what it was given."""

    def __init__(self, service: Service) -> None:
        self.space = service.space
        self.texts: list[str] = []
        self._service = service

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> np.ndarray:
        self.texts += texts
        return self._service.embed(texts, kind=kind)


class Bound:
    """One row of a SQLite table, bound, with a worker that runs when it is asked to."""

    def __init__(self, folder: Path, service: Service, chunk: str) -> None:
        path = folder / "app.db"
        self.app = SqliteApplication(str(path))
        spec = BindingSpec("docs", f"sqlite:{path}", "docs", "{body}", chunk=chunk)
        record = databases.create(spec, service.space.with_chunker(chunk))
        self.split = service.splitter(chunk)
        self.model = Counted(service)
        self.source, self.table = databases.open_ends(record)
        options = Options(reconcile_seconds=None)
        self.worker = Worker(*databases.open_ends(record), self.model, self.split, options=options)

    def cost(self, text: str) -> list[str]:
        """What the model is given when the row's text becomes `text`."""
        del self.model.texts[:]
        self.app.write({1: text})
        self.worker.drain()
        return list(self.model.texts)

    def passages(self, text: str) -> list[str]:
        """What is stored of the row, whose text is `text` now."""
        chunks = [chunk for block in self.table.scan() for chunk in block.chunks]
        chunks.sort(key=lambda chunk: chunk.ordinal)
        assert chunks[0].start == 0
        for before, after in pairwise(chunks):
            assert before.start < after.start and before.end < after.end
            assert not text[before.end : after.start].strip(), "all of the text is in a passage"
        assert not text[chunks[-1].end :].strip()
        return [text[chunk.start : chunk.end] for chunk in chunks]

    def close(self) -> None:
        self.worker.close()
        for each in (self.source, self.table, self.app):
            each.close()


def document(split: Any, passages: int) -> str:
    """As much of the reference of the Python language as has that many passages."""
    topics = pydoc_data.topics.topics
    text = "\n\n".join(topics[name].strip() for name in sorted(topics))[:150_000]
    return text[: split([text])[0][passages - 1].end]


@pytest.mark.parametrize(
    "chunk",
    ["tokens:128/0", "tokens:128/16", "sentences:128/0", "sentences:128/16", "headings:128/0"],
)
def test_a_word_of_a_hundred_passages(service: Service, tmp_path: Path, chunk: str) -> None:
    """Each edit is of the text as the edits before it left it."""
    with closing(Bound(tmp_path, service, chunk)) as bound:
        text = document(bound.split, 100)
        assert len(bound.cost(text)) >= 98, "a text of passages that differ"
        before = bound.passages(text)
        pick, costs = random.Random(5), []
        for at in range(60):
            words = list(re.finditer(r"\b[a-z]{3,}\b", text))
            # In turn at the beginning, the end, and all between; inserted, deleted, replaced.
            word = words[round(at % 30 * (len(words) - 1) / 29)]
            other = pick.choice([each[0] for each in words if each[0] != word[0]])
            new = ("", other, f"{other} {word[0]}")[at % 3]
            text = text[: word.start()] + new + text[word.end() :]
            given = bound.cost(text)
            after = bound.passages(text)
            assert sorted(given) == sorted(set(after) - set(before))
            assert all(len(each) <= 128 for each in bound.split.spans(after))
            costs.append(len(given))
            before = after
        assert set(costs) <= {1, 2}
        assert sum(costs) <= 75
        assert verify(bound.source, bound.table, repair=False).is_clean
