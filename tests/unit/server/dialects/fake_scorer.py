"""A model that scores pairs and labels texts beside what `FakeModel` does, all to do by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import InputError, InputTooLong, ModelUnsupported
from likewise.models.card import ModelCard
from likewise.models.heads import Head, MultiVector, Scores
from likewise.models.parts import Normalise, Pooling, Step
from likewise.models.tokenize import Token
from likewise.runtime.pending import Embedded
from likewise.runtime.sinks import Answered, Scored
from likewise.vectors.activate import sigmoid
from likewise.vectors.norm import truncate
from tests.support import LIMIT
from tests.unit.server.fakes import DIMENSIONS, MAX_TOKENS, FakeModel, by_hand

if TYPE_CHECKING:
    from likewise.base.types import Vectors


def shared_words(query: str, document: str) -> float:
    """The raw score of a pair: words of the document that the query has, less 1."""
    return float(sum(word in query.split() for word in document.split()) - 1)


def label_scores(text: str, count: int) -> Vectors:
    """The raw scores of a text's labels: how often it has `a`, `b`, `c`, ..."""
    return np.array([text.count(letter) for letter in "abcdefgh"[:count]], np.float32)


def each_word(text: str) -> Vectors:
    """A vector for each word."""
    return np.stack([by_hand(word) for word in text.split()])


@dataclass
class FakeScorer(FakeModel):
    """It gives what `outputs` says, `labels` where that is scores; texts lose words at the end."""

    outputs: tuple[str, ...] = ("vectors",)
    labels: tuple[str, ...] = ("relevance",)
    config: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    is_normalised: bool = True

    @property
    def card(self) -> ModelCard:  # type: ignore[override]
        steps: tuple[Step, ...] = (Pooling(("mean",)), Normalise())
        heads: dict[str, Head] = {
            "scores": Scores(self.labels, "sigmoid" if len(self.labels) == 1 else "identity"),
            "tokens": MultiVector((), self.is_normalised),
        }
        return ModelCard(
            folder=Path("fake"),
            name="fake/lengths",
            transformer=Path("fake"),
            architecture="fake",
            config=self.config,
            steps=steps[: 2 if self.is_normalised else 1] if "vectors" in self.outputs else (),
            dimensions=DIMENSIONS,
            max_tokens=MAX_TOKENS,
            lower_case=False,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
            heads=tuple(heads[one] for one in self.outputs if one in heads),
        )

    @property
    def name(self) -> str:
        return "fake/lengths"

    def info(self) -> dict[str, Any]:
        has_labels = "scores" in self.outputs
        own = {"gives": list(self.outputs), "labels": list(self.labels) if has_labels else []}
        return {**super().info(), **own}

    def submit(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], **options: Any
    ) -> Future[Embedded]:
        words, cut = self._noted_words(inputs, options, [_words(one) for one in inputs])
        vectors = np.stack([by_hand(t if isinstance(t, str) else "x" * len(t)) for t in inputs])
        if options.get("dimensions") is not None:
            vectors = truncate(vectors, options["dimensions"])
        return self._handed(Embedded(vectors, words, cut))

    def submit_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        prompt: str | None = None,
        raw: bool = False,
        **how: Any,
    ) -> Future[Scored]:
        options = {"prompt": prompt, "raw": raw, **how}
        words, cut = self._noted_words(pairs, options, [_words(a) + _words(b) for a, b in pairs])
        scores = np.array([[shared_words(*pair)] for pair in pairs], np.float32)
        return self._handed(Scored(scores if raw else sigmoid(scores), words, cut))

    def submit_labels(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        raw: bool = False,
        **how: Any,
    ) -> Future[Scored]:
        if "scores" not in self.outputs:
            raise ModelUnsupported("fake/lengths gives no scores", param="model")
        words, cut = self._noted_words(inputs, {"raw": raw, **how}, [_words(one) for one in inputs])
        texts = [one if isinstance(one, str) else "x" * len(one) for one in inputs]
        rows = np.stack([label_scores(text, len(self.labels)) for text in texts])
        return self._handed(Scored(rows if raw else sigmoid(rows), words, cut))

    def submit_all(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        gives: Sequence[str] | None = None,
        **options: Any,
    ) -> Future[Answered]:
        """Hidden states are each word's vector times the length of the word."""
        words, cut = self._noted_words(
            inputs, {"gives": gives, **options}, [_words(one) for one in inputs]
        )
        texts = [one if isinstance(one, str) else "x" for one in inputs]
        tokens = [each_word(text) for text in texts] if "tokens" in (gives or ()) else None
        states = None
        if "states" in (gives or ()):
            states = [
                each_word(text) * np.array([[len(w)] for w in text.split()], np.float32)
                for text in texts
            ]
        return self._handed(Answered(None, None, tokens, words, cut, states=states))

    def tokens(
        self, text: str, *, prompt_name: str | None = None, special: bool = True
    ) -> list[Token]:
        """Ids are the lengths of words; 101 and 102 go around them."""
        found, at = [], 0
        for word in text.split():
            start = text.index(word, at)
            at = start + len(word)
            found.append(Token(len(word), word, False, (start, at)))
        if not special:
            return found
        return [Token(101, "[CLS]", True, None), *found, Token(102, "[SEP]", True, None)]

    def token_parts(
        self, text: str, *, prompt_name: str | None = None, special: bool = True
    ) -> Iterator[list[Token]]:
        """Two at a time."""
        found = self.tokens(text, prompt_name=prompt_name, special=special)
        return (found[at : at + 2] for at in range(0, len(found), 2))

    def text(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        if any(index > 102 for index in ids):
            raise InputError("input 0 holds token id that isn't known", param="input")
        return " ".join("x" * index for index in ids if index < 100 or not skip_special)

    def _noted_words(
        self, inputs: Sequence[Any], options: dict[str, Any], counts: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens that are read of each input, and which are cut."""
        self.asked.append({"inputs": list(inputs), **options})
        if self.fails is not None:
            raise self.fails
        limit = min(MAX_TOKENS, options.get("limit") or MAX_TOKENS)
        cut = tuple(at for at, count in enumerate(counts) if count > limit)
        if cut and options.get("overflow") == "refuse":
            raise InputTooLong(f"input {cut[0]} has {counts[cut[0]]} tokens", param="input")
        return tuple(min(count, limit) for count in counts), cut

    def _handed(self, found: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        if self.held is None:
            future.set_result(found)
        else:
            threading.Thread(target=self._handed_later, args=(future, found), daemon=True).start()
        return future

    def _handed_later(self, future: Future[Any], found: Any) -> None:
        assert self.held is not None
        self.held.wait(LIMIT)
        if future.set_running_or_notify_cancel():
            future.set_result(found)


def _words(given: str | Sequence[int]) -> int:
    return len(given.split()) if isinstance(given, str) else len(given)
