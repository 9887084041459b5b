"""Words of other APIs in a request for embeddings, said in the ones that are followed here."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from likewise.base.errors import InputError
from likewise.server.dialects.openai_request import EmbeddingsRequest

_SIDES = {"START": "left", "END": "right"}


def understood(asked: EmbeddingsRequest) -> EmbeddingsRequest:
    """`asked` without NVIDIA's `truncate: "NONE"`, `"START"`, `"END"` and Jina's older names.

    Raises:
        InputError: two fields contradict each other, or something else than text is sent.
    """
    changes: dict[str, Any] = {}
    if isinstance(asked.truncate, str):
        changes["truncate"] = asked.truncate != "NONE"
        side = _SIDES.get(asked.truncate)
        if side is not None and asked.truncation_side not in (None, side):
            raise InputError(
                f"truncate is {asked.truncate!r} and truncation_side {asked.truncation_side!r}; "
                "send one of them",
                param="truncation_side",
            )
        if side is not None:
            changes["truncation_side"] = side
    if asked.encoding_type is not None:
        if asked.embedding_type not in (None, asked.encoding_type):
            raise InputError(
                "embedding_type and encoding_type mean the same and say different things; send "
                "one of them",
                param="encoding_type",
            )
        changes |= {"embedding_type": asked.encoding_type, "encoding_type": None}
    if isinstance(asked.modality, list):
        other = [one for one in asked.modality if one != "text"]
        changes["modality"] = other[0] if other else "text"
    return replace(asked, **changes) if changes else asked
