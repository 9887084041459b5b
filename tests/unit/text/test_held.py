"""Which ends an edited text may keep; texts are written with a bar where a passage ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.text.held import Span, held_ends


def held(before: list[str], after: str, *, overlap: int = 0) -> list[str]:
    """`after`, cut at the ends held of a text of the passages `before`."""
    spans: list[Span] = []
    reach = 0
    for part in before:
        spans.append((max(reach - overlap, 0), reach + len(part)))
        reach += len(part)
    text = "".join(before)
    there = {text[start:end] for start, end in spans}
    found = held_ends(
        after,
        spans,
        grown=len(after) - len(text),
        is_same=lambda span: 0 <= span[0] and after[slice(*span)] in there,
    )
    assert found == sorted(found)
    ends = sorted({0, len(after), *found})
    return [after[low:high] for low, high in zip(ends, ends[1:], strict=False)]


BEFORE = ["Aaaa aaaa. ", "Bbbb bbbb. ", "Cccc cccc. ", "Dddd dddd. "]


@pytest.mark.parametrize(
    "after",
    [
        "Aaaa aaaa. |Bbbb x bbbb. |Cccc cccc. |Dddd dddd. ",
        "Aaaa aaaa. |Bbbb. |Cccc cccc. |Dddd dddd. ",
        "x Aaaa aaaa. |Bbbb bbbb. |Cccc cccc. |Dddd dddd. ",
        "Aaaa aaaa. |Bbbb bbbb. |Cccc cccc. |Dddd xxxx. ",
        # A passage that is gone, one that is new, and a word between two or at the end.
        "Aaaa aaaa. |Bbbb bbbb. |Dddd dddd. ",
        "Aaaa aaaa. |Bbbb bbbb. |Xxxx xxxx. |Cccc cccc. |Dddd dddd. ",
        "Aaaa aaaa. |Bbbb bbbb. x |Cccc cccc. |Dddd dddd. ",
        "Aaaa aaaa. |Bbbb bbbb. |Cccc cccc. |Dddd dddd. x",
        # Two edits: what is between them is cut anew.
        "Aaaa aaaa. |Bbbb xxxx. Cccc xxxx. |Dddd dddd. ",
        "Xaaa aaaa. Bbbb bbbb. Cccc cccc. Dddd xxxx. ",
        "Aaaa aaaa. |Bbbb bbbb. |Cccc cccc. |Dddd dddd. ",
    ],
)
def test_what_reads_as_before_keeps_its_ends(after: str) -> None:
    assert held(BEFORE, after.replace("|", "")) == after.split("|")


def test_an_edit_in_what_two_passages_share() -> None:
    after = "Aaaa aaaa. |Bbbb bbxbb. |Cccc cccc. |Dddd dddd. "
    assert held(BEFORE, after.replace("|", ""), overlap=5) == after.split("|")


@given(st.lists(st.text("ab ", min_size=1, max_size=9), min_size=1, max_size=9), st.data())
def test_ends_are_in_order_whatever_was_edited(before: list[str], data: st.DataObject) -> None:
    """Also of texts that repeat themselves."""
    text = "".join(before)
    at = data.draw(st.integers(0, len(text)))
    to = data.draw(st.integers(at, len(text)))
    after = text[:at] + data.draw(st.text("ab ", max_size=9)) + text[to:]
    overlap = data.draw(st.integers(0, 4))
    assert "".join(held(before, after, overlap=overlap)) == after
