"""Recorded answers of Text Embeddings Inference 1.9.3, replayed against the application."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.testclient import TestClient

HERE = Path(__file__).parent
KINDS = ("embed", "rerank", "classify", "splade")
"""An embedder (all-MiniLM-L6-v2), and three tiny random models whose folders lie beside this."""

TOLERANCE = 2e-3
"""How far numbers may differ: TEI computes GeLU by its tanh form."""


@dataclass(frozen=True)
class Recorded:
    """A request, and what TEI answered."""

    kind: str
    name: str
    method: str
    path: str
    status: int
    answer: Any
    """JSON; None for a text, HTML or nothing."""
    is_text: bool
    body: bytes | None
    headers: Mapping[str, str]

    @property
    def asked(self) -> Any:
        """The body as JSON; None where it isn't."""
        try:
            return json.loads(self.body or b"")
        except ValueError:
            return None

    def sent(self, client: TestClient) -> Answer:
        """What the application answers."""
        got = client.request(
            self.method,
            self.path,
            content=self.body,
            headers=dict(self.headers),
            follow_redirects=False,
        )
        try:
            content = got.json() if got.content else None
        except ValueError:
            content = None
        return Answer(got.status_code, content, dict(got.headers))


@dataclass(frozen=True)
class Answer:
    """What the application answered."""

    status: int
    content: Any
    headers: Mapping[str, str]


def recorded(kind: str) -> Iterator[Recorded]:
    """All requests to a model of `kind`, in their order."""
    with gzip.open(HERE / f"{kind}.jsonl.gz", "rt", encoding="ascii") as lines:
        for line in lines:
            row = json.loads(line)
            body = None
            headers = row.get("sent")
            if "raw" in row:
                body = base64.b64decode(row["raw"])
            elif row.get("body") is not None:
                body = json.dumps(row["body"]).encode()
            if headers is None:
                headers = {} if body is None else {"content-type": "application/json"}
            yield Recorded(
                kind,
                row["name"],
                row["method"],
                row["path"],
                row["status"],
                row["json"],
                row["headers"].get("content-type", "").startswith("text/"),
                body,
                headers,
            )


def verdict(row: Recorded, answer: Answer) -> str:
    """How the application's answer differs from TEI's.

    `same`; `refused`, where TEI answers; `taken`, where TEI refuses; `status`, where both refuse
    with another status; `shape` or `numbers`, where an answer differs; `kind`, where a refusal is
    called something else; `words`, where one of two refusals is JSON and the other isn't.
    """
    if answer.status != row.status:
        if row.status < 400:
            return "refused"
        return "taken" if answer.status < 400 else "status"
    if row.method == "HEAD":
        return "same"
    if row.status >= 400:
        return _refusal(row, answer)
    if row.answer is None:
        return "same" if answer.content is None or row.is_text else "shape"
    if row.path == "/info":
        return "same" if set(row.answer) == set(answer.content) else "shape"
    return differs(row.answer, answer.content) or "same"


def _refusal(row: Recorded, answer: Answer) -> str:
    if not isinstance(row.answer, dict):
        return "words"
    if set(row.answer) != set(answer.content):
        return "shape"
    is_same = row.answer.get("error_type") == answer.content.get("error_type")
    return "same" if is_same else "kind"


def differs(theirs: Any, ours: Any) -> str | None:
    """`shape` or `numbers`, where two answers differ; long parts of `theirs` were left out."""
    if isinstance(theirs, dict) and set(theirs) == {"numbers", "first"}:
        if not isinstance(ours, list) or len(ours) != theirs["numbers"]:
            return "shape"
        return _all(theirs["first"], ours[: len(theirs["first"])])
    if isinstance(theirs, dict) and set(theirs) == {"characters"}:
        is_same = isinstance(ours, str) and len(ours) == theirs["characters"]
        return None if is_same else "shape"
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or set(ours) != set(theirs):
            return "shape"
        return _all(list(theirs.values()), [ours[name] for name in theirs])
    if isinstance(theirs, list):
        return _lists(theirs, ours)
    if isinstance(theirs, float | int) and not isinstance(theirs, bool):
        if not isinstance(ours, float | int) or isinstance(ours, bool):
            return "shape"
        return None if abs(theirs - ours) <= TOLERANCE * max(1, abs(theirs)) else "numbers"
    if theirs == ours or (isinstance(theirs, str) and "..." in theirs and isinstance(ours, str)):
        return None
    return "shape"


def _lists(theirs: list[Any], ours: Any) -> str | None:
    if not isinstance(ours, list):
        return "shape"
    more = 0
    if theirs and isinstance(theirs[-1], dict) and set(theirs[-1]) == {"and"}:
        more, theirs = theirs[-1]["and"], theirs[:-1]
    if len(ours) != len(theirs) + more:
        return "shape"
    return _all(theirs, ours[: len(theirs)])


def _all(theirs: Sequence[Any], ours: Sequence[Any]) -> str | None:
    found = {differs(one, other) for one, other in zip(theirs, ours, strict=True)}
    return "shape" if "shape" in found else "numbers" if "numbers" in found else None
