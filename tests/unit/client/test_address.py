"""Addresses of remote models: what is one, what is said of what isn't, and that none is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import SettingsError
from likewise.client.address import FORMS, OPTIONS, Address, parse
from likewise.client.names import is_remote

HOSTS = ["localhost", "example.org:8080", "127.0.0.1:1", "[::1]:7997", "api.openai.com"]
MODELS = st.text(
    st.characters(codec="utf-8", exclude_characters="?@", exclude_categories=["Z", "C"]), min_size=1
).filter(lambda name: not name.startswith(("http://", "https://")))
COUNTS = st.none() | st.integers(1, 999_999_999)
PROMPTS = st.text(st.characters(codec="utf-8"), max_size=20)


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    kind = draw(st.sampled_from(sorted(FORMS)))
    scheme = draw(st.sampled_from(["http", "https"]))
    path = draw(st.sampled_from(["", "/v1", "/a/b"]))
    return Address(
        kind,
        "" if kind == "tei" else draw(MODELS),
        f"{scheme}://{draw(st.sampled_from(HOSTS))}{path}",
        dimensions=draw(COUNTS),
        max_tokens=draw(COUNTS),
        batch=draw(COUNTS),
        timeout=draw(st.floats(0.001, 3600).map(lambda seconds: float(f"{seconds:g}"))),
        rpm=draw(COUNTS),
        tpm=draw(COUNTS),
        query_prompt=draw(PROMPTS),
        document_prompt=draw(PROMPTS),
        normalise=draw(st.booleans()),
    )


@given(addresses())
def test_what_is_written_is_read_as_the_same(address: Address) -> None:
    assert parse(str(address)) == address
    assert is_remote(str(address))


@given(st.text() | st.sampled_from(sorted(FORMS)).flatmap(lambda k: st.text().map(f"{k}:".__add__)))
def test_anything_else_is_refused_in_words(text: str) -> None:
    try:
        read = parse(text)
    except SettingsError as refused:
        assert "remote model" in str(refused)
    else:
        assert parse(str(read)) == read


def test_short_forms() -> None:
    short = parse("openai:text-embedding-3-small")
    assert short.url == "https://api.openai.com/v1"
    assert parse("ollama:all-minilm:33m") == Address(
        "ollama", "all-minilm:33m", "http://localhost:11434"
    )
    assert parse("tei:http://localhost:8080/").url == "http://localhost:8080"
    assert parse("openai:org/a@b@http://h/v1").model == "org/a@b"
    full = parse(
        "openai:m@http://h/v1?dimensions=256&timeout=2.5&query_prompt=query:%20&normalise=1"
    )
    assert (full.dimensions, full.timeout, full.query_prompt) == (256, 2.5, "query: ")
    assert full.normalise


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("openai:", "which model"),
        ("openai:http://h/v1", "which model"),
        ("tei:", "has one model"),
        ("tei:model@http://h", "has one model"),
        ("azure:m@http://h", "write one of openai:"),
        ("openai:m@http://h/v1?dimension=2", "did you mean 'dimensions'"),
        ("openai:m@http://h/v1?key=abc", "isn't known"),
        ("openai:m@http://h/v1?rpm=0", "whole number from 1"),
        ("openai:m@http://h/v1?rpm=1&rpm=2", "twice"),
        ("openai:m@http://h/v1?timeout=nan", "seconds"),
        ("openai:m@http://h/v1?normalise=perhaps", "1 or 0"),
        ("openai:m@http://h:99999/v1", "isn't one"),
        ("openai:m@http:///v1", "needs a host"),
        ("openai:m@http://h/v1#x", "'#'"),
        ("openai:a model@http://h/v1", "white space"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["openai:m@https://me:s3cret@h/v1", "tei:http://s3cret@h", "openai:m@http://h?api_key=s3cret"],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(text)
    assert "s3cret" not in str(refused.value)


def test_which_key_goes_where() -> None:
    assert parse("openai:m").key_variable == "OPENAI_API_KEY"
    for text in (
        "openai:m@http://api.openai.com/v1",
        "openai:m@https://api.openai.com.evil.example/v1",
        "openai:m@https://h/api.openai.com",
        "tei:https://h",
        "ollama:m",
    ):
        assert parse(text).key_variable == "LIKEWISE_REMOTE_KEY", text


def test_names_of_other_models() -> None:
    for name in (None, "all-MiniLM-L6-v2", "org/model", "./openai", "openai", "C:\\models"):
        assert not is_remote(name)
    assert list(OPTIONS) == [name for name in Address.__dataclass_fields__ if name in OPTIONS]
