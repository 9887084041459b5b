"""`Space`: which vectors may be compared with which; it travels with every vector."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from likewise.base.errors import SpaceMismatch

CANARY = "The quick brown fox jumps over the lazy dog."
"""A text that every model can embed: who fails on it is broken, and its vector tells models apart.
Stores keep that vector, so these words never change."""


_PROMPTS = {"prompt": "document", "query_prompt": "query"}
"""What the prompts of a space are called in likewise.toml."""
_BACK = "\\"


@dataclass(frozen=True, slots=True)
class Space:
    """What decides a vector's meaning. Vectors compare only within one `fingerprint`.

    The fingerprint covers every field but `model`, which is a label: one set of weights found in a
    folder and in the cache is one space. The arithmetic an engine ran in (f32, bf16) isn't part of
    it: both give the same vector to within a stated tolerance, and a database may move between
    machines.
    """

    model: str
    """Name for people, such as `sentence-transformers/all-MiniLM-L6-v2`."""
    weights: str
    """sha256 (hex) over the files that decide the numbers: weights, tokenizer, configuration."""
    pooling: str
    """Pooling mode, such as `mean`."""
    dimensions: int
    """Numbers in a vector."""
    normalised: bool
    """Whether vectors have length 1."""
    prompt: str = ""
    """Text put before a document."""
    query_prompt: str = ""
    """Text put before a query."""
    max_tokens: int = 512
    """Tokens the model reads of one text, special tokens included."""
    dtype: str = "float32"
    """Type of the stored numbers."""
    chunker: str = ""
    """How texts were cut before embedding, such as `tokens:128/16`; empty for whole texts."""

    @property
    def fingerprint(self) -> str:
        """32 hex digits; equal exactly when vectors may be compared."""
        fields = dataclasses.asdict(self)
        del fields["model"]
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def with_chunker(self, chunker: str) -> Space:
        """The same space for texts cut by `chunker`."""
        return dataclasses.replace(self, chunker=chunker)

    def stored_as(self, chunker: str, dtype: str) -> Space:
        """The space of vectors that are kept: for texts cut by `chunker`, as numbers of `dtype`."""
        return dataclasses.replace(self, chunker=chunker, dtype=dtype)

    def to_json(self) -> str:
        """Canonical JSON, as stores keep it."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The space that `to_json` wrote."""
        return cls(**json.loads(text))

    def require(self, other: Space, *, where: str) -> None:
        """Raise `SpaceMismatch`, naming each field that differs, unless `other` is comparable."""
        if self.fingerprint == other.fingerprint:
            return
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        differing = [
            f"{name}: {mine[name]!r} there, {theirs[name]!r} here"
            for name in mine
            if name != "model" and mine[name] != theirs[name]
        ]
        changed = {name for name in mine if name != "model" and mine[name] != theirs[name]}
        name = where.removeprefix("binding ") if where.startswith("binding ") else "NAME"
        new = "NEW" if self.model != other.model else "MODEL"
        remedy = "Use the model it was built with, or change the binding's"
        if self.model == other.model:
            remedy = "Its files or settings, or how they are read, have changed. "
            if changed <= _PROMPTS.keys():
                remedy += (
                    f"Keep the vectors by writing into likewise.toml:\n{self._said(changed)}\nOr"
                )
            else:
                remedy += (
                    "If likewise.toml or flags said something of it then, write that into a table "
                    '[models."NAME"] of likewise.toml; else'
                )
            remedy += " embed all rows anew"
        raise SpaceMismatch(
            f"{where} holds vectors of {self.model}; these are of {other.model} and can't be "
            f"compared with them ({'; '.join(differing)}). {remedy} with "
            f"'likewise bind swap {name} --model {new}'."
        )

    def _said(self, names: Iterable[str]) -> str:
        """The two lines of likewise.toml by which the model has these prompts."""
        said = ", ".join(
            f"{_PROMPTS[name]} = {json.dumps(getattr(self, name).replace(_BACK, _BACK * 2))}"
            for name in sorted(names)
        )
        return f"[models.{json.dumps(self.model)}]\nprompts = {{ {said} }}"
