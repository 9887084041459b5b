"""Code that comes with a model isn't run: it is known by where it comes from, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelUnsupported
from likewise.engines.graph import prepare
from likewise.models.card import read_card
from likewise.models.remote import computed_as
from tests.conformance.tiny import SMALL, write_bert, write_json

JINA = "jinaai/jina-bert-implementation"
KNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "jina": (
        {
            "AutoConfig": f"{JINA}--configuration_bert.JinaBertConfig",
            "AutoModel": f"{JINA}--modeling_bert.JinaBertModel",
            "AutoModelForMaskedLM": f"{JINA}--modeling_bert.JinaBertForMaskedLM",
        },
        "jina_bert",
    ),
    "jina, normalised": (
        {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"},
        "jina_bert_normed",
    ),
    "nomic": (
        {
            "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
            "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
        },
        "nomic_bert",
    ),
    "a copy of nomic's": ({"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"}, "nomic_bert"),
    "gte": ({"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"}, "new"),
    "gte, to score": (
        {
            "AutoConfig": "configuration.NewConfig",
            "AutoModelForSequenceClassification": "modeling.NewForSequenceClassification",
        },
        "new",
    ),
    "snowflake": ({"AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel"}, "new"),
}


@pytest.mark.parametrize(("asked", "architecture"), KNOWN.values(), ids=list(KNOWN))
def test_known_code(tmp_path: Path, asked: dict[str, Any], architecture: str) -> None:
    assert computed_as(tmp_path, {"auto_map": asked}) == architecture
    assert computed_as(tmp_path, {}) is None


UNKNOWN: dict[str, dict[str, Any]] = {
    "from elsewhere": {"AutoModel": "me/jina-bert-implementation--modeling_bert.JinaBertModel"},
    "which of two, a copy doesn't say": {"AutoModel": "modeling_bert.JinaBertModel"},
    "another class": {"AutoModel": "modeling.NewModelV2"},
    "another file": {"AutoModel": f"{JINA}--modeling_lora.JinaBertModel"},
    "bidirectional Qwen2": {"AutoModel": "modeling_qwen.Qwen2Model"},
    "of two kinds": {
        "AutoConfig": "configuration.NewConfig",
        "AutoModel": "modeling_hf_nomic_bert.NomicBertModel",
    },
    "half known": {
        "AutoConfig": "configuration.NewConfig",
        "AutoModel": "modeling.Other",
    },
}


@pytest.mark.parametrize("asked", UNKNOWN.values(), ids=list(UNKNOWN))
def test_unknown_code_is_refused_by_name(tmp_path: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(ModelUnsupported, match=r"config\.json: Auto.*|never runs") as caught:
        computed_as(tmp_path, {"auto_map": asked})
    assert asked["AutoModel"] in str(caught.value) and "never runs" in str(caught.value)


def test_code_of_the_tokenizer_counts_too(tmp_path: Path) -> None:
    write_json(
        tmp_path / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.Mine", None]}}
    )
    with pytest.raises(ModelUnsupported, match=r"tokenizer_config\.json: AutoTokenizer -> t\.Mine"):
        computed_as(tmp_path, {"auto_map": {"AutoModel": "modeling.NewModel"}})


def test_weights_that_the_known_class_does_not_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file, save_file

    # A folder that says its code is known, and whose architecture is one with tiny weights.
    monkeypatch.setattr("likewise.models.card.computed_as", lambda folder, config: "bert")
    folder = write_bert(tmp_path / "model", auto_map={"AutoModel": "x.Y"})
    write_json(folder / "config.json", {**SMALL, "auto_map": {"AutoModel": "x.Y"}})
    prepare(read_card(folder))
    weights = load_file(folder / "model.safetensors")
    weights["pooler.dense.weight"] = np.ones((2, 2), np.float32)
    save_file(weights, folder / "model.safetensors")
    prepare(read_card(folder))
    weights["encoder.layer.0.attention.self.layer_norm_q.weight"] = np.ones(2, np.float32)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelUnsupported, match=r"doesn't read: encoder\.layer\.0.*layer_norm_q"):
        prepare(read_card(folder))
