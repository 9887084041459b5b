"""Everything that a loaded model may be asked; `Service` adds what holds it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from likewise.base.errors import ModelUnsupported
from likewise.models.chat import ChatTemplate, Turn, read_chat_template
from likewise.runtime.desk import Desk, Length, listed
from likewise.runtime.manner import How, Manner

if TYPE_CHECKING:
    from likewise.base.types import Kind, Vectors
    from likewise.models.card import ModelCard
    from likewise.models.tokenize import Token, Tokenizer
    from likewise.runtime.pending import Embedded
    from likewise.runtime.reading import Reader
    from likewise.runtime.sinks import Answered, Scored, SparseVector


class Calls:
    """Requests to one model, each as work for its desk."""

    card: ModelCard
    _desk: Desk
    _reader: Reader
    _tokenizer: Tokenizer

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts that the model's files have, by name."""
        return self.card.prompts

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        force: bool = False,
        raw: bool = False,
        **how: Unpack[How],
    ) -> Vectors:
        """Vectors float32 [len(texts), dimensions], in order. Waits while the lane is full.

        Before each text goes `prompt`, or the model's prompt called `prompt_name`, or the one
        called as `kind`; else the one that the model's folder makes the default, if any. Vectors
        are cut to `dimensions` and made length 1 again; `force` cuts those of models that weren't
        trained for it; `raw` ones are as they are before anything scales them to length 1. `how`
        are fields of `Manner`; the lane is `bulk` unless it says otherwise.

        Raises:
            InputError: a text can't be embedded, or (`overflow="refuse"`) is too long.
            DimensionsError: the model has no vectors of that width.
            ModelUnsupported: the model gives no vectors.
            DeadlineExceeded: it can't be done by `deadline`.
            EngineError: the computation failed.
        """
        words = self._reader.prompt(kind, prompt, prompt_name)
        future = self._desk.vectors(
            texts,
            words,
            dimensions,
            _bulk(how),
            wait=True,
            force=force,
            length=_length(False, raw),
        )
        return future.result().vectors

    def submit(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        force: bool = False,
        unit: bool = False,
        raw: bool = False,
        special: bool = True,
        **how: Unpack[How],
    ) -> Future[Embedded]:
        """Start embedding texts, or texts as token ids; cancelling the future gives the rest up.

        With `unit`, vectors have length 1 whatever the model's files say. With `raw` they are as
        they are before the model's last modules scale them to it, also when cut to `dimensions`.
        Without `special`, no special tokens are added, and token ids are computed as they are.

        Raises:
            InputError: an input can't be embedded, or (`overflow="refuse"`) is too long.
            DimensionsError: the model has no vectors of that width.
            ModelUnsupported: the model gives no vectors.
            Overloaded: too much is waiting, or it can't be done by `deadline`.
        """
        words = self._reader.prompt(kind, prompt, prompt_name)
        return self._desk.vectors(
            inputs,
            words,
            dimensions,
            Manner(**how),
            wait=False,
            force=force,
            length=_length(unit, raw),
            special=special,
        )

    def submit_late(
        self,
        texts: Sequence[str] | Sequence[Sequence[int]],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        unit: bool = False,
        raw: bool = False,
        **how: Unpack[How],
    ) -> Future[Embedded]:
        """Start embedding the chunks of one document, each in the light of the others.

        Late chunking (https://arxiv.org/abs/2409.04701, section 3): the chunks' tokens are read
        end to end, after one prompt; a chunk's vector is the mean of its own tokens' states, the
        special ones and the prompt's left out, and normalised where the model's vectors are,
        unless they are asked for `raw`.

        A document longer than the model reads is cut into windows of whole chunks, as many in each
        as fit, which know nothing of one another; a chunk longer than a window is cut, and
        reported. `tokens` of the answer counts what stands around a window with its outer chunks.

        Raises:
            InputError: a chunk can't be read or has no tokens.
            InputTooLong: `overflow="refuse"`, and the model doesn't read all of it at once.
            DimensionsError: the model has no vectors of that width.
            ModelUnsupported: its vectors aren't means of states, or its engine gives no states.
            Overloaded: too much is waiting, or it can't be done by `deadline`.
        """
        words = self._reader.prompt(kind, prompt, prompt_name)
        return self._desk.chunks(texts, words, dimensions, Manner(**how), length=_length(unit, raw))

    def score(
        self,
        query: str,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        **how: Unpack[How],
    ) -> Vectors:
        """How well each text answers `query`: float32 [len(texts)], higher is better.

        Raises:
            ModelUnsupported: the model scores no pairs, or has several labels (`submit_pairs`).
            InputError: a text can't be read, or (`overflow="refuse"`) a pair is too long.
            EngineError: the computation failed.
        """
        labels = self._reader.scores.labels
        if len(labels) != 1:
            raise ModelUnsupported(
                f"{self.name} gives {len(labels)} numbers for a pair ({', '.join(labels)}), not "
                "one score; submit_pairs() gives them all",
                param="model",
            )
        pairs = [(query, text) for text in listed(texts)]
        future = self._desk.pairs(pairs, prompt, False, _bulk(how), wait=True)
        return np.ascontiguousarray(future.result().scores[:, 0])

    def submit_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        prompt: str | None = None,
        raw: bool = False,
        **how: Unpack[How],
    ) -> Future[Scored]:
        """Start scoring pairs of texts: a number for each of the model's labels.

        `raw` leaves out the activation that the model's numbers go through.

        Raises:
            ModelUnsupported: the model scores no pairs.
            InputError: a pair can't be read, or (`overflow="refuse"`) is too long.
            Overloaded: too much is waiting, or it can't be done by `deadline`.
        """
        return self._desk.pairs(pairs, prompt, raw, Manner(**how), wait=False)

    def submit_labels(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        prompt: str = "",
        raw: bool = False,
        **how: Unpack[How],
    ) -> Future[Scored]:
        """Start classifying texts, after `prompt`: a number for each of the model's labels.

        Raises:
            ModelUnsupported: the model is no classifier of single texts.
            InputError: a text can't be read, or (`overflow="refuse"`) is too long.
            Overloaded: too much is waiting, or it can't be done by `deadline`.
        """
        return self._desk.labels(inputs, prompt, raw, Manner(**how), wait=False)

    def embed_sparse(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        **how: Unpack[How],
    ) -> list[SparseVector]:
        """For each text the vocabulary's tokens that matter: ids int32 [k] and weights float32 [k].

        Raises:
            ModelUnsupported: the model gives no sparse vectors.
            InputError: a text can't be read, or (`overflow="refuse"`) is too long.
            EngineError: the computation failed.
        """
        words = self._reader.prompt(kind, prompt, None)
        given = self._desk.outputs(texts, ("sparse",), _side(kind), words, _bulk(how), wait=True)
        return list(given.result().sparse or ())

    def embed_tokens(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        **how: Unpack[How],
    ) -> list[Vectors]:
        """For each text a vector for each token that counts: float32 [tokens, width].

        Compare them with `likewise.vectors.maxsim.maxsim`. Queries and documents are read apart:
        `kind` matters, and is `document` when it isn't given.

        Raises:
            ModelUnsupported: the model gives one vector a text, or none.
            InputError: a text can't be read, or (`overflow="refuse"`) is too long.
            EngineError: the computation failed.
        """
        words = self._reader.prompt(kind, prompt, None)
        given = self._desk.outputs(texts, ("tokens",), _side(kind), words, _bulk(how), wait=True)
        return list(given.result().tokens or ())

    def submit_all(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        gives: Sequence[str] | None = None,
        kind: Kind | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        **how: Unpack[How],
    ) -> Future[Answered]:
        """Start computing several kinds of output in one pass; all but scores when None.

        Beside what the model gives there are `states`, only when named: the last hidden state of
        every token, special ones included, before any pooling.

        Raises:
            ModelUnsupported: the model doesn't give one of `gives`.
            InputError: a text can't be read, or (`overflow="refuse"`) is too long.
            Overloaded: too much is waiting, or it can't be done by `deadline`.
        """
        wanted = gives or [one for one in self.card.gives if one != "scores"]
        words = self._reader.prompt(kind, prompt, prompt_name)
        return self._desk.outputs(inputs, wanted, _side(kind), words, Manner(**how), wait=False)

    def tokens(
        self, text: str, *, prompt_name: str | None = None, special: bool = True
    ) -> list[Token]:
        """The tokens of a text, uncut, after the prompt called `prompt_name` if one is named.

        Raises:
            InputError: it can't be read, or there is no such prompt.
        """
        prompt = "" if prompt_name is None else self.card.prompt(prompt_name)
        return self._tokenizer.tokens(text, prompt=prompt, special=special)

    def token_parts(
        self, text: str, *, prompt_name: str | None = None, special: bool = True
    ) -> Iterator[list[Token]]:
        """The same as `tokens`, some at a time: of a long text they take much memory.

        Raises:
            InputError: as `tokens`.
        """
        prompt = "" if prompt_name is None else self.card.prompt(prompt_name)
        return self._tokenizer.token_parts(text, prompt=prompt, special=special)

    def text(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text that token ids stand for.

        Raises:
            InputError: an id isn't in the vocabulary.
        """
        return self._tokenizer.text(ids, skip_special=skip_special)

    def chat_text(
        self,
        turns: Sequence[Turn],
        *,
        generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """A conversation as the model's chat template writes it, special tokens included.

        Raises:
            ModelUnsupported: the model has no chat template.
            InputError: its template refuses these messages.
            MissingExtra: Jinja isn't installed.
        """
        if self._chat_template is None:
            raise ModelUnsupported(
                f"{self.name} has no chat template; send texts as they are", param="messages"
            )
        return self._chat_template.write(
            turns, generation_prompt=generation_prompt, variables=variables
        )

    @functools.cached_property
    def _chat_template(self) -> ChatTemplate | None:
        return read_chat_template(self.card.transformer, self.card.tokenizer)


def _length(unit: bool, raw: bool) -> Length:
    """What becomes of a vector's length."""
    return "raw" if raw else "unit" if unit else "own"


def _side(kind: Kind | None) -> Kind:
    """As which of the two a model reads a text that reads them apart."""
    return kind or "document"


def _bulk(how: How) -> Manner:
    """As asked; in the lane of those who wait for nobody unless another is named."""
    named: How = {"lane": "bulk"}
    named.update(how)
    return Manner(**named)
