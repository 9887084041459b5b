"""Models that bring code of their own: it is never run; some of it is known and written here.

Transformers lets a folder name classes in files that come with it (`auto_map`). The table has the
classes whose arithmetic is one of our architectures, by where they come from: two repositories may
call different arithmetic by one name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.base.errors import ModelUnsupported
from likewise.models.parts import read_json, table

_FILES = ("config.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class _Known:
    """Classes that come with some models, and what they compute."""

    repository: str
    modules: tuple[str, ...]
    """Names of the files of code, without `.py`."""
    prefix: str
    """How the classes' names begin."""
    architecture: str
    local: bool = True
    """Whether a copy inside the folder means the same: its names occur nowhere else."""


# jinaai/jina-bert-v2-qk-post-norm has a JinaBertModel too, with other arithmetic, and so has the
# flash implementation: a copy in a folder could be of any of them.
_TABLE = (
    _Known(
        "jinaai/jina-bert-implementation",
        ("modeling_bert", "configuration_bert"),
        "JinaBert",
        "jina_bert",
        local=False,
    ),
    _Known(
        "jinaai/jina-bert-v2-qk-post-norm",
        ("modeling_bert", "configuration_bert"),
        "JinaBert",
        "jina_bert_normed",
        local=False,
    ),
    _Known(
        "nomic-ai/nomic-bert-2048",
        ("modeling_hf_nomic_bert", "configuration_hf_nomic_bert"),
        "NomicBert",
        "nomic_bert",
    ),
    _Known("Alibaba-NLP/new-impl", ("modeling", "configuration"), "New", "new"),
    _Known(
        "Snowflake/snowflake-arctic-embed-m-v2.0",
        ("modeling_hf_alibaba_nlp_gte", "configuration_hf_alibaba_nlp_gte"),
        "Gte",
        "new",
    ),
)
_ENDINGS = (
    "Config",
    "Model",
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)


def computed_as(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Which of our architectures the code that `folder` brings computes; None if it brings none.

    Raises:
        ModelUnsupported: it brings code that isn't known here; the files that ask for it and the
            classes are named.
    """
    asked: list[tuple[str, str, str]] = []
    for file in _FILES:
        source = config if file == "config.json" else read_json(folder / file, missing={})
        for kind, wanted in table(source, "auto_map", folder / file).items():
            each = wanted if isinstance(wanted, list | tuple) else [wanted]
            asked += [(file, str(kind), str(name)) for name in each if name]
    if not asked:
        return None
    found = {_architecture(name) for _, _, name in asked}
    if len(found) == 1 and None not in found:
        return found.pop()
    wants = "; ".join(
        f"{file}: {kind} -> {name}" for file, kind, name in asked if _architecture(name) is None
    )
    raise ModelUnsupported(
        f"{folder} asks to run code that comes with the model (auto_map in "
        f"{wants or ', '.join(name for _, _, name in asked)}); Likewise never runs a model's code, "
        f"and of such models computes itself only those of "
        f"{', '.join(known.repository for known in _TABLE)}. Take a version of the model that is "
        "saved with classes of transformers itself"
    )


def _architecture(name: str) -> str | None:
    """What the class `REPOSITORY--module.Class`, or `module.Class` of the folder, computes."""
    repository, _, path = name.rpartition("--")
    module, _, kind = path.partition(".")
    for known in _TABLE:
        comes_from = known.local if not repository else repository == known.repository
        is_named = any(kind == known.prefix + ending for ending in _ENDINGS)
        if comes_from and module in known.modules and is_named:
            return known.architecture
    return None
