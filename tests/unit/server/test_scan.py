"""Bodies are looked at in blocks, and found to hold what the whole holds."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.server import scan

VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.text(st.sampled_from('ab\\",[]{}: é\u7684\n'), max_size=12),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=30,
)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


@settings(deadline=None, max_examples=120)
@given(value=VALUES, block=st.integers(1, 40), ascii_only=st.booleans())
def test_what_stands_outside_of_strings_is_counted(
    value: object, block: int, ascii_only: bool
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    bare = _STRING.sub(b"", body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK", block)
        for characters in (b",", b"[{"):
            expected = sum(bare.count(one) for one in characters)
            assert scan.count(body, characters, -1 + expected) >= expected
            assert scan.count(body, characters, expected) <= expected
        assert scan.is_blank(body) == body.isspace()
        for few in (0, 10**9):
            patch.setattr(scan, "_FEW_QUOTES", few)
            for name in ("a", "ab"):
                if body.count(b'"%s"' % name.encode()) > 1:
                    assert scan.has_twice(body, ["b", name])
                elif body.count(b'"') < 4:
                    assert not scan.has_twice(body, [name])
        for raw in (b"a", b"ab", b""):
            assert scan.names_of(body, raw) == min(2, body.count(b'"%s"' % raw))


@settings(deadline=None, max_examples=120)
@given(body=st.binary(max_size=40) | st.text().map(str.encode), block=st.integers(1, 9))
def test_bytes_that_are_not_utf8_are_found(body: bytes, block: int) -> None:
    try:
        body.decode()
        expected = None
    except UnicodeDecodeError as wrong:
        expected = wrong.start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK", block)
        assert scan.invalid_utf8_at(body) == expected
