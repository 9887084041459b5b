"""Sends what was once sent to the real Ollama, and says in what another answer differs from its."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from starlette.testclient import TestClient

FILE = Path(__file__).with_name("ollama.jsonl")

_TOLERANCE = 3e-3
"""Ollama's weights have 16 bits."""
_OPTIONAL = frozenset({"license", "parameters", "total_duration", "load_duration"})
"""Fields of Ollama's own that it leaves out where they are empty."""


@dataclass(frozen=True)
class Recorded:
    """A request, and what Ollama answered."""

    name: int
    group: str
    method: str
    path: str
    status: int
    body: Any = None
    raw: str | None = None
    sent: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None

    def __str__(self) -> str:
        shown = f"{self.raw}" if self.raw is not None else json.dumps(self.body)
        return f"{self.name} {self.method} {self.path} {shown[:90]}"

    def ask(self, client: TestClient) -> Any:
        """The answer of another server."""
        content = None
        if self.raw is not None:
            content = base64.b64decode(self.raw)
        elif self.body is not None:
            content = json.dumps(_whole(self.body)).encode()
        headers = {"content-type": "application/json"} if content else {}
        return client.request(
            self.method, self.path, content=content, headers={**headers, **self.sent}
        )


def recorded() -> list[Recorded]:
    """All that were recorded, in their order."""
    return [Recorded(**json.loads(line)) for line in FILE.read_text("utf-8").splitlines()]


def differences(theirs: Recorded, ours: Any) -> Iterator[str]:
    """In what `ours`, a response, is another answer; words of errors and durations aside."""
    if theirs.status != ours.status_code:
        yield f"status {ours.status_code}, not {theirs.status}"
        return
    for name, value in theirs.headers.items():
        found = ours.headers.get(name, "").replace(" ", "")
        if found != value.replace(" ", ""):
            yield f"{name}: {ours.headers.get(name)!r}, not {value!r}"
    if theirs.json is not None:
        try:
            content = ours.json()
        except ValueError:
            yield "no JSON"
            return
        is_exact = theirs.raw is None or b"\\ud" not in base64.b64decode(theirs.raw)
        yield from _values(theirs.json, content, "body", has_vectors=is_exact and _is_plain(theirs))


def _is_plain(theirs: Recorded) -> bool:
    """Whether its texts are plain words, which both cut into the same tokens."""
    sent = theirs.raw and base64.b64decode(theirs.raw)
    return not sent or sent.isascii()


def _values(theirs: Any, ours: Any, at: str, *, has_vectors: bool) -> Iterator[str]:
    if isinstance(theirs, dict) and "keys" in theirs:
        yield from _keys(set(theirs["keys"]), set(ours), at)
        for one in ours.get("models", []) if theirs.get("model keys") else []:
            yield from _keys(set(theirs["model keys"]), set(one), f"{at}.models[]")
    elif isinstance(theirs, dict) and "first" in theirs:
        yield from _vector(theirs, ours, at, has_vectors=has_vectors)
    elif isinstance(theirs, dict):
        if not isinstance(ours, dict):
            yield f"{at} is no object"
            return
        yield from _keys(set(theirs), set(ours), at)
        for name in sorted(theirs.keys() & ours.keys()):
            yield from _values(theirs[name], ours[name], f"{at}.{name}", has_vectors=has_vectors)
    elif isinstance(theirs, list):
        if not isinstance(ours, list) or len(ours) != len(theirs):
            yield f"{at} has another length"
            return
        for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from _values(one, other, f"{at}[{number}]", has_vectors=has_vectors)
    else:
        yield from _scalar(theirs, ours, at)


def _scalar(theirs: Any, ours: Any, at: str) -> Iterator[str]:
    if type(theirs) is not type(ours):
        yield f"{at} is {type(ours).__name__}, not {type(theirs).__name__}"
    elif isinstance(theirs, str) and theirs not in ("...", ours) and not at.endswith("version"):
        yield f"{at} is {ours!r}, not {theirs!r}"
    elif re.search(r"_(?:count|tokens)$", at) and theirs != ours:
        yield f"{at} is {ours}, not {theirs}"
    elif isinstance(theirs, float) and "embedding" in at and abs(theirs - ours) > _TOLERANCE:
        yield f"{at} is {ours}, not {theirs}"


def _keys(theirs: set[str], ours: set[str], at: str) -> Iterator[str]:
    if more := ours - theirs - _OPTIONAL:
        yield f"{at} has {sorted(more)}"
    if fewer := theirs - ours - _OPTIONAL:
        yield f"{at} lacks {sorted(fewer)}"


def _vector(theirs: Any, ours: Any, at: str, *, has_vectors: bool) -> Iterator[str]:
    if "characters" in theirs:
        if not isinstance(ours, str) or len(ours) != theirs["characters"]:
            yield f"{at} is no such text"
            return
        # 40 digits of base64 are 7 whole numbers.
        first = np.frombuffer(base64.b64decode(theirs["first"][:40])[:28], "<f4")
        numbers = np.frombuffer(base64.b64decode(ours), "<f4")
    else:
        first, numbers = np.array(theirs["first"]), np.array(ours)
        if numbers.shape != (theirs["numbers"],):
            yield f"{at} has {numbers.size} numbers, not {theirs['numbers']}"
            return
    if has_vectors and not np.allclose(numbers[: first.size], first, atol=_TOLERANCE):
        yield f"{at} begins {numbers[:3]}, not {first[:3]}"


def _whole(value: Any) -> Any:
    """Texts that are written as what they repeat, in full."""
    if isinstance(value, dict) and set(value) == {"repeat", "times"}:
        return value["repeat"] * value["times"]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value
