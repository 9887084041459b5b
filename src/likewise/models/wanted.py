"""Which of a repository's files a model needs: settings, tokenizer, weights in one form."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_SAYS_HOW = re.compile(
    r"(modules|config|config_sentence_transformers|sentence_\w+_config|router_config|tokenizer"
    r"|tokenizer_config|special_tokens_map|added_tokens|adapter_config|vocab)\.json"
    r"|vocab\.txt|merges\.txt|artifact\.metadata|chat_template\.jinja|README\.md"
)
_WEIGHTS = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
    r"|(adapter_model|sparse_linear|colbert_linear)\.safetensors"
)
# Graphs, where there are no weights: the first of these that a repository has, with its data.
_GRAPHS: tuple[tuple[str, ...], ...] = (
    ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx.data"),
    ("model.onnx", "model.onnx_data", "model.onnx.data"),
    ("openvino/openvino_model.xml", "openvino/openvino_model.bin"),
    ("openvino_model.xml", "openvino_model.bin"),
)


def needed_files(files: Iterable[str], module_folders: Iterable[str] = ()) -> list[str]:
    """Of all files in a repository, those that the model can't be run without or that say how.

    Without safetensors weights, those of the one graph that would be run instead.
    """
    folders = {folder.strip("/") for folder in module_folders} | {""}
    there = sorted(files)
    chosen = [file for file in there if _base_in(file, folders, _SAYS_HOW)]
    weights = [file for file in there if _base_in(file, folders, _WEIGHTS)]
    return sorted(chosen + (weights or _graph(there)))


def _base_in(file: str, folders: Collection[str], pattern: re.Pattern[str]) -> bool:
    folder, _, base = file.rpartition("/")
    return folder in folders and pattern.fullmatch(base) is not None


def _graph(files: Collection[str]) -> list[str]:
    for graph in _GRAPHS:
        if graph[0] in files:
            return [file for file in graph if file in files]
    return []
