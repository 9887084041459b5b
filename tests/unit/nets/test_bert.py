"""A BERT's configuration: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.bert import Bert
from tests.conformance.tiny import SMALL


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"hidden_act": "mish"}, ModelUnsupported, "hidden_act 'mish'.*known: gelu"),
        ({"position_embedding_type": "relative_key"}, ModelUnsupported, "'relative_key'"),
        ({"is_decoder": True}, ModelUnsupported, "is_decoder"),
        ({"hidden_size": None}, ModelCorrupt, "hidden_size must be a positive whole number"),
        ({"num_hidden_layers": 0}, ModelCorrupt, "num_hidden_layers"),
        ({"num_hidden_layers": 10**12}, ModelCorrupt, "more than any model has"),
        ({"vocab_size": "64"}, ModelCorrupt, "vocab_size"),
        ({"num_attention_heads": 5}, ModelCorrupt, "32 isn't a multiple of num_attention_heads 5"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Bert.read({**SMALL, **changes}, where="here")


def test_the_shapes_are_all_there() -> None:
    net = Bert.read(SMALL, where="here")
    shapes = net.shapes()
    assert len(shapes) == 5 + 16 * net.layers
    assert shapes["encoder.layer.1.output.dense.weight"] == (32, 48)
