"""Vectors in fewer bits, each number by hand."""

import numpy as np

from likewise.vectors.quantize import binary, int8, ubinary, uint8

ROWS = np.array(
    [[0.0, 1.0, -1.0, 0.5, -0.5, 0.001, -0.001, 0.9], [1.1, -1.1, 0, 0, 0, 0, 0, 1e-9]], np.float32
)


def test_bytes() -> None:
    found = int8(ROWS)
    assert found.dtype == np.int8
    assert found.tolist() == [[0, 127, -127, 64, -64, 0, 0, 114], [127, -127, 0, 0, 0, 0, 0, 0]]
    lifted = uint8(ROWS)
    assert lifted.dtype == np.uint8
    assert lifted.tolist() == (found.astype(int) + 128).tolist()


def test_bits() -> None:
    found = ubinary(ROWS)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0b01010101], [0b10000001]]
    signed = binary(ROWS)
    assert signed.dtype == np.int8
    assert signed.tolist() == [[0b01010101 - 128], [0b10000001 - 128]]
    assert ubinary(ROWS[:, :3]).tolist() == [[0b01000000], [0b10000000]]
