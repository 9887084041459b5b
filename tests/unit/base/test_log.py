"""Records as lines: one each, whatever was in them."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from likewise.base.log import REQUEST_ID, JsonFormatter, TextFormatter, fields

INJECTED = "a\nERROR forged\r\x1b[31m\u2028\x85b"


@pytest.fixture(autouse=True)
def request_id() -> Iterator[None]:
    token = REQUEST_ID.set("id-1")
    yield
    REQUEST_ID.reset(token)


def record(msg: object, *args: object, fails: str | None = None) -> logging.LogRecord:
    error = None
    if fails is not None:
        try:
            raise ValueError(fails)
        except ValueError:
            error = sys.exc_info()
    return logging.LogRecord("likewise.server", logging.INFO, "", 0, msg, args, error)


def test_json_has_the_values_as_keys() -> None:
    event = fields("request", status=200, ms=1.5, ok=True, model="a b", none=None, at=("a", 2))
    line = json.loads(JsonFormatter().format(record(event)))
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info", "logger": "likewise.server", "message": "request", "request_id": "id-1",
        "status": 200, "ms": 1.5, "ok": True, "model": "a b", "none": None, "at": ["a", 2],
    }  # fmt: skip


def test_time_is_rfc_3339_in_utc() -> None:
    one = record("x")
    one.created = 1_700_000_000.25
    assert json.loads(JsonFormatter().format(one))["ts"] == "2023-11-14T22:13:20.250Z"


def test_a_value_takes_no_key_of_ours_and_numbers_stay_json() -> None:
    event = fields("x", level="forged", ts=float("nan"), inf=float("inf"))
    text = JsonFormatter().format(record(event))
    line = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert line["level"] == "info"
    assert (line["level_"], line["ts_"], line["inf"]) == ("forged", "nan", "inf")


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_nothing_from_outside_begins_a_line(formatter: logging.Formatter) -> None:
    for one in (
        record(fields("x", path=INJECTED)),
        record(fields(f"x {INJECTED}")),
        record("foreign %s", INJECTED),
    ):
        text = formatter.format(one)
        assert len(text.splitlines()) == 1
        assert text.isprintable()


def test_tracebacks_are_told_from_records() -> None:
    text = TextFormatter().format(record(fields("bug"), fails=INJECTED))
    first, *rest = text.splitlines()
    assert first.endswith("bug request_id=id-1")
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
    whole = JsonFormatter().format(record(fields("bug"), fails=INJECTED))
    assert len(whole.splitlines()) == 1
    assert "ValueError" in json.loads(whole)["exception"]


def test_text_is_as_it_was() -> None:
    event = fields("model loaded", name="a/b", seconds=0.123456789, why="it has bf16", empty="")
    assert event == "model loaded name=a/b seconds=0.123457 why='it has bf16' empty=''"
    assert TextFormatter().format(record(event)).endswith(f"{event} request_id=id-1")


@pytest.mark.parametrize("value", ["a\nb", "a\x1b[31m", "a\x85b", "a'b", "a=b", ""])
def test_values_that_could_be_misread_are_quoted(value: str) -> None:
    assert fields("x", at=value) == f"x at={value!r}"
    assert fields("x", at=value).isprintable()
