"""Recorded answers of Text Embeddings Inference 1.9.3, replayed against the application."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.testclient import TestClient

HERE = Path(__file__).parent / "tei"
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
    with another status; `shape` or `numbers`, where an answer differs; `more`, where it has fields
    beside TEI's; `kind`, where a refusal is called something else; `words`, where ours is JSON and
    TEI's is plain text or empty.
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
    if isinstance(row.answer, list) and row.method == "GET":
        # Only the names of the fields were kept.
        return _names(row.answer, answer.content)
    return differs(row.answer, answer.content) or "same"


def _refusal(row: Recorded, answer: Answer) -> str:
    if not isinstance(row.answer, dict):
        return "words"
    for name in ("error_type", "type", "code"):
        if row.answer.get(name) != answer.content.get(name) and name in row.answer:
            return "kind"
    return _names(row.answer, answer.content)


def _names(theirs: Collection[str], ours: Any) -> str:
    """Whether an object has the fields of TEI's, or more of them."""
    if not isinstance(ours, dict) or set(theirs) - set(ours):
        return "shape"
    return "same" if set(theirs) == set(ours) else "more"


def differs(theirs: Any, ours: Any) -> str | None:
    """`shape`, `numbers` or `more`, where two answers differ; `theirs` lacks its long parts."""
    if isinstance(theirs, dict):
        is_cut = bool(set(theirs) & {"numbers", "characters"})
        return _cut(theirs, ours) if is_cut else _object(theirs, ours)
    if isinstance(theirs, list):
        return _lists(theirs, ours)
    if isinstance(theirs, float | int) and not isinstance(theirs, bool):
        if not isinstance(ours, float | int) or isinstance(ours, bool):
            return "shape"
        return None if abs(theirs - ours) <= TOLERANCE * max(1, abs(theirs)) else "numbers"
    if theirs == ours or (isinstance(theirs, str) and "..." in theirs and isinstance(ours, str)):
        return None
    return "shape"


def _object(theirs: dict[str, Any], ours: Any) -> str | None:
    if not isinstance(ours, dict) or set(theirs) - set(ours):
        return "shape"
    more = "more" if set(ours) - set(theirs) else None
    return _all(list(theirs.values()), [ours[name] for name in theirs]) or more


def _cut(theirs: dict[str, Any], ours: Any) -> str | None:
    """For a long list of numbers, or a long text, of which only the first part was kept."""
    size = theirs.get("numbers", theirs.get("characters"))
    if not isinstance(ours, list if "numbers" in theirs else str) or len(ours) != size:
        return "shape"
    first = theirs.get("first", [])
    if isinstance(first, str) and isinstance(ours, str):
        return _all(_floats(first), _floats(ours[: len(first)]))
    return _all(first, ours[: len(first)])


def _floats(written: str) -> list[float]:
    """The whole float32 numbers at the start of some in base64."""
    raw = base64.b64decode(written[: len(written) // 4 * 4])
    return [one for (one,) in struct.iter_unpack("<f", raw[: len(raw) // 4 * 4])]


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
    return next((one for one in ("shape", "numbers", "more") if one in found), None)
