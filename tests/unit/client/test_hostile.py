"""What an endpoint or an address may say that must do no harm, nor tell a secret."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import likewise
from likewise.base.errors import EndpointGarbled, LikewiseError, SettingsError
from likewise.base.spec import BindingSpec
from likewise.client.address import parse
from likewise.client.answers import Answer, failure, words_of
from likewise.client.dialects import _matrix
from likewise.client.pace import retry_after_s
from likewise.server import databases
from likewise.server.bindings import LiveBinding
from tests.binding_kit import DOCS, App
from tests.remote_kit import Asked, Reply, right, scripted
from tests.support import wait_until

SECRET = "sk-verysecret"


@pytest.mark.parametrize(
    "address",
    [
        f"openai:m@https://user:pa/{SECRET}@host/v1",
        f"openai:m@https://u:p?{SECRET}@host/v1",
        f"openai:m@https://host/v1?timeout={SECRET}",
        f"openai:m@https://host/v1?{SECRET}",
        f"openai:m@https://host/v1?{SECRET}=1",
        f"openai:m@https://{SECRET}@host/v1",
    ],
)
def test_what_may_be_a_secret_is_not_repeated(address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(address)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("text", ["tei:http://h?" + "a" * 5000, "tei:http://h?" + "a=1&" * 400])
def test_very_long_addresses(text: str) -> None:
    with pytest.raises(SettingsError):
        parse(text)


def test_where_a_redirect_leads_is_said_without_the_key() -> None:
    headers = {"location": f"https://elsewhere/\x1b[2J?key={SECRET}" + "x" * 9000}
    answer = Answer("https://h/v1/embeddings", 302, headers, b"")
    said = str(failure(answer, key=SECRET, variable="V", has_texts=True, now=0.0))
    assert SECRET not in said and "\x1b" not in said and len(said) < 1000


def test_deep_and_long_answers() -> None:
    assert words_of(b"[" * 900 + b"]" * 900, None) == ""
    assert len(words_of(b"x" * 10_000_000, None)) < 1000
    with pytest.raises(EndpointGarbled):
        _matrix([[10**400, 1]], 1)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
        {"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"},
        {"retry-after": "1e999"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9" * 100_000},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s" * 50},
    ],
)
def test_headers_that_say_nothing(headers: dict[str, str]) -> None:
    assert retry_after_s(headers, 0.0) is None


@pytest.fixture
def rows(tmp_path: Path) -> str:
    app = App(tmp_path / "app.db", schema=DOCS)
    app("INSERT INTO docs (title, body) VALUES ('a', 'b'), ('c', 'd')")
    app.close()
    return f"sqlite:{tmp_path / 'app.db'}"


def test_stopping_waits_for_no_endpoint(rows: str) -> None:
    with scripted() as server:
        server.otherwise = right
        bound = likewise.bind(rows, "docs", text="{title}|{body}", model=server.address)
        bound.sync()
        # Bulk work is patient for 60 s, so that the worker waits; stopping here may take 40.
        server.otherwise = lambda asked: Reply(503, {"error": "away"}, {"retry-after": "45"})
        asked = len(server.asked)
        app = App(Path(rows.partition(":")[2]))
        app("UPDATE docs SET title = 'changed'")
        app.close()
        wait_until(lambda: len(server.asked) > asked, what="the worker to ask, and wait")
        closing = threading.Thread(target=bound.close, daemon=True)
        closing.start()
        closing.join(40)
        assert not closing.is_alive()
    # That it was stopped isn't what stands in its way.
    with databases.bindings_of(rows) as bindings:
        with_error = bindings.table(bindings.get("docs"))
        assert with_error.counts().error is None
        with_error.close()


def test_an_address_that_leads_to_another_model_is_not_kept(rows: str) -> None:
    spec = BindingSpec("docs", rows, "docs", "{title}", chunk="tokens:64/0")
    with scripted() as server, scripted() as another:
        server.otherwise = another.otherwise = right
        likewise.bind(rows, "docs", text=spec.text, model=server.address, chunk=spec.chunk).close()

        def other(asked: Asked) -> Reply:
            reply = right(asked)
            for each in reply.body["data"]:
                each["embedding"] = (-np.asarray(each["embedding"])[::-1] - 3).tolist()
            return reply

        another.otherwise = other
        with pytest.raises(LikewiseError):
            likewise.bind(rows, "docs", text=spec.text, model=another.address, chunk=spec.chunk)
        assert databases.record(rows, "docs").spec.model == server.address
        another.otherwise = right
        likewise.bind(rows, "docs", text=spec.text, model=another.address, chunk=spec.chunk).close()
        assert databases.record(rows, "docs").spec.model == another.address


def test_a_model_that_is_used_is_not_released_when_its_address_moves(rows: str) -> None:
    released: list[str] = []
    with scripted() as server:
        server.otherwise = right
        model = likewise.connect(server.address)
        likewise.bind(rows, "docs", text="{title}", model=server.address).close()
        record = databases.record(rows, "docs")
        live = LiveBinding(record, lambda name: model, release=released.append)
        live.start()
        try:
            with databases.bindings_of(rows) as bindings:
                bindings.readdress(record, f"{server.address}?timeout=20")
            wait_until(lambda: live.record.spec.model.endswith("timeout=20"))
            assert live._serving.model == server.address
        finally:
            live.stop()
            model.close()
    assert released == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTPS_PROXY", "socks5://user:sk-verysecret@h:1"), ("SSL_CERT_FILE", "/no/such/file")],
)
def test_an_environment_that_makes_no_connection(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as refused:
        likewise.connect("openai:m@https://127.0.0.1:1/v1")
    assert SECRET not in str(refused.value)
