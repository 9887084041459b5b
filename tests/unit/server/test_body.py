"""Bodies: what no decoder should be given, and what it must not be trusted to refuse."""

from typing import Any

import msgspec
import pytest

from likewise.base.errors import InputError
from likewise.server import body


class Loose(msgspec.Struct, forbid_unknown_fields=True):
    """A dialect's body with a field of any shape."""

    input: Any = None
    text: str = ""


DECODER = msgspec.json.Decoder(Loose)
FIELDS = Loose.__struct_fields__


def decode(raw: bytes) -> Loose:
    return body.decode(raw, DECODER, FIELDS)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_body_that_is_nested_too_deeply(opening: bytes) -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        decode(b'{"input": ' + opening * 40_000)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"input": "a", "input": "b"}', "input"),
        (b'{"text": "a", "input": 1, "text" : "a"}', "text"),
        (b'{"text": "a", "input": "' + b"a" * 5000 + b'", "text": "a"}', "text"),
        (b'{"input": [{"text": "a", "text": "b"}]}', "text"),
    ],
)
def test_a_name_that_is_there_twice(raw: bytes, name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is there twice") as refused:
        decode(raw)
    assert refused.value.param == name


def test_a_name_that_is_in_several_objects_or_a_text_is_there_once() -> None:
    several = decode(b'{"input": [{"text": "a"}, {"text": "input"}], "text": "input"}')
    assert several.input == [{"text": "a"}, {"text": "input"}]


def test_more_lists_and_objects_than_any_request_has() -> None:
    most = body.MAX_CONTAINERS
    # The outermost object is one of them.
    assert len(decode(b'{"input": [' + b"[]," * (most - 3) + b"[]]}").input) == most - 2
    for one in (b"[]", b"{}"):
        with pytest.raises(InputError, match="more than 100,000 lists and objects"):
            decode(b'{"input": [' + (one + b",") * most + one + b"]}")


def test_brackets_in_a_text_are_no_lists() -> None:
    text = '["\\\\' * 120_000
    assert decode(msgspec.json.encode({"text": text})).text == text
