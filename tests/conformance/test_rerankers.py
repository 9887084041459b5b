"""Decoders that answer yes or no, on every packed engine, against sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.card import read_card
from likewise.models.heads import Scores
from tests.conformance.head_folders import (
    LONGEST,
    words,
    write_modules,
    write_tokenizer,
    write_transformer,
)
from tests.conformance.test_heads import Open, cross_encoder, opened
from tests.conformance.tiny import write_json

pytestmark = pytest.mark.torch

__all__ = ["opened"]

PAIRS = list(zip(words(1, 3, 5, 2, 30, 8, seed=1), words(2, 9, 1, 40, 60, 3, seed=2), strict=True))
TEMPLATE = (
    "w1 w2 {% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}w3{% endif %} "
    "w4 {{ messages[-2].content }} w5 {{ messages[-1].content }} w6 w7\n\n"
)
STRUCTURED = TEMPLATE.replace(".content", ".content[0].text")
YES, NO = 7, 8


def write_reranker(
    folder: Path,
    *,
    kind: str = "qwen3",
    answers: tuple[int, int | None] = (YES, NO),
    template: str | None = TEMPLATE,
    form: str = "flat",
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A tiny decoder reranker as sentence-transformers writes it."""
    sizes = {"num_key_value_heads": 2, "head_dim": 8}
    write_transformer(folder, kind, "CausalLM", **(sizes | changes))
    write_tokenizer(folder, ends=False, padding_side="left")
    write_modules(
        folder,
        ("sentence_transformers.base.modules.transformer.Transformer", "", None),
        (
            "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
            "1_LogitScore",
            {"true_token_id": answers[0], "false_token_id": answers[1]},
        ),
    )
    logits = {"method": "forward", "method_output_name": "logits"}
    modalities: dict[str, Any] = {"text": logits}
    if template is not None:
        modalities["message"] = {**logits, "format": form}
        (folder / "chat_template.jinja").write_text(template)
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "text-generation",
            "modality_config": modalities,
            "module_output_name": "causal_logits",
        },
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {"model_type": "CrossEncoder"} | (settings or {}),
    )
    return folder


VARIANTS: dict[str, dict[str, Any]] = {
    "yes less no": {},
    "yes alone, tied": {"answers": (YES, None), "tie_word_embeddings": True},
    "structured messages": {"template": STRUCTURED, "form": "structured"},
    "no template": {"template": None},
    "an instruction of its own": {
        "settings": {"prompts": {"web": "w50 w51"}, "default_prompt_name": "web"}
    },
    "its own activation": {
        "settings": {"activation_fn": "torch.nn.modules.linear.Identity"},
        "kind": "llama",
    },
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_answers_are_those_of_a_cross_encoder(
    opened: Open, tmp_path: Path, variant: dict[str, Any]
) -> None:
    folder = write_reranker(tmp_path, **variant)
    theirs = cross_encoder(folder)
    service = opened(folder)
    found = service.submit_pairs(PAIRS).result()
    expected = theirs.predict(PAIRS)
    assert np.ptp(expected) > 0.01, "the oracle must tell pairs apart"
    assert np.abs(found.scores[:, 0] - expected).max() < 2e-4
    assert 4 in found.truncated and max(found.tokens) == LONGEST
    if variant.get("template", TEMPLATE) is not None:
        asked = service.score(PAIRS[0][0], [PAIRS[0][1]], prompt="w60 w61")
        expected = theirs.predict(PAIRS[:1], prompt="w60 w61")
        assert np.abs(asked - expected).max() < 2e-4


def test_a_template_without_a_place_for_the_texts_is_refused(opened: Open, tmp_path: Path) -> None:
    folder = write_reranker(tmp_path, template="{% for m in messages %}{{ m.role }}{% endfor %}")
    with pytest.raises(ModelUnsupported, match="no place for a query and a document"):
        opened(folder)
    folder = write_reranker(tmp_path, template="{% for %}")
    with pytest.raises(ModelCorrupt, match="isn't a template"):
        opened(folder)


def test_answers_outside_the_vocabulary_are_refused(opened: Open, tmp_path: Path) -> None:
    folder = write_reranker(tmp_path, answers=(YES, 400))
    with pytest.raises(ModelCorrupt, match=r"token ids \[7, 400\].*vocabulary of 96"):
        opened(folder)


README = """---
license: apache-2.0
pipeline_tag: text-ranking
---
Judge whether the Document meets the requirements based on the Query and the Instruct provided.
"""


def test_a_known_layout_is_told_by_what_its_readme_says(opened: Open, tmp_path: Path) -> None:
    """Without modules.json the template is the documented one, whatever the folder is called."""
    folder = write_reranker(tmp_path / "any-name")
    (folder / "modules.json").unlink()
    (folder / "chat_template.jinja").unlink()
    (folder / "sentence_bert_config.json").unlink()
    assert read_card(folder).gives == ("vectors",), "nothing marks it as a reranker"
    (folder / "README.md").write_text(README)
    card = read_card(folder)
    (head,) = card.heads
    assert isinstance(head, Scores) and head.answers == (YES, NO) and head.template is not None
    assert head.template.write("Q", "D") == (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that "
        "answer the query\n<Query>: Q\n<Document>: D<|im_end|>\n<|im_start|>assistant\n<think>\n\n"
        "</think>\n\n"
    )
    assert "<Instruct>: I\n<Query>: Q\n" in head.template.write("Q", "D", "I")
    scores = opened(folder).score("w1", ["w2", "w3 w4"])
    assert scores.shape == (2,) and ((scores > 0) & (scores < 1)).all()
    write_json(folder / "config.json", {**card.config, "architectures": ["LlamaForCausalLM"]})
    assert read_card(folder).gives == ("vectors",)
