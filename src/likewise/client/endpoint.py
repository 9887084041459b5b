"""One endpoint: asked in turn, again where that can help; its refusals are told apart."""

from __future__ import annotations

import json
import random as chance
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import orjson

from likewise.base.clock import monotonic, wall
from likewise.base.errors import (
    EndpointGarbled,
    EndpointUnavailable,
    EngineError,
    InputUnreadable,
    LikewiseError,
    ModelNotFound,
    SettingsError,
)
from likewise.base.log import fields, logger
from likewise.base.loopback import is_loopback_url
from likewise.client.answers import failure
from likewise.client.dialects import DIALECTS
from likewise.client.http import Http
from likewise.client.pace import Pace, backoff_s

if TYPE_CHECKING:
    from likewise.base.clock import Clock
    from likewise.base.types import Lane, Overflow, Vectors
    from likewise.client.address import Address
    from likewise.client.answers import Answer
    from likewise.client.dialects import About

T = TypeVar("T")

PATIENCE_S: dict[Lane, float] = {"interactive": 5.0, "bulk": 60.0}
"""How long a call goes on trying: somebody waits for the one, nobody for the other."""
MOST_BYTES = 2**20
MOST_BYTES_A_TEXT = 2**19
"""An answer may have the one, and the other for each text: 16,000 numbers written out in full."""
_LIST_S = 5.0
"""For the list of models that an error ends with."""
_LEAST_S = 0.1
_TRIES = 3
"""For what another try may mend, but most likely doesn't."""
_log = logger("client")


class Endpoint:
    """Where a remote model is. Safe to use from several threads; `close` it when done.

    `key` is asked for the key with each request, so that one that was replaced in its file is used.
    """

    def __init__(
        self,
        address: Address,
        key: Callable[[], str | None] = lambda: None,
        *,
        clock: Clock = monotonic,
        wait: Callable[[float], object] | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """Nothing is sent yet. `wait` is for tests: it takes seconds, as `Event.wait` does."""
        self.address = address
        self._key = key
        self._dialect = DIALECTS[address.kind]
        self._clock = clock
        self._closing = threading.Event()
        self._wait = wait or self._closing.wait
        self._random = random
        self._pace = Pace(clock, rpm=address.rpm, tpm=address.tpm)
        is_secure = urlsplit(address.url).scheme == "https"
        self._http = Http(address.url, is_secure=is_secure)
        if not is_secure and not is_loopback_url(address.url) and self._sent_key():
            _log.warning(fields("key is sent over plain http", model=str(address)))

    def about(self) -> About:
        """What it says of its model.

        Raises:
            ModelNotFound: it doesn't have it.
            LikewiseError: it can't be asked.
        """

        def get(path: str, body: Any = None) -> Any:
            return self._tried(
                lambda seconds: self._once(path, body, seconds=seconds),
                0,
                "interactive",
                is_first=True,
            )

        return self._dialect.about(self.address, get)

    def embed(
        self,
        texts: Sequence[str],
        tokens: int,
        *,
        lane: Lane,
        overflow: Overflow,
        is_first: bool = False,
    ) -> Vectors:
        """Vectors float32 [len(texts), n] of at least one text, in order; n isn't checked.

        `tokens` is what they are taken to have together. A query is answered within its patience,
        but for one that `is_first`: the endpoint may have to load the model.

        Raises:
            InputTooLong: one is longer than the model reads.
            InputUnreadable: one can't be sent: there is half a surrogate pair in it.
            ModelNotFound: the endpoint doesn't have the model.
            EngineError: it failed to compute.
            EndpointError: of its kinds; what a retry can mend was tried again for a while.
        """
        body = self._dialect.ask(self.address, texts, overflow)

        def once(seconds: float) -> Vectors:
            answer = self._once(self._dialect.path, body, texts=len(texts), seconds=seconds)
            try:
                return self._dialect.read(answer, len(texts))
            except EndpointGarbled as garbled:
                raise EndpointGarbled(f"{self.address.url}: {garbled}") from None

        return self._tried(once, tokens, lane, is_first=is_first)

    def close(self) -> None:
        """End connections; whoever waits for a turn or an answer is told so."""
        self._closing.set()
        self._http.close()

    def _tried(self, once: Callable[[float], T], tokens: int, lane: Lane, *, is_first: bool) -> T:
        """What `once` gives, in its turn; after a failure that may pass, again for a while."""
        until = self._clock() + PATIENCE_S[lane]
        failures = 0
        while True:
            self._take_turn(tokens, lane, until)
            seconds = self.address.timeout
            if lane == "interactive" and not is_first:
                seconds = min(seconds, max(_LEAST_S, until - self._clock()))
            try:
                return once(seconds)
            except (EndpointUnavailable, EndpointGarbled, EngineError) as failed:
                self._require_open()
                failures += 1
                if failures >= _TRIES and not failed.retryable:
                    raise
                delay = backoff_s(failures, self._random)
                asked = failed.retry_after_s
                if asked is not None:
                    self._pace.pause(asked, str(failed))
                    # Some say 0, and mean it no more than a moment later.
                    delay = max(asked, delay)
                if self._clock() + delay > until:
                    raise
                _log.info(fields("asking again", model=str(self.address), why=failed, in_s=delay))
                self._wait(delay)

    def _take_turn(self, tokens: int, lane: Lane, until: float) -> None:
        """Wait for the end of a pause, and for a share of what may be asked in a minute.

        Bulk waits for its share as long as that takes: it is our own limit.
        """
        while True:
            self._require_open()
            wait = self._pace.take(tokens, lane)
            if wait is None:
                return
            is_patient = lane == "bulk" and not wait.why
            if not is_patient and self._clock() + wait.seconds > until:
                # In the same words each time: who logs what is new has one line for a pause.
                why = wait.why or (
                    f"{self.address.url}: what may be asked in a minute (rpm, tpm) is used up"
                )
                raise EndpointUnavailable(why, retry_after_s=wait.seconds)
            self._wait(wait.seconds)

    def _require_open(self) -> None:
        if self._closing.is_set():
            raise EndpointUnavailable(f"{self.address.url} isn't asked any more: it was closed")

    def _sent_key(self) -> str | None:
        key = self._key()
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise SettingsError(
                f"{self.address.key_variable} holds more than a key: white space, or a character "
                "that isn't ASCII"
            )
        return key

    def _once(self, path: str, body: Any = None, *, texts: int = 0, seconds: float) -> Any:
        """The JSON at `path`.

        Raises:
            LikewiseError: it isn't there, or is something else; its kind says what can be done.
        """
        key = self._sent_key()
        answer = self._sent(path, body, key, texts, seconds)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer, key, has_texts=texts > 0)
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            pass
        try:
            # It reads NaN, which some servers write though JSON has none; that is said as it is.
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise EndpointGarbled(
                f"{self.address.url}{path} doesn't answer in JSON; is that the right address?"
            ) from None

    def _sent(self, path: str, body: Any, key: str | None, texts: int, seconds: float) -> Answer:
        """Send one request and read its answer, within the time and size there are for it."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            try:
                content = orjson.dumps(body)
            except orjson.JSONEncodeError:
                raise InputUnreadable("a text has half a surrogate pair in it") from None
        hint = ""
        if seconds == self.address.timeout:
            hint = "; a longer time is given with ?timeout=SECONDS in the model's address"
        return self._http.ask(
            f"{self.address.url}{path}",
            content,
            headers,
            seconds=seconds,
            most=MOST_BYTES + texts * MOST_BYTES_A_TEXT,
            hint=hint,
        )

    def _refusal(self, answer: Answer, key: str | None, *, has_texts: bool) -> LikewiseError:
        refused = failure(
            answer,
            key=key,
            variable=self.address.key_variable,
            has_texts=has_texts,
            now=wall(),
        )
        if isinstance(refused, ModelNotFound):
            return ModelNotFound(f"{refused}{self._what_there_is()}", param="model")
        return refused

    def _what_there_is(self) -> str:
        """The models that it has, in words; nothing when it doesn't say."""
        try:
            names = self._dialect.names(self._plainly)
        except LikewiseError:
            return ""
        shown = ", ".join(sorted(names)[:20]) or "none"
        return f"; it has: {shown}{', …' if len(names) > 20 else ''}"

    def _plainly(self, path: str) -> Any:
        """The JSON at `path`, asked for once; whatever is refused now is no more than that."""
        answer = self._sent(path, None, self._sent_key(), 0, min(_LIST_S, self.address.timeout))
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise EndpointGarbled(f"{answer.where} doesn't answer in JSON") from None
