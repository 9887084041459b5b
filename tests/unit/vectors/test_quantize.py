"""Vectors in fewer bytes: the same as numpy says by another way, and what is lost is bounded."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from likewise.base.errors import InputError
from likewise.vectors.norm import normalise
from likewise.vectors.quantize import QUANTISERS, as_bytes, binary, int8, ubinary, uint8

NUMBERS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    elements=st.floats(-2, 2, width=32),
)


@given(NUMBERS)
def test_integers_say_each_number_to_a_127th(vectors: np.ndarray) -> None:
    units = normalise(vectors)
    got = int8(units)
    assert got.dtype == np.int8
    assert got.shape == units.shape
    assert got.min() >= -127
    np.testing.assert_allclose(got.astype(np.float64) / 127, units, atol=0.5 / 127 + 1e-6)
    for row, numbers in zip(got, units, strict=True):
        for given_, number in zip(row.tolist(), numbers.tolist(), strict=True):
            assert given_ == max(-127, min(127, round(float(np.float32(number) * np.float32(127)))))
    unsigned = uint8(units)
    assert unsigned.dtype == np.uint8
    np.testing.assert_array_equal(unsigned.astype(int) - 128, got)


@given(NUMBERS)
def test_bits_say_which_numbers_are_above_zero(vectors: np.ndarray) -> None:
    got = ubinary(vectors)
    assert got.dtype == np.uint8
    assert got.shape == (len(vectors), -(-vectors.shape[1] // 8))
    for row, numbers in zip(got, vectors, strict=True):
        bits = "".join("1" if number > 0 else "0" for number in numbers)
        bits += "0" * (-len(bits) % 8)
        want = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
        assert row.tolist() == want
    signed = binary(vectors)
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int) + 128, got)


def test_what_is_beyond_one_is_clipped() -> None:
    vectors = np.array([[1.5, -1.5, 1, 0]], np.float32)
    assert int8(vectors).tolist() == [[127, -127, 127, 0]]
    assert uint8(vectors).tolist() == [[255, 1, 255, 128]]


def test_every_kind_has_a_name() -> None:
    assert set(QUANTISERS) == {"int8", "uint8", "binary", "ubinary"}


@given(NUMBERS)
def test_bytes_are_the_numbers_in_either_order(vectors: np.ndarray) -> None:
    for order, mark in (("little", "<"), ("big", ">")):
        for dtype, letter in (("float32", "f"), ("float16", "e")):
            block = as_bytes(vectors, dtype, order)  # type: ignore[arg-type]
            read = [struct.unpack(f"{mark}{vectors.shape[1]}{letter}", row) for row in block]
            want = vectors if dtype == "float32" else vectors.astype(np.float16)
            np.testing.assert_array_equal(np.array(read, want.dtype), want)


@given(NUMBERS)
def test_bfloat16_is_the_nearest_with_eight_bits(vectors: np.ndarray) -> None:
    block = as_bytes(vectors, "bfloat16")
    halves = block.view("<u2").astype(np.uint32) << 16
    np.testing.assert_allclose(halves.view(np.float32), vectors, rtol=2**-8, atol=1e-38)


def test_bfloat16_rounds_half_to_even() -> None:
    bits = np.array([[0x3F808000, 0x3F818000, 0x3F808001, 0xBF807FFF]], np.uint32)
    block = as_bytes(bits.view(np.float32), "bfloat16", "big")
    assert block.tobytes() == bytes.fromhex("3f80 3f82 3f81 bf80")


def test_what_float16_cant_hold_is_refused() -> None:
    with pytest.raises(InputError, match="too large for float16"):
        as_bytes(np.array([[1e5]], np.float32), "float16")
