"""A model to compute by hand: a text is (length, vowels, spaces, 1), scaled to length 1."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import (
    InputError,
    InputTooLong,
    InputUnreadable,
    LikewiseError,
    ModelUnsupported,
)
from likewise.base.space import Space
from likewise.base.types import Chunk
from likewise.models.card import ModelCard
from likewise.models.tokenize import Token
from likewise.runtime.pending import Embedded
from likewise.runtime.sinks import Answered, Scored, Times
from tests.support import LIMIT

if TYPE_CHECKING:
    from likewise.base.protocols import Splitter
    from likewise.base.types import Vectors
    from likewise.models.chat import Turn
    from likewise.runtime.service import Service as Base
else:
    Base = object

MAX_TOKENS = 8
DIMENSIONS = 4
TIMES = Times(0.002, 0.003, 0.004)


def by_hand(text: str) -> Vectors:
    numbers = (len(text), sum(text.count(v) for v in "aeiou"), text.count(" "), 1)
    vector = np.array(numbers, dtype=np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@dataclass
class FakeModel(Base):
    """Words are tokens. It fails with `fails`, and holds its answers back while `held`.

    A pair's score for label i is the number of words they share, less i; a text's its length over
    10, less i. A sparse vector counts words by their length.
    """

    fails: LikewiseError | None = None
    held: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    futures: list[Future[Embedded]] = field(default_factory=list)
    gives: tuple[str, ...] = ("vectors", "states")
    labels: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "fake/lengths"

    @property
    def card(self) -> ModelCard:  # type: ignore[override]
        return ModelCard(
            folder=Path("nowhere"),
            name=self.name,
            transformer=Path("nowhere"),
            architecture="fake",
            config=self.config,
            steps=(),
            dimensions=DIMENSIONS,
            max_tokens=MAX_TOKENS,
            lower_case=False,
            prompts=dict(self.prompts),
            default_prompt_name=self.default_prompt_name,
        )

    @property
    def space(self) -> Space:
        return Space("fake/lengths", "00", "none", DIMENSIONS, True, max_tokens=MAX_TOKENS)

    def submit(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], **options: Any
    ) -> Future[Embedded]:
        counts, cut = self._read(inputs, "vectors", options)
        vectors = np.stack([by_hand(t if isinstance(t, str) else "x" * len(t)) for t in inputs])
        future: Future[Embedded] = Future()
        self.futures.append(future)
        embedded = Embedded(vectors, counts, cut, TIMES)
        if self.held is None:
            future.set_result(embedded)
        else:
            threading.Thread(target=self._later, args=(future, embedded), daemon=True).start()
        return future

    def _read(
        self, inputs: Sequence[Any], gives: str, options: dict[str, Any]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of each input, and which were cut; notes what was asked."""
        self.asked.append({"inputs": list(inputs), **options})
        if self.fails is not None:
            raise self.fails
        if gives not in self.gives:
            raise ModelUnsupported(f"{self.name} gives no {gives}", param="model")
        words = [len(t.split()) if isinstance(t, str) else len(t) for t in inputs]
        if gives == "scores":
            words = [len(" ".join([t] if isinstance(t, str) else t).split()) for t in inputs]
        cut = tuple(at for at, count in enumerate(words) if count > MAX_TOKENS)
        if cut and options.get("overflow") == "refuse":
            raise InputTooLong(f"input {cut[0]} has {words[cut[0]]} tokens", param="input")
        return tuple(min(count, MAX_TOKENS) for count in words), cut

    def _submit_default(self, inputs: Sequence[Any], **options: Any) -> Future[Any]:
        """What the model is for: vectors, held back as those are."""
        answered: Future[Any] = Future()

        def done(found: Future[Embedded]) -> None:
            if found.cancelled() or (failed := found.exception()) is not None:
                answered.set_exception(CancelledError() if found.cancelled() else failed)
                return
            one = found.result()
            answered.set_result(
                Answered(one.vectors, None, None, one.tokens, one.truncated, one.times)
            )

        self.submit(inputs, **options).add_done_callback(done)
        return answered

    def submit_all(self, inputs: Sequence[Any], **options: Any) -> Future[Answered]:
        gives = options.get("gives")
        if gives is None or list(gives) == ["vectors"]:
            return self._submit_default(inputs, **options)
        for each in gives:
            counts, cut = self._read(inputs, each, options)
        words = [t.split() if isinstance(t, str) else ["x"] * len(t) for t in inputs]
        lengths = [np.unique([len(w) for w in ws], return_counts=True) for ws in words]
        sparse = [(ids.astype(np.int32), n.astype(np.float32)) for ids, n in lengths]
        states = [np.stack([by_hand(w) for w in ("<", *ws, ">")]) for ws in words]
        return _ready(
            Answered(
                None,
                sparse if "sparse" in gives else None,
                None,
                counts,
                cut,
                TIMES,
                states if "states" in gives else None,
            )
        )

    def submit_pairs(self, pairs: Sequence[tuple[str, str]], **options: Any) -> Future[Scored]:
        counts, cut = self._read(pairs, "scores", options)
        shared = [len(set(a.split()) & set(b.split())) for a, b in pairs]
        return _ready(Scored(self._scores(shared), counts, cut, TIMES))

    def submit_labels(self, inputs: Sequence[Any], **options: Any) -> Future[Scored]:
        counts, cut = self._read(inputs, "scores", options)
        return _ready(Scored(self._scores([len(t) / 10 for t in inputs]), counts, cut, TIMES))

    def _scores(self, first: Sequence[float]) -> Vectors:
        return np.array([[n - at for at in range(len(self.labels))] for n in first], np.float32)

    def tokens(
        self, text: str, *, prompt_name: str | None = None, special: bool = True
    ) -> list[Token]:
        whole = ("" if prompt_name is None else self.prompts[prompt_name]) + text
        found, start = [], 0
        for word in whole.split():
            start = whole.index(word, start)
            found.append(Token(len(word), f"_{word}", False, (start, start + len(word))))
            start += len(word)
        ends = [Token(0, mark, True, None) for mark in ("<", ">")]
        return [ends[0], *found, ends[1]] if special else found

    def token_parts(
        self, text: str, *, prompt_name: str | None = None, special: bool = True
    ) -> Iterator[list[Token]]:
        found = self.tokens(text, prompt_name=prompt_name, special=special)
        return (found[at : at + 3] for at in range(0, len(found), 3))

    def text(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        if max(ids) > MAX_TOKENS:
            raise InputUnreadable(f"input 0 holds token id {max(ids)}", param="input")
        return " ".join("x" * each or "<" for each in ids if each or not skip_special)

    def submit_late(self, texts: Sequence[Any], **options: Any) -> Future[Embedded]:
        """Each text is read with all of them: its vector is theirs plus its own; 2 long, or 1."""
        self.asked.append({"inputs": list(texts), "late": True, **options})
        together = by_hand("".join(texts))
        rows = [together + by_hand(text) for text in texts]
        length = 1 if options.get("unit") else 2
        vectors = np.stack([length * row / np.linalg.norm(row) for row in rows]).astype(np.float32)
        future: Future[Embedded] = Future()
        future.set_result(Embedded(vectors, tuple(len(text.split()) for text in texts), ()))
        return future

    def chat_text(
        self,
        turns: Sequence[Turn],
        *,
        generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """`<role>text` for each turn; it knows no role `nobody`."""
        if any(role == "nobody" for role, _ in turns):
            raise InputError("nobody speaks", param="messages")
        written = "".join(
            f"<{role}>{said if isinstance(said, str) else '+'.join(said)}" for role, said in turns
        )
        return written + ("<next>" if generation_prompt else "") + "".join(variables or ())

    def _later(self, future: Future[Embedded], embedded: Embedded) -> None:
        assert self.held is not None
        self.held.wait(LIMIT)
        if future.set_running_or_notify_cancel():
            future.set_result(embedded)

    def embed(self, texts: Sequence[str], **options: Any) -> Vectors:
        vectors: Vectors = self.submit(texts, **options).result().vectors
        return vectors

    def splitter(self, chunk: str = "") -> Splitter:  # type: ignore[override]  # any function that cuts
        def split(texts: Sequence[str], held: Any = (), /) -> list[tuple[Chunk, ...]]:
            return [(Chunk(0, 0, len(text)),) if text else () for text in texts]

        return split

    def info(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "gives": [each for each in self.gives if each != "states"],
            "engine": "by hand",
            "precision": "f32",
            "pooling": "none",
            "dimensions": DIMENSIONS,
            "max_tokens": MAX_TOKENS,
            **({"labels": list(self.labels)} if self.labels else {}),
            **self.facts,
        }

    def close(self) -> None:
        """Nothing to stop."""


def _ready(found: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(found)
    return future
