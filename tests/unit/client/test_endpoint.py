"""Faults of endpoints: a server on the loopback answers by a script, and each is told apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import (
    DimensionsError,
    EndpointError,
    EndpointGarbled,
    EndpointKeyRefused,
    EndpointRefused,
    EndpointUnavailable,
    EngineError,
    InputEmpty,
    InputError,
    InputTooLong,
    InputUnreadable,
    LikewiseError,
    ModelNotFound,
    NotFinite,
    SettingsError,
    SpaceMismatch,
)
from likewise.client import endpoint as endpoints
from likewise.client.address import parse
from likewise.client.embedder import RemoteEmbedder
from likewise.client.endpoint import Endpoint
from tests.binding_kit import DIMENSIONS, fake_vector
from tests.remote_kit import Asked, Reply, Scripted, Time, right, scripted, vectors
from tests.support import LIMIT, free_port

KEY = "sk-secret-0123456789"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


class Reach:
    """Endpoints with a clock that only waiting moves; all are closed."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.time = Time()
        self.made: list[Endpoint] = []

    def __call__(self, options: str = "", key: str | None = None, **more: Any) -> RemoteEmbedder:
        return RemoteEmbedder(self.endpoint(self.server.address + options, key, **more))

    def endpoint(self, address: str, key: str | None = None, **more: Any) -> Endpoint:
        values: dict[str, Any] = {
            "clock": self.time,
            "wait": self.time.wait,
            "random": lambda: 0.0,
            **more,
        }
        self.made.append(Endpoint(parse(address), lambda: key, **values))
        return self.made[-1]


@pytest.fixture
def reach(server: Scripted) -> Iterator[Reach]:
    made = Reach(server)
    yield made
    for each in made.made:
        each.close()


def wanted(texts: list[str]) -> np.ndarray:
    return np.stack([fake_vector(text) for text in texts])


def test_what_is_found_by_asking(server: Scripted, reach: Reach) -> None:
    space = reach().space
    assert (space.dimensions, space.normalised, space.weights) == (DIMENSIONS, False, "openai:m")
    assert len(server.asked) == 1
    scaled = reach("?normalise=1")
    assert scaled.space.normalised
    lengths = np.linalg.norm(scaled.embed(["a", "b"]), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    assert space.fingerprint != scaled.space.fingerprint


def test_order_is_by_index_and_numbers_are_taken_as_base64_is(
    server: Scripted, reach: Reach
) -> None:
    texts = [f"text {n}" for n in range(9)]
    remote = reach()

    def mixed(asked: Asked) -> Reply:
        reply = right(asked)
        reply.body["data"].reverse()
        for row in reply.body["data"][::2]:
            row["embedding"] = fake_vector(texts[row["index"]]).tolist()
        return reply

    server.say(mixed)
    assert np.array_equal(remote.embed(texts), wanted(texts))
    server.say(lambda asked: Reply(body={"data": [{"embedding": v} for v in vectors(texts)]}))
    assert np.array_equal(remote.embed(texts), wanted(texts))
    assert len(server.asked) == 3, "neither was asked for again"


def test_texts_go_out_in_requests_of_the_right_size(server: Scripted, reach: Reach) -> None:
    remote = reach("?batch=3&max_tokens=200000")
    texts = [f"text {n}" for n in range(8)]
    assert np.array_equal(remote.embed(texts), wanted(texts))
    assert [len(asked.texts) for asked in server.asked] == [1, 3, 3, 2]
    long = ["word " * 30_000, "word " * 30_000, "short"]
    assert np.array_equal(remote.embed(long), wanted(long))
    assert [len(asked.texts) for asked in server.asked[4:]] == [1, 2]


def test_retry_after_is_honoured_by_everybody(server: Scripted, reach: Reach) -> None:
    remote = reach()
    server.say(Reply(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}))
    assert np.array_equal(remote.embed(["a"]), wanted(["a"]))
    assert reach.time.waited == [7]
    later = datetime.now(UTC) + timedelta(seconds=30)
    server.say(Reply(503, None, {"retry-after": format_datetime(later, usegmt=True)}))
    remote.embed(["a"])
    assert 20 < reach.time.waited[1] <= 30
    server.say(Reply(429, None, {"retry-after-ms": "1500", "retry-after": "9"}))
    remote.embed(["a"])
    assert reach.time.waited[2] == 1.5
    # Longer than anybody is patient: said at once, and nobody else asks meanwhile either.
    server.say(Reply(429, {"error": "tomorrow"}, {"retry-after": "100"}))
    with pytest.raises(EndpointUnavailable, match="429: tomorrow") as refused:
        remote.embed(["a"])
    assert refused.value.retry_after_s == 100
    before = len(server.asked)
    with pytest.raises(EndpointUnavailable, match="429: tomorrow") as refused:
        remote.embed(["b"])
    assert refused.value.retry_after_s == 100
    assert len(server.asked) == before
    reach.time.now += 95
    remote.embed(["b"])
    assert reach.time.waited[-1] == pytest.approx(5)


def test_a_query_is_not_kept_waiting(server: Scripted, reach: Reach) -> None:
    remote = reach()
    server.say(Reply(429, None, {"retry-after": "20"}))
    with pytest.raises(EndpointUnavailable):
        remote.embed(["a"], lane="interactive")
    assert reach.time.waited == []


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 529])
def test_what_passes_is_tried_again_with_back_off(
    server: Scripted, reach: Reach, status: int
) -> None:
    remote = reach()
    server.say(*[Reply(status)] * 4)
    assert np.array_equal(remote.embed(["a"]), wanted(["a"]))
    assert reach.time.waited == [0.25, 0.5, 1, 2]
    server.otherwise = lambda asked: Reply(status, b"<html>busy</html>")
    with pytest.raises(EndpointUnavailable, match=str(status)) as gone:
        remote.embed(["a"])
    assert gone.value.retryable and "html" not in str(gone.value)
    assert sum(reach.time.waited[4:]) <= endpoints.PATIENCE_S["bulk"]


@pytest.mark.parametrize("status", [500, 501, 424])
def test_a_failure_to_compute_is_tried_three_times(
    server: Scripted, reach: Reach, status: int
) -> None:
    remote = reach()
    server.say(Reply(status), Reply(status))
    assert np.array_equal(remote.embed(["a"]), wanted(["a"]))
    server.otherwise = lambda asked: Reply(status, {"error": "out of memory"})
    with pytest.raises(EngineError, match="out of memory"):
        remote.embed(["a"])
    assert len(server.asked) == 1 + 3 + 3


def test_nothing_listens(reach: Reach) -> None:
    with pytest.raises(EndpointUnavailable, match="can't be reached"):
        RemoteEmbedder(reach.endpoint(f"tei:http://127.0.0.1:{free_port()}"))
    assert reach.time.waited


def test_an_answer_that_takes_too_long(server: Scripted, reach: Reach) -> None:
    remote = reach("?timeout=1")
    never = threading.Event()
    server.say(Reply(after=never))
    assert np.array_equal(remote.embed(["a"]), wanted(["a"]))
    assert len(server.asked) == 3
    server.otherwise = lambda asked: Reply(after=never)
    with pytest.raises(EndpointUnavailable, match=r"within 1 s.*\?timeout"):
        remote.embed(["a"], lane="interactive")
    never.set()


def test_an_answer_that_comes_byte_by_byte(server: Scripted) -> None:
    """No byte is late, and the whole is."""
    remote = RemoteEmbedder(Endpoint(parse(f"{server.address}?timeout=3")))
    server.otherwise = lambda asked: Reply(body=b" " * 2**20, drips=True)
    with pytest.raises(EndpointUnavailable, match=r"within [\d.]+ s"):
        remote.embed(["a"], lane="interactive")
    remote.close()


def test_an_answer_that_is_cut_off(server: Scripted, reach: Reach) -> None:
    remote = reach()

    def half(asked: Asked) -> Reply:
        reply = right(asked)
        reply.cut = True
        return reply

    server.say(half, half)
    assert np.array_equal(remote.embed(["a"]), wanted(["a"]))
    server.otherwise = half
    with pytest.raises(EndpointUnavailable):
        remote.embed(["a"])


NAN = [float("nan")] * DIMENSIONS


def data(*embeddings: object, **more: object) -> Reply:
    return Reply(body={"data": [{"embedding": e, "index": n} for n, e in enumerate(embeddings)]})


GOOD = fake_vector("a").tolist()
GARBLED = {
    "not JSON": Reply(body=b"<html>welcome</html>"),
    "another shape": Reply(body=["a"]),
    "no data": Reply(body={"object": "list"}),
    "too few": data(),
    "too many": data(GOOD, GOOD),
    "bad base64": data("not base64!"),
    "three bytes": data("AAAA"),
    "no numbers": data(["x"] * DIMENSIONS),
    "a number": data(1.0),
    "nothing": data([]),
    "index out of range": Reply(body={"data": [{"embedding": GOOD, "index": 1}]}),
    "index not a number": Reply(body={"data": [{"embedding": GOOD, "index": "0"}]}),
    "nested": data([[GOOD]]),
    "very deep": Reply(body=b"[" * 100_000),
}


@pytest.mark.parametrize("what", GARBLED)
def test_an_answer_to_something_else(server: Scripted, reach: Reach, what: str) -> None:
    remote = reach()
    server.say(GARBLED[what])
    assert np.array_equal(remote.embed(["a"]), wanted(["a"])), "it may have been a proxy"
    server.otherwise = lambda asked: GARBLED[what]
    with pytest.raises(EndpointGarbled, match=server.url):
        remote.embed(["a"])


def test_the_same_index_twice(server: Scripted, reach: Reach) -> None:
    remote = reach()
    row = {"embedding": GOOD, "index": 0}
    server.otherwise = lambda asked: Reply(body={"data": [row, row]})
    with pytest.raises(EndpointGarbled, match="numbers"):
        remote.embed(["a", "b"])


@pytest.mark.parametrize("bad", [NAN, [None] * DIMENSIONS, [1e39] * DIMENSIONS])
def test_numbers_that_are_none(server: Scripted, reach: Reach, bad: list[float]) -> None:
    remote = reach()
    server.say(data(bad))
    with pytest.raises(NotFinite):
        remote.embed(["a"])


def test_another_width(server: Scripted, reach: Reach) -> None:
    remote = reach()
    server.say(data(GOOD * 2))
    with pytest.raises(SpaceMismatch, match="16 numbers now, and gave 8"):
        remote.embed(["a"])
    with pytest.raises(DimensionsError, match="8 numbers although dimensions=4"):
        reach("?dimensions=4")
    assert server.asked[-1].body["dimensions"] == 4


def test_an_answer_without_end(
    server: Scripted, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = reach()
    monkeypatch.setattr(endpoints, "MOST_BYTES", 1000)
    monkeypatch.setattr(endpoints, "MOST_BYTES_A_TEXT", 0)
    server.otherwise = lambda asked: Reply(body=b" " * 100_000)
    with pytest.raises(EndpointGarbled, match="more than 1,000 bytes"):
        remote.embed(["a"])


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_let_in(server: Scripted, reach: Reach, status: int) -> None:
    def echo(asked: Asked) -> Reply:
        return Reply(status, {"error": {"message": f"bad key {asked.headers['authorization']}"}})

    server.say(echo)
    with pytest.raises(EndpointKeyRefused, match="LIKEWISE_REMOTE_KEY") as refused:
        reach(key=KEY)
    assert KEY not in str(refused.value)
    assert not refused.value.retryable
    assert len(server.asked) == 1
    server.say(Reply(status))
    with pytest.raises(EndpointKeyRefused, match="there is none in LIKEWISE_REMOTE_KEY"):
        reach()
    # LiteLLM's words for a key that isn't its own, where it keeps no others in a database.
    server.say(Reply(400, {"error": {"message": "No connected db.", "code": "400"}}))
    with pytest.raises(EndpointKeyRefused, match=r"No connected db\.; it doesn't let in the key"):
        reach(key=KEY)


def test_the_key_is_sent_and_shown_nowhere(
    server: Scripted, reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="likewise")
    remote = reach(key=KEY)
    server.say(Reply(429), Reply(500, {"error": f"while serving {KEY}"}))
    remote.embed(["a"])
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    assert "asking again" in caplog.text
    assert KEY not in caplog.text + repr(remote.space) + str(remote.endpoint.address)
    for wrong in ("two words", "line\nend", "schlüssel"):
        with pytest.raises(SettingsError, match="LIKEWISE_REMOTE_KEY holds more") as refused:
            reach(key=wrong)
        assert wrong not in str(refused.value)


def test_a_redirect_gets_no_key(server: Scripted, reach: Reach) -> None:
    with scripted() as elsewhere:
        remote = reach(key=KEY)
        server.say(Reply(307, None, {"location": f"{elsewhere.url}/v1/embeddings"}))
        with pytest.raises(EndpointError, match=f"it sends us to {elsewhere.url}") as refused:
            remote.embed(["a"])
        assert type(refused.value) is EndpointError
        assert elsewhere.asked == []


OF_LLAMA_CPP = [
    (500, "input (602 tokens) is too large to process. increase the physical batch size (512)"),
    (400, "input (602 tokens) is larger than the max context size (512 tokens). skipping"),
    (400, "request (602 tokens) exceeds the available context size (512 tokens), try increasing"),
]
"""How it says that a text is too long."""


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (Reply(400, {"error": {"message": "no", "code": "bad"}}), EndpointRefused, r"no \(bad\)"),
        (Reply(422, {"detail": [{"msg": "wrong", "input": "a"}]}), EndpointRefused, "422: wrong$"),
        (Reply(413, b"too large"), InputTooLong, "too large"),
        (
            Reply(
                400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}
            ),
            InputTooLong,
            "8192",
        ),
        (Reply(422, {"error": "no"}, {"x-likewise-error": "input_too_long"}), InputTooLong, "no"),
        *(
            (Reply(status, {"error": {"code": status, "message": words}}), InputTooLong, "602")
            for status, words in OF_LLAMA_CPP
        ),
        (Reply(400, {"error": {"message": "no", "code": "400"}}), EndpointRefused, "400: no$"),
        (Reply(402, {"error": "pay"}), EndpointError, "402: pay"),
        (Reply(405, None), EndpointError, "405"),
        (Reply(400, {"error": "x" * 10_000}), EndpointRefused, "x…$"),
        (Reply(400, b"\x00\xff\nline"), EndpointRefused, "400: � line$"),
    ],
)
def test_refusals(
    server: Scripted, reach: Reach, reply: Reply, kind: type[LikewiseError], says: str
) -> None:
    remote = reach()
    server.say(reply)
    with pytest.raises(kind, match=says) as refused:
        remote.embed(["a"])
    assert type(refused.value) is kind
    assert len(server.asked) == 2, "what is refused isn't asked again"


def test_a_model_that_is_not_there(server: Scripted, reach: Reach) -> None:
    server.say(Reply(404, {"error": {"message": "no model m"}}))
    server.otherwise = lambda asked: Reply(body={"data": [{"id": "b"}, {"id": "a"}]})
    with pytest.raises(ModelNotFound, match="no model m; it has: a, b$"):
        reach()
    server.say(Reply(404), Reply(404))
    with pytest.raises(ModelNotFound, match="404$"):
        reach()
    # LiteLLM's words.
    server.say(Reply(400, {"error": {"message": "Invalid model name passed in model=m. Call"}}))
    with pytest.raises(ModelNotFound, match="Invalid model name.*; it has: a, b$"):
        reach()


def test_texts_that_cannot_be_sent(server: Scripted, reach: Reach) -> None:
    remote = reach()
    with pytest.raises(InputEmpty, match="text 1 is empty"):
        remote.embed(["a", ""])
    with pytest.raises(InputUnreadable, match="surrogate"):
        remote.embed(["a", "\ud800"])
    with pytest.raises(InputError, match="a list"):
        remote.embed("a")
    assert len(server.asked) == 1


def test_limits_are_kept(server: Scripted, reach: Reach) -> None:
    remote = reach("?rpm=60&batch=1")
    remote.embed(["a"] * 10)
    # Six may go at once, of which asking what it is was one.
    assert reach.time.waited == pytest.approx([1.0] * 5)
    tokens = reach("?tpm=600")
    reach.time.now += 60
    reach.time.waited.clear()
    tokens.embed(["word " * 100])
    assert reach.time.waited == [], "more than a tenth goes when all of that is there"
    tokens.embed(["word " * 10])
    # Two for each word and two special ones are owed, but for the tenth, and wanted.
    assert reach.time.waited == pytest.approx([(202 - 60 + 22) / 10])
    before = len(server.asked)
    tokens.embed([f"word {n}" for n in range(30)])
    sizes = [len(asked.texts) for asked in server.asked[before:]]
    assert sum(sizes) == 30 and max(sizes) == 12, "a request takes no more than may go at once"


def test_a_query_does_not_wait_for_minutes(server: Scripted, reach: Reach) -> None:
    remote = reach("?tpm=40000")
    remote.embed(["word " * 4000] * 20)
    bulk = list(reach.time.waited)
    assert bulk
    remote.embed(["a query"], lane="interactive")
    assert reach.time.waited == bulk
    remote = reach("?tpm=600")
    remote.embed(["word " * 100], lane="interactive")
    with pytest.raises(EndpointUnavailable, match=r"rpm, tpm.*used up") as refused:
        remote.embed(["a query"], lane="interactive")
    assert refused.value.retry_after_s is not None
    assert reach.time.waited == bulk


def test_a_pause_that_comes_while_one_waits_is_kept(server: Scripted, reach: Reach) -> None:
    def wait(seconds: float) -> None:
        if not reach.time.waited:
            # Another thread is asked to leave it alone meanwhile.
            with pytest.raises(EndpointUnavailable):
                other.submit(remote.embed, ["now"], lane="interactive").result(LIMIT)
        reach.time.wait(seconds)

    remote = reach("?rpm=6", wait=wait)
    server.say(Reply(429, {"error": "later"}, {"retry-after": "600"}))
    before = len(server.asked)
    with ThreadPoolExecutor(1) as other, pytest.raises(EndpointUnavailable, match="later"):
        remote.embed(["a"])
    assert len(server.asked) == before + 1


def test_who_asks_for_no_pause_is_not_stormed(server: Scripted, reach: Reach) -> None:
    remote = reach()
    asked: list[int] = []
    for reply in (Reply(503), Reply(503, None, {"retry-after": "0"})):
        server.asked.clear()
        server.script.extend([reply] * 200)
        with pytest.raises(EndpointUnavailable):
            remote.embed(["a"])
        asked.append(len(server.asked))
        server.script.clear()
    assert asked[0] == asked[1] < 12


def test_several_threads(server: Scripted, reach: Reach) -> None:
    remote = reach("?batch=2")

    def failing(asked: Asked) -> Reply:
        return Reply(503) if len(server.asked) % 5 == 0 else right(asked)

    server.otherwise = failing
    blocks = [[f"{n} {m}" for m in range(5)] for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for block, found in zip(blocks, pool.map(remote.embed, blocks), strict=True):
            assert np.array_equal(found, wanted(block))


def test_closing_ends_who_waits(server: Scripted) -> None:
    endpoint = Endpoint(parse(server.address))
    remote = RemoteEmbedder(endpoint)
    told = threading.Event()

    def busy(asked: Asked) -> Reply:
        told.set()
        return Reply(429, None, {"retry-after": "50"})

    server.otherwise = busy
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(remote.embed, ["a"])
        assert told.wait(LIMIT)
        remote.close()
        with pytest.raises(EndpointUnavailable):
            call.result(LIMIT)
    with pytest.raises(EndpointUnavailable, match="closed"):
        remote.embed(["a"])
    remote.close()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"error": {"message": "batch size is invalid, at most 10"}}),
        Reply(413, b"too large"),
        Reply(400, {"error": "too many tokens in batch"}),
        Reply(500, {"error": "out of memory"}),
    ],
)
def test_an_endpoint_that_takes_fewer_texts_than_it_says(
    server: Scripted, reach: Reach, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = reach()
    server.otherwise = lambda asked: right(asked) if len(asked.texts) <= 10 else reply
    texts = [f"text {n}" for n in range(100)]
    assert np.array_equal(remote.embed(texts), wanted(texts))
    before = len(server.asked)
    assert np.array_equal(remote.embed(texts), wanted(texts))
    sizes = [len(asked.texts) for asked in server.asked[before:]]
    assert max(sizes) <= 10 and sum(sizes) == 100, "it is found out once"
    monkeypatch.setattr("likewise.client.embedder._DOUBLED_AFTER", 1)
    server.otherwise = right
    for _ in range(2):
        assert np.array_equal(remote.embed(texts), wanted(texts))
    assert len(server.asked[-1].texts) > 10, "and isn't held against it for ever"


def test_an_endpoint_that_is_broken_is_not_asked_for_fewer_and_fewer(
    server: Scripted, reach: Reach
) -> None:
    """A proxy says 500 while what is behind it is away: no number of texts helps then."""
    remote = reach()
    server.otherwise = lambda asked: Reply(500, {"error": "connection error"})
    with pytest.raises(EndpointUnavailable, match="connection error; no text is to blame"):
        remote.embed(["a"] * 100)
    sizes = [len(asked.texts) for asked in server.asked[1:]]
    assert sizes == [100] * 3 + [1] * 3
    server.otherwise = right
    remote.embed(["a"] * 100)
    assert len(server.asked[-1].texts) == 100, "nor is it held against it"


def test_an_endpoint_that_is_broken_at_first_is_away(server: Scripted, reach: Reach) -> None:
    server.otherwise = lambda asked: Reply(500)
    for address in (server.address, f"tei:{server.url}"):
        with pytest.raises(EndpointUnavailable, match="500; no text is to blame") as away:
            RemoteEmbedder(reach.endpoint(address))
        assert away.value.retryable, "a binding waits for it when it starts, too"


def test_a_text_that_is_refused_alone_lowers_no_limit(server: Scripted, reach: Reach) -> None:
    remote = reach()
    bad = Reply(422, {"error": "not this one"})
    server.otherwise = lambda asked: bad if "bad" in asked.texts else right(asked)
    with pytest.raises(EndpointRefused, match="not this one"):
        remote.embed([*(f"text {n}" for n in range(50)), "bad"])
    server.otherwise = right
    before = len(server.asked)
    remote.embed(["a"] * 100)
    assert len(server.asked) == before + 1
