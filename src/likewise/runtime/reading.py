"""How each kind of request is read: prompts, markers and pairs become work for the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import InputError, ModelUnsupported
from likewise.models.heads import Head, Lexical, MultiVector, Scores, Sparse
from likewise.models.late import LateText, LateTokenizer, wordless_tokens
from likewise.models.pairs import PairTokenizer
from likewise.models.plain import plain_texts
from likewise.models.together import windows
from likewise.runtime.sinks import LexicalRows, Rows, SparseRows, StateRows, TokenRows

if TYPE_CHECKING:
    from likewise.base.types import Kind
    from likewise.engines.batch import Engine, Output
    from likewise.models.card import ModelCard
    from likewise.models.together import Window
    from likewise.models.tokenize import Cut, Encoded, Tokenizer
    from likewise.runtime.sinks import Sink

Inputs = Sequence[str] | Sequence[Sequence[int]]

# What gives it -> how a program asks for it.
_METHODS = {
    "vectors": "embed()",
    "scores": "score()",
    "sparse": "embed_sparse()",
    "tokens": "embed_tokens()",
}


class Reader:
    """What one model's requests are made of. Safe to use from several threads."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer, engine: Engine) -> None:
        self._card = card
        self._tokenizer = tokenizer
        self._engine = engine
        self._pairs: PairTokenizer | None = None
        self._late: LateTokenizer | None = None
        for head in card.heads:
            if isinstance(head, Scores):
                self._pairs = PairTokenizer(card, head, tokenizer)
            elif isinstance(head, MultiVector):
                self._late = LateTokenizer(card, head, tokenizer)
            elif isinstance(head, Lexical):
                self._wordless = wordless_tokens(card, tokenizer)

    def require(self, *wanted: str) -> None:
        """Raises `ModelUnsupported` unless the model gives all of `wanted`; says what it gives.

        Every model has `states`, where its engine hands them out.
        """
        for one in wanted:
            if one == "states":
                self._require_states()
            elif one not in self._card.gives:
                has = " and ".join(f"{give} ({_METHODS[give]})" for give in self._card.gives)
                raise ModelUnsupported(
                    f"{self._card.name} gives no {one}; it gives {has}", param="model"
                )

    def _require_states(self) -> None:
        if not self._engine.gives_states:
            raise ModelUnsupported(
                f"{self._card.name} gives no states: the engine {self._engine.name} has only "
                f"{' and '.join(self._card.gives)} of it, not the hidden states before them",
                param="model",
            )

    @property
    def scores(self) -> Scores:
        """The head that scores pairs.

        Raises:
            ModelUnsupported: there is none.
        """
        self.require("scores")
        return next(head for head in self._card.heads if isinstance(head, Scores))

    def require_single(self) -> None:
        """Raises `ModelUnsupported` unless the model classifies texts by themselves."""
        head = self.scores
        if head.template is not None or head.answers:
            raise ModelUnsupported(
                f"{self._card.name} reads a question and a text together; it gives no labels of "
                "one text",
                param="model",
            )

    def prompt(self, kind: Kind | None, text: str | None, name: str | None) -> str:
        """The prompt that was asked for, by its text or its name; else that of `kind`, if any.

        Raises:
            InputError: the model has no prompt of that name, or both were given.
        """
        if text is not None and name is not None:
            raise InputError("give `prompt` or `prompt_name`, not both", param="prompt_name")
        if text is not None:
            return text
        return self._card.prompt(kind if name is None else name)

    def texts(
        self, inputs: Inputs, start: int, prompt: str, cut: Cut | None = None
    ) -> list[Encoded]:
        """Texts, or texts as token ids, after `prompt`; errors count inputs from `start`."""
        return self._tokenizer.encode_inputs(inputs, prompt=prompt, first=start, cut=cut)

    def together(self, inputs: Inputs, prompt: str, cut: Cut | None = None) -> list[Window]:
        """The chunks of one document, as they are read in one pass or in few."""
        return windows(self._tokenizer, self._tokenizer.bare(inputs), prompt, cut)

    def limit(self, cut: Cut | None = None) -> int:
        """Tokens that are read at once."""
        return self._tokenizer.limits(cut)[0]

    def pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        start: int,
        prompt: str | None,
        cut: Cut | None = None,
    ) -> list[Encoded]:
        """Pairs of texts, with the model's own prompt unless there is another."""
        assert self._pairs is not None
        own = self.scores.prompt
        words = own if prompt is None else prompt
        return self._pairs.encode(pairs, prompt=words, first=start, cut=cut)

    def late(
        self,
        inputs: Inputs,
        start: int,
        kind: Kind,
        prompt: str,
        *,
        is_late: bool,
        cut: Cut | None = None,
    ) -> list[LateText]:
        """Texts and their tokens, `is_late` where each token gets a vector."""
        if is_late and self._late is not None:
            texts = words_only(inputs, start)
            return self._late.encode(texts, kind=kind, prompt=prompt, first=start, cut=cut)
        return [
            LateText(one, None, np.ones(len(one.ids), np.bool_))
            for one in self.texts(inputs, start, prompt, cut)
        ]

    def sinks(self, wanted: Sequence[str], count: int) -> dict[Output, Sink]:
        """Where `count` inputs gather what is `wanted`, by the name that engines give it."""
        made: dict[Output, Sink] = {}
        for one in wanted:
            if one == "vectors":
                made["vectors"] = Rows(count, self._card.dimensions)
            elif one == "tokens":
                made["tokens"] = TokenRows(count)
            elif one == "states":
                made["states"] = StateRows(count)
            elif isinstance(self._head("sparse"), Sparse):
                made["sparse"] = SparseRows(count)
            else:
                made["weights"] = LexicalRows(count, self._wordless)
        return made

    def _head(self, gives: str) -> Head:
        return next(head for head in self._card.heads if head.gives == gives)


def words_only(inputs: Inputs, start: int) -> list[str]:
    """`inputs`, counted from `start`, where token ids won't do: markers go before the words.

    Raises:
        InputError: one isn't a text.
    """
    return plain_texts(inputs, start)  # type: ignore[arg-type]


def expect(sinks: dict[Output, Sink], encoded: Sequence[LateText], start: int) -> None:
    """Tell the sinks that ask which tokens inputs `start` and following have."""
    for index, one in enumerate(encoded, start):
        for sink in sinks.values():
            if isinstance(sink, TokenRows):
                sink.expect(index, one.kept)
            elif isinstance(sink, LexicalRows):
                sink.expect(index, one.encoded.ids)
