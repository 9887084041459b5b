"""Vectors in fewer bytes: the bits that sentence-transformers gives, and torch's bfloat16."""

from __future__ import annotations

import numpy as np
import pytest

from likewise.vectors.quantize import as_bytes, binary, ubinary

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("width", [8, 384, 30])
def test_bits_are_those_of_sentence_transformers(width: int) -> None:
    from sentence_transformers import quantize_embeddings

    vectors = np.random.default_rng(width).normal(size=(50, width)).astype(np.float32)
    vectors[0, 0] = 0
    np.testing.assert_array_equal(ubinary(vectors), quantize_embeddings(vectors, "ubinary"))
    np.testing.assert_array_equal(binary(vectors), quantize_embeddings(vectors, "binary"))


def test_bfloat16_is_torchs() -> None:
    import torch

    vectors = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    theirs = torch.from_numpy(vectors).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(as_bytes(vectors, "bfloat16").view("<i2"), theirs)
