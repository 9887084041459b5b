"""Layers on top of a network: classification and masked-language-model heads, by architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from likewise.base.errors import ModelUnsupported
from likewise.nets.config import ACTIVATIONS
from likewise.nets.ops import Activation, Ops, PoolingMode, Tensor

DECODERS = ("gemma", "gemma3_text", "llama", "mistral", "qwen2", "qwen3")
"""Architectures whose tokens look only at those before them: the last one knows all."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that config.json may say: its key, and what counts when it doesn't."""

    key: str
    default: str


@dataclass(frozen=True, slots=True)
class Facts:
    """How an architecture's head is built, and what its weights are called."""

    dense: str | None
    """The first layer; None: there is only the last."""
    activation: Activation | Choice
    last: tuple[str, ...]
    """Names that the last layer's weight may have; the last of them may be the word embeddings."""
    bias: tuple[str, ...] = ()
    """Names that the last layer's bias may have, as with its weight; none: it has none."""
    norm: str | None = None
    epsilon: float | Choice = 1e-12
    pool: PoolingMode | Choice | None = None
    """The row that stands for a text; None: every token goes through."""
    dense_bias: bool = True


_LATE = "late"
_POOLINGS: Mapping[str | None, str] = {"bos": "cls", _LATE: "mean"}
"""Names that config.json has for a head's pooling where they aren't those of `PoolingMode`."""
_WORDS = "embeddings.word_embeddings.weight"
_CLS = "cls.predictions"
_OUT = ("classifier.out_proj.weight",)
_OUT_BIAS = ("classifier.out_proj.bias",)
_PLAIN = ("classifier.weight",)
_PLAIN_BIAS = ("classifier.bias",)

_BERT = Facts("pooler.dense", "tanh", _PLAIN, _PLAIN_BIAS, pool="cls")
_ROBERTA = Facts("classifier.dense", "tanh", _OUT, _OUT_BIAS, pool="cls")
_LAST_TOKEN = Facts(None, "identity", ("score.weight",), pool="lasttoken")

CLASSIFIERS: Mapping[str, Facts] = {
    "bert": _BERT,
    "new": _BERT,
    "gte": _BERT,
    "jina_bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": _ROBERTA,
    "electra": Facts("classifier.dense", "gelu", _OUT, _OUT_BIAS, pool="cls"),
    "distilbert": Facts("pre_classifier", "relu", _PLAIN, _PLAIN_BIAS, pool="cls"),
    "deberta-v2": Facts(
        "pooler.dense", Choice("pooler_hidden_act", "gelu"), _PLAIN, _PLAIN_BIAS, pool="cls"
    ),
    "modernbert": Facts(
        "head.dense",
        Choice("classifier_activation", "gelu"),
        _PLAIN,
        _PLAIN_BIAS,
        norm="head.norm",
        epsilon=Choice("norm_eps", "1e-5"),
        pool=Choice("classifier_pooling", "cls"),
    ),
    "eurobert": Facts(
        "dense", "gelu", _PLAIN, _PLAIN_BIAS, pool=Choice("classifier_pooling", "late")
    ),
    **dict.fromkeys(DECODERS, _LAST_TOKEN),
}
"""`*ForSequenceClassification` of transformers, by `model_type`."""

_LM_HEAD = Facts(
    "lm_head.dense",
    "gelu",
    ("lm_head.decoder.weight", _WORDS),
    ("lm_head.decoder.bias", "lm_head.bias"),
    norm="lm_head.layer_norm",
    epsilon=Choice("layer_norm_eps", "1e-12"),
)

MASKED: Mapping[str, Facts] = {
    "bert": Facts(
        f"{_CLS}.transform.dense",
        Choice("hidden_act", "gelu"),
        (f"{_CLS}.decoder.weight", _WORDS),
        (f"{_CLS}.decoder.bias", f"{_CLS}.bias"),
        norm=f"{_CLS}.transform.LayerNorm",
        epsilon=Choice("layer_norm_eps", "1e-12"),
    ),
    "roberta": _LM_HEAD,
    "xlm-roberta": _LM_HEAD,
    "camembert": _LM_HEAD,
    "mpnet": _LM_HEAD,
    # transformers writes it as the model's first code did.
    "gte": replace(_LM_HEAD, norm="lm_head.norm"),
    "new": Facts(
        "lm_head.dense",
        Choice("hidden_act", "gelu"),
        ("lm_head.decoder.weight", _WORDS),
        ("lm_head.decoder.bias",),
        norm="lm_head.norm",
        epsilon=Choice("layer_norm_eps", "1e-12"),
    ),
    "distilbert": Facts(
        "vocab_transform",
        Choice("activation", "gelu"),
        ("vocab_projector.weight", _WORDS),
        ("vocab_projector.bias",),
        norm="vocab_layer_norm",
    ),
    "modernbert": Facts(
        "head.dense",
        Choice("classifier_activation", "gelu"),
        ("decoder.weight", "embeddings.tok_embeddings.weight"),
        ("decoder.bias",),
        norm="head.norm",
        epsilon=Choice("norm_eps", "1e-5"),
    ),
}
"""`*ForMaskedLM` of transformers, by `model_type`."""

ANSWERS: Mapping[str, Facts] = dict.fromkeys(
    DECODERS,
    Facts(None, "identity", ("lm_head.weight", "embed_tokens.weight"), pool="lasttoken"),
)
"""`*ForCausalLM` of transformers, by `model_type`."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A head as one model has it.

    Its weights are called `NAME/dense.weight`, `NAME/last.weight` and so on, wherever the files
    keep them; see `names`.
    """

    facts: Facts
    activation: Activation
    epsilon: float
    pool: PoolingMode | None
    is_late: bool
    """Whether the first layers see every token, and only what they give is pooled."""
    is_tied: bool | None
    """Whether the last layer is the word embeddings; None: config.json doesn't say."""

    @classmethod
    def read(
        cls, table: Mapping[str, Facts], architecture: str, config: Mapping[str, Any], *, where: str
    ) -> Stack:
        """The head that `table` has for `architecture`.

        Raises:
            ModelUnsupported: it has none, or the head asks for what isn't computed here.
        """
        if architecture not in table:
            raise ModelUnsupported(
                f"{where}: the head of a {architecture!r} isn't computed here; known: "
                f"{', '.join(sorted(table))}"
            )
        facts = table[architecture]
        written = None if facts.pool is None else _chosen(facts.pool, config)
        pool: Any = _POOLINGS.get(written, written)
        activation = _chosen(facts.activation, config)
        if activation not in ACTIVATIONS and activation not in get_args(Activation):
            raise ModelUnsupported(
                f"{where}: activation {activation!r} in the head isn't computed here; known: "
                f"{', '.join(sorted(ACTIVATIONS))}"
            )
        if pool is not None and pool not in get_args(PoolingMode):
            raise ModelUnsupported(f"{where}: pooling {written!r} in the head isn't computed here")
        return cls(
            facts,
            ACTIVATIONS.get(activation, activation),
            float(_chosen(facts.epsilon, config)),
            pool,
            written == _LATE,
            config.get("tie_word_embeddings"),
        )

    def names(self, has: Callable[[str], bool]) -> dict[str, str]:
        """What each weight of the head is called in files of which `has` says what they hold."""
        facts = self.facts
        found = {"last.weight": _first(facts.last, has, prefer_last=self.is_tied is True)}
        if facts.bias and any(has(name) for name in facts.bias):
            # Where the weight is tied, so is the bias, and only its other name is sure to be right.
            tied = self.is_tied is not False
            found["last.bias"] = _first(facts.bias, has, prefer_last=tied)
        if facts.dense is not None:
            found["dense.weight"] = f"{facts.dense}.weight"
            if has(f"{facts.dense}.bias"):
                found["dense.bias"] = f"{facts.dense}.bias"
        if facts.norm is not None:
            found["norm.weight"] = f"{facts.norm}.weight"
            if has(f"{facts.norm}.bias"):
                found["norm.bias"] = f"{facts.norm}.bias"
        return found

    def shapes(self, width: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """The shape of each weight there may be, for a network of `width`."""
        return {
            "dense.weight": (width, width),
            "dense.bias": (width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
            "last.weight": (outputs, width),
            "last.bias": (outputs,),
        }

    def hidden(self, ops: Ops[Tensor], x: Tensor, name: str) -> Tensor:
        """All but the last layer: [texts, width], or [tokens, width] where nothing is pooled."""
        if self.pool is not None and not self.is_late:
            x = ops.pool(x, self.pool)
        if self.facts.dense is not None:
            x = ops.activate(ops.linear(x, [f"{name}/dense"]), self.activation)
        if self.facts.norm is not None:
            x = ops.layer_norm(x, f"{name}/norm", epsilon=self.epsilon)
        # The last layer is linear: it may as well follow the mean that EuroBERT takes after it.
        return ops.pool(x, self.pool) if self.pool is not None and self.is_late else x

    def forward(self, ops: Ops[Tensor], x: Tensor, name: str) -> Tensor:
        """What the head gives for hidden states `x` [tokens, width], before any activation."""
        return ops.linear(self.hidden(ops, x, name), [f"{name}/last"])


def answer(ops: Ops[Tensor], rows: Tensor, name: str, tokens: tuple[int, ...]) -> Tensor:
    """The logit of the first of `tokens` less that of the second, if there is one: [texts, 1]."""
    logits = ops.project(rows, f"{name}/last.weight", tokens)
    if len(tokens) == 1:
        return logits
    true, false = ops.split(logits, (1, 1))
    return ops.add(true, ops.scale(false, -1.0))


def sparse(
    ops: Ops[Tensor],
    logits: Tensor,
    pooling: Literal["max", "sum"],
    activation: Literal["relu", "log1p_relu"],
) -> Tensor:
    """SPLADE's weights, [texts, vocabulary], of logits [tokens, vocabulary].

    log(1 + relu x), once more log(1 + x) for `log1p_relu`, pooled over the text's tokens
    (https://arxiv.org/abs/2109.10086, eq. 1 and section 3.1).
    """
    if pooling == "max":
        # What follows grows with its argument, so that the largest may be taken first: less work.
        logits = ops.pool(logits, "max")
    x = ops.log1p(ops.activate(logits, "relu"))
    if activation == "log1p_relu":
        x = ops.log1p(x)
    return x if pooling == "max" else ops.pool(x, "sum")


def _chosen(fact: Any, config: Mapping[str, Any]) -> Any:
    return config.get(fact.key, fact.default) if isinstance(fact, Choice) else fact


def _first(names: tuple[str, ...], has: Callable[[str], bool], *, prefer_last: bool = False) -> str:
    order = names[::-1] if prefer_last else names
    return next((name for name in order if has(name)), names[0])
