"""The architectures there are: `model_type` of config.json to the class that describes it."""

from __future__ import annotations

from collections.abc import Mapping

_DECODER = "likewise.nets.decoder:Decoder"

NETS: Mapping[str, str] = {
    "bert": "likewise.nets.bert:Bert",
    "eurobert": _DECODER,
    "gemma": _DECODER,
    "gemma3_text": _DECODER,
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
}
