"""Spaces: what counts as the same, and that nothing foreign is let in."""

import dataclasses
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import SpaceMismatch
from likewise.base.escapes import plain
from likewise.base.space import Space

SPACE = Space("some/model", "ab" * 32, "mean", 384, True)
OTHER: dict[str, object] = {
    "weights": "cd" * 32,
    "pooling": "cls",
    "dimensions": 256,
    "normalised": False,
    "prompt": "passage: ",
    "query_prompt": "query: ",
    "max_tokens": 128,
    "dtype": "float16",
    "chunker": "tokens:128/16",
}


def test_every_field_but_the_label_decides_the_fingerprint() -> None:
    names = {field.name for field in dataclasses.fields(Space)}
    assert set(OTHER) == names - {"model"}
    prints = {dataclasses.replace(SPACE, **{n: v}).fingerprint for n, v in OTHER.items()}  # type: ignore[arg-type]
    assert len(prints | {SPACE.fingerprint}) == len(OTHER) + 1
    assert dataclasses.replace(SPACE, model="folder/copy").fingerprint == SPACE.fingerprint


def test_the_fingerprint_is_pinned() -> None:
    # Databases hold this value: a change here makes every existing binding foreign.
    assert SPACE.fingerprint == "3138318a350eba334d6a926a2a6fdeac"


@given(
    st.builds(
        Space,
        st.text(),
        st.text(),
        st.text(),
        st.integers(1, 9999),
        st.booleans(),
        st.text(),
    )
)
def test_json_round_trip(space: Space) -> None:
    assert Space.from_json(space.to_json()) == space


def test_a_foreign_space_is_refused_with_what_differs() -> None:
    foreign = dataclasses.replace(SPACE, model="other/model", pooling="cls")
    with pytest.raises(
        SpaceMismatch, match=r"demo\.db holds vectors of some/model.*pooling: 'mean'"
    ):
        SPACE.require(foreign, where="demo.db")
    SPACE.require(dataclasses.replace(SPACE, model="renamed"), where="demo.db")


def test_another_prompt_may_be_kept_by_what_the_message_says() -> None:
    there = dataclasses.replace(SPACE, prompt="pass\\age:\n", query_prompt="q")
    with pytest.raises(SpaceMismatch, match="likewise bind swap docs --model MODEL") as refused:
        there.require(dataclasses.replace(there, prompt=""), where="binding docs")
    said = str(refused.value).partition("likewise.toml:\n")[2].partition("\nOr embed")[0]
    (prompts,) = tomllib.loads(said)["models"]["some/model"].values()
    assert {name: plain(text) for name, text in prompts.items()} == {"document": there.prompt}
    with pytest.raises(SpaceMismatch) as other:
        there.require(dataclasses.replace(there, pooling="cls"), where="binding docs")
    assert "Keep the vectors" not in str(other.value)
