"""`RemoteEmbedder`: a model behind an endpoint, as one that runs here; every answer is checked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.chunking import DEFAULT_CHUNK
from likewise.base.errors import (
    DimensionsError,
    EndpointRefused,
    EndpointUnavailable,
    EngineError,
    InputEmpty,
    InputError,
    InputTooLong,
    NotFinite,
    SettingsError,
    SpaceMismatch,
)
from likewise.base.space import CANARY, Space
from likewise.client.pace import BURST_S
from likewise.text.split import splitter
from likewise.text.words import MOST_OVER, estimated_spans, estimated_tokens

if TYPE_CHECKING:
    from likewise.base.types import Kind, Lane, Overflow, Vectors
    from likewise.client.endpoint import Endpoint
    from likewise.text.split import TextSplitter

SPECIAL_TOKENS = 2
"""What a model puts around a text, and reads as part of it."""
MOST_TOKENS = 100_000
"""Estimated, in one request. OpenAI takes 300,000 in all; servers of one's own time out before."""
LENGTH_TOLERANCE = 1e-3
"""By how much a length may differ from 1: float16 differs by less."""
_OF_A_REQUEST = (EndpointRefused, EngineError, InputTooLong)
"""What too many texts in one request bring about, each server in its own words."""
_DOUBLED_AFTER = 1000
"""Requests that pass before one with more texts is tried again: it may have been a bad hour."""


class TextLimit:
    """How many texts go into a request, as far as is known. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        """At most `most`, as long as nothing shows that it is too many."""
        self.most = most
        self._told = most
        self._passed = 0
        self._lock = threading.Lock()

    def lower(self, most: int) -> None:
        """More than `most` were refused."""
        with self._lock:
            self.most = min(self.most, most)
            self._passed = 0

    def passed(self) -> None:
        """A request passed; after `_DOUBLED_AFTER` of them, twice as many texts are tried."""
        with self._lock:
            self._passed += 1
            if self._passed >= _DOUBLED_AFTER and self.most < self._told:
                self.most = min(self._told, 2 * self.most)
                self._passed = 0


def _away(failed: EngineError) -> EndpointUnavailable:
    """What it means that no text passes: a proxy says 500 while what is behind it is away."""
    return EndpointUnavailable(f"{failed}; no text is to blame")


class RemoteEmbedder:
    """The model of an `Endpoint`. Safe to use from several threads; `close` it when done.

    Its space is found by asking: what the endpoint says that the model is, and the vector of one
    text. It has nothing of the endpoint's host, so that an endpoint may move.
    """

    def __init__(self, endpoint: Endpoint, *, owns: bool = True) -> None:
        """Ask the endpoint what it is; closing this closes it where this `owns` it.

        Raises:
            DimensionsError: vectors haven't as many numbers as the address asks for.
            EndpointUnavailable: it is away, or fails on a plain sentence.
            LikewiseError: the endpoint can't be asked, or doesn't have that model.
        """
        self.endpoint = endpoint
        self._owns = owns
        address = endpoint.address
        try:
            about = endpoint.about()
            plain = endpoint.embed(
                [address.document_prompt + CANARY],
                estimated_tokens(CANARY),
                lane="interactive",
                overflow="refuse",
                is_first=True,
            )
        except EngineError as failed:
            raise _away(failed) from None
        self._limit = TextLimit(address.batch or about.most_texts)
        vector = self._scaled(plain)[0]
        if address.dimensions not in (None, len(vector)):
            raise DimensionsError(
                f"{address.url} gives vectors of {len(vector)} numbers although "
                f"dimensions={address.dimensions} was asked for; leave it out of the model's "
                "address, or take a model that can give that many",
                param="model",
            )
        length = float(np.linalg.norm(vector))
        self._space = Space(
            model=str(address),
            weights=about.identity,
            pooling=about.pooling,
            dimensions=len(vector),
            normalised=abs(length - 1.0) < LENGTH_TOLERANCE,
            prompt=address.document_prompt,
            query_prompt=address.query_prompt,
            max_tokens=address.max_tokens or about.max_tokens,
        )

    @property
    def space(self) -> Space:
        """The space its vectors lie in, as it was when the endpoint was asked."""
        return self._space

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = "document",
        lane: Lane = "bulk",
        overflow: Overflow = "refuse",
    ) -> Vectors:
        """Vectors float32 [len(texts), space.dimensions], in order; finite, or an error is raised.

        Waits its turn where the address or the endpoint limits what may be asked in a minute.
        With `overflow="cut"` the endpoint is told to cut what is too long, where it can be. A
        request of several texts that is refused is halved: endpoints have limits that they don't
        tell, and only a text that is refused alone is to blame.

        Raises:
            InputError: a text is empty, too long or can't be sent.
            SpaceMismatch: the vectors have another width than they had at first.
            NotFinite: there is NaN or Inf in one.
            EngineError: the endpoint failed to compute.
            EndpointError: it can't be asked, or refuses, or answers something else.
        """
        if isinstance(texts, str | bytes):
            raise InputError("give a list of texts, not one text", param="input")
        empty = tuple(at for at, text in enumerate(texts) if not text)
        if empty:
            raise InputEmpty(f"text {empty[0]} is empty", param="input", inputs=empty)
        prompt = self._space.query_prompt if kind == "query" else self._space.prompt
        made = np.empty((len(texts), self._space.dimensions), dtype=np.float32)
        for start, end, tokens in self._parts(texts, prompt):
            sent = [prompt + text for text in texts[start:end]]
            made[start:end] = self._halved(sent, tokens, lane, overflow)
            self._limit.passed()
        return made

    def splitter(self, chunk: str = DEFAULT_CHUNK) -> TextSplitter:
        """Cuts texts into passages that the model reads whole, as `chunk` says.

        Its tokenizer isn't here: tokens are estimated, rather too many (`likewise.text.words`), and
        a fifth of what the model reads is kept in reserve.

        Raises:
            SettingsError: it isn't known, or the model doesn't read that many tokens at once.
        """
        prompt = estimated_tokens(self._space.prompt)
        room = int((self._space.max_tokens - SPECIAL_TOKENS) / MOST_OVER) - prompt
        try:
            return splitter(chunk, estimated_spans, room=room, model=self._space.model)
        except SettingsError as wrong:
            raise SettingsError(
                f"{wrong}. If it reads more, say so with ?max_tokens=N in its address",
                param=wrong.param,
            ) from None

    def close(self) -> None:
        """End the connections, if they are its own."""
        if self._owns:
            self.endpoint.close()

    def _halved(self, sent: Sequence[str], tokens: int, lane: Lane, overflow: Overflow) -> Vectors:
        """Vectors of one request's texts, in smaller requests if it is refused."""
        try:
            return self._asked(sent, tokens, lane, overflow)
        except _OF_A_REQUEST as refused:
            if len(sent) == 1:
                raise
            if isinstance(refused, EngineError):
                self._require_alive(lane)
        half = (len(sent) + 1) // 2
        share = tokens * half // len(sent)
        first = self._halved(sent[:half], share, lane, overflow)
        second = self._halved(sent[half:], tokens - share, lane, overflow)
        # No text is to blame: it was their number, which isn't to be found out each time.
        self._limit.lower(half)
        return np.concatenate([first, second])

    def _require_alive(self, lane: Lane) -> None:
        """Raise `EndpointUnavailable` if it fails on a plain sentence: fewer texts don't help."""
        plain = self._space.prompt + CANARY
        try:
            self._asked([plain], estimated_tokens(plain), lane, "refuse")
        except EngineError as failed:
            raise _away(failed) from None

    def _asked(self, sent: Sequence[str], tokens: int, lane: Lane, overflow: Overflow) -> Vectors:
        """Vectors of one request, which have the width they had at first."""
        found = self.endpoint.embed(sent, tokens, lane=lane, overflow=overflow)
        if found.shape[1] != self._space.dimensions:
            raise SpaceMismatch(
                f"{self.endpoint.address.url} gives vectors of {found.shape[1]} numbers now, "
                f"and gave {self._space.dimensions} before: another model answers there. "
                "Put the old one back, or rebuild with 'likewise bind swap NAME --model NEW'"
            )
        return self._scaled(found)

    def _parts(self, texts: Sequence[str], prompt: str) -> Iterator[tuple[int, int, int]]:
        """Runs of texts that go into one request: from, to, and estimated tokens."""
        always = SPECIAL_TOKENS + estimated_tokens(prompt)
        tpm = self.endpoint.address.tpm
        # No request takes more than may go at once, so that a query needn't wait for it.
        room = MOST_TOKENS if tpm is None else min(MOST_TOKENS, tpm * BURST_S / 60.0)
        start = total = 0
        for at, text in enumerate(texts):
            tokens = min(always + estimated_tokens(text), max(self._space.max_tokens, always))
            if at > start and (at - start >= self._limit.most or total + tokens > room):
                yield start, at, total
                start, total = at, 0
            total += tokens
        if len(texts) > start:
            yield start, len(texts), total

    def _scaled(self, vectors: Vectors) -> Vectors:
        """Finite vectors, made length 1 if the address says so; one of zeros stays as it is."""
        if not np.isfinite(vectors).all():
            raise NotFinite(f"{self.endpoint.address.url} gave a vector with NaN or Inf")
        if not self.endpoint.address.normalise:
            return vectors
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        lengths[lengths == 0.0] = 1.0
        scaled: Vectors = (vectors / lengths).astype(np.float32)
        return scaled
