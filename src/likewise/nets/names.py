"""The architectures there are: `model_type` of config.json to the class that describes it."""

from __future__ import annotations

from collections.abc import Mapping

_DECODER = "likewise.nets.decoder:Decoder"
_GTE = "likewise.nets.gte:Gte"
_ROBERTA = "likewise.nets.bert:Roberta"

NETS: Mapping[str, str] = {
    "bert": "likewise.nets.bert:Bert",
    "camembert": _ROBERTA,
    "deberta-v2": "likewise.nets.deberta:Deberta",
    "distilbert": "likewise.nets.distilbert:DistilBert",
    "electra": "likewise.nets.bert:Electra",
    "eurobert": _DECODER,
    "gemma": _DECODER,
    "gemma3_text": _DECODER,
    "gte": _GTE,
    "jina_bert": "likewise.nets.jina:JinaBert",
    "jina_bert_normed": "likewise.nets.jina:JinaBertNormed",
    "llama": _DECODER,
    "mistral": _DECODER,
    "modernbert": "likewise.nets.modernbert:ModernBert",
    "mpnet": "likewise.nets.mpnet:MpNet",
    "new": _GTE,
    "nomic_bert": "likewise.nets.nomic:NomicBert",
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
