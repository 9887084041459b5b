"""One endpoint over HTTP: asked in turn, again where that can help; its refusals are told apart.

httpx is imported here and nowhere else.
"""

from __future__ import annotations

import json
import random as chance
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
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
from likewise.client.answers import Answer, failure
from likewise.client.dialects import DIALECTS
from likewise.client.pace import Pace, backoff_s
from likewise.version import __version__

if TYPE_CHECKING:
    from likewise.base.clock import Clock
    from likewise.base.types import Lane, Overflow, Vectors
    from likewise.client.address import Address
    from likewise.client.dialects import About

T = TypeVar("T")

PATIENCE_S: dict[Lane, float] = {"interactive": 5.0, "bulk": 60.0}
"""How long a call goes on trying: somebody waits for the one, nobody for the other."""
CONNECT_S = 10.0
MOST_BYTES = 2**20
MOST_BYTES_A_TEXT = 2**19
"""An answer may have the one, and the other for each text: 16,000 numbers written out in full."""
_TRIES = 3
"""For what another try may mend, but most likely doesn't."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
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
        self._paused_for = ""
        self._pace = Pace(clock, rpm=address.rpm, tpm=address.tpm)
        is_secure = urlsplit(address.url).scheme == "https"
        self._client = httpx.Client(
            headers={"user-agent": f"likewise/{__version__}", "accept-encoding": "identity"},
            timeout=httpx.Timeout(address.timeout, connect=min(address.timeout, CONNECT_S)),
            follow_redirects=False,
            # Reading all the authorities takes longer than a request, and plain http has none.
            verify=is_secure,
            # A proxy sees nothing of what goes through it to https, and everything of the rest.
            trust_env=is_secure,
        )
        # One that nobody closed leaves no connection behind.
        self._end = weakref.finalize(self, self._client.close)
        if not is_secure and urlsplit(address.url).hostname not in _LOOPBACK and self._sent_key():
            _log.warning(fields("key is sent over plain http", model=str(address)))

    def about(self) -> About:
        """What it says of its model.

        Raises:
            ModelNotFound: it doesn't have it.
            LikewiseError: it can't be asked.
        """

        def get(path: str, body: Any = None) -> Any:
            return self._tried(lambda: self._once(path, body), 0, "interactive")

        return self._dialect.about(self.address, get)

    def embed(
        self, texts: Sequence[str], tokens: int, *, lane: Lane, overflow: Overflow
    ) -> Vectors:
        """Vectors float32 [len(texts), n] of at least one text, in order; n isn't checked.

        `tokens` is what they are taken to have together.

        Raises:
            InputTooLong: one is longer than the model reads.
            InputUnreadable: one can't be sent: there is half a surrogate pair in it.
            ModelNotFound: the endpoint doesn't have the model.
            EngineError: it failed to compute.
            EndpointError: of its kinds; what a retry can mend was tried again for a while.
        """
        body = self._dialect.ask(self.address, texts, overflow)

        def once() -> Vectors:
            answer = self._once(self._dialect.path, body, texts=len(texts))
            try:
                return self._dialect.read(answer, len(texts))
            except EndpointGarbled as garbled:
                raise EndpointGarbled(f"{self.address.url}: {garbled}") from None

        return self._tried(once, tokens, lane)

    def close(self) -> None:
        """End connections; whoever waits for a turn is told so."""
        self._closing.set()
        self._end()

    def _tried(self, once: Callable[[], T], tokens: int, lane: Lane) -> T:
        """What `once` gives, in its turn; after a failure that may pass, again for a while."""
        until = self._clock() + PATIENCE_S[lane]
        failures = 0
        while True:
            self._take_turn(tokens, lane, until)
            try:
                return once()
            except (EndpointUnavailable, EndpointGarbled, EngineError) as failed:
                failures += 1
                if failures >= _TRIES and not failed.retryable:
                    raise
                asked = failed.retry_after_s
                if asked is None:
                    delay = backoff_s(failures, self._random)
                else:
                    self._pace.pause(asked)
                    self._paused_for = str(failed)
                    # Some say 0, and mean it no more than a moment later.
                    delay = max(asked, backoff_s(1, self._random))
                if self._clock() + delay > until or self._closing.is_set():
                    raise
                _log.info(fields("asking again", model=str(self.address), why=failed, in_s=delay))
                self._wait(delay)

    def _take_turn(self, tokens: int, lane: Lane, until: float) -> None:
        """Wait for the end of a pause, and for a share of what may be asked in a minute."""
        while (left := self._pace.paused_s()) > 0:
            if self._clock() + left > until:
                # In the same words each time: who logs what is new has one line for a pause.
                raise EndpointUnavailable(self._paused_for, retry_after_s=left)
            self._wait(left)
            self._require_open()
        if (left := self._pace.take(tokens, lane)) > 0:
            self._wait(left)
        self._require_open()

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

    def _once(self, path: str, body: Any = None, *, texts: int = 0) -> Any:
        """The JSON at `path`.

        Raises:
            LikewiseError: it isn't there, or is something else; its kind says what can be done.
        """
        key = self._sent_key()
        answer = self._sent(path, body, key, texts)
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

    def _sent(self, path: str, body: Any, key: str | None, texts: int) -> Answer:
        """Send one request and read its answer, within the time and size there are for it."""
        where = f"{self.address.url}{path}"
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            try:
                content = orjson.dumps(body)
            except orjson.JSONEncodeError:
                raise InputUnreadable("a text has half a surrogate pair in it") from None
        until = self._clock() + self.address.timeout
        most = MOST_BYTES + texts * MOST_BYTES_A_TEXT
        read = bytearray()
        try:
            with self._client.stream(
                "GET" if body is None else "POST", where, content=content, headers=headers
            ) as response:
                for part in response.iter_bytes():
                    read += part
                    if len(read) > most:
                        raise EndpointGarbled(f"{where} answers with more than {most:,} bytes")
                    if self._clock() > until:
                        raise httpx.ReadTimeout("the answer goes on for too long")
                return Answer(where, response.status_code, response.headers, bytes(read))
        except httpx.TimeoutException:
            raise EndpointUnavailable(
                f"{where} didn't answer within {self.address.timeout:g} s; a longer time is given "
                "with ?timeout=SECONDS in the model's address"
            ) from None
        except httpx.RequestError as failed:
            reason = str(failed) or type(failed).__name__
            raise EndpointUnavailable(f"{where} can't be reached: {reason}") from None
        except RuntimeError:
            # httpx has no error of its own for a client that was closed.
            self._require_open()
            raise

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
        answer = self._sent(path, None, self._sent_key(), 0)
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise EndpointGarbled(f"{answer.where} doesn't answer in JSON") from None
