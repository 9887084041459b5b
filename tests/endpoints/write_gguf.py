"""Program: write a BERT folder of sentence-transformers as the GGUF file that llama.cpp reads.

Called with the folder and the file to write. Runs where the servers are installed.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

UNUSED = ("embeddings.position_ids", "pooler.")
"""Tensors that have no part in a vector."""
WORD_START = "\u2581"
"""How llama.cpp marks what begins a word; BERT marks what doesn't, by `##`."""


def tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """What is in a safetensors file of float32, by name."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    head: Mapping[str, Any] = json.loads(raw[8 : 8 + length])
    for name, about in head.items():
        if name == "__metadata__" or name.startswith(UNUSED):
            continue
        assert about["dtype"] == "F32", (name, about["dtype"])
        start, end = about["data_offsets"]
        data = raw[8 + length + start : 8 + length + end]
        yield name, np.frombuffer(data, "<f4").reshape(about["shape"])


def piece(token: str) -> str:
    """A token of BERT as llama.cpp has it."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else WORD_START + token


def write(folder: Path, file: Path) -> None:
    """All of it in float32, so that no digit is lost."""
    config = json.loads((folder / "config.json").read_text())
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert len(words) == config["vocab_size"]
    made = gguf.GGUFWriter(file, "bert")
    made.add_name(folder.name)
    made.add_block_count(config["num_hidden_layers"])
    made.add_context_length(config["max_position_embeddings"])
    made.add_embedding_length(config["hidden_size"])
    made.add_feed_forward_length(config["intermediate_size"])
    made.add_head_count(config["num_attention_heads"])
    made.add_layer_norm_eps(config["layer_norm_eps"])
    made.add_causal_attention(False)
    made.add_pooling_type(gguf.PoolingType.MEAN)
    made.add_file_type(gguf.LlamaFileType.ALL_F32)
    made.add_tokenizer_model("bert")
    made.add_token_type_count(config["type_vocab_size"])
    made.add_token_list([piece(word) for word in words])
    special = {word: at for at, word in enumerate(words) if piece(word) == word}
    made.add_token_types(
        [
            gguf.TokenType.CONTROL if at in special.values() else gguf.TokenType.NORMAL
            for at in range(len(words))
        ]
    )
    made.add_unk_token_id(special["[UNK]"])
    made.add_sep_token_id(special["[SEP]"])
    made.add_pad_token_id(special["[PAD]"])
    made.add_mask_token_id(special["[MASK]"])
    made.add_bos_token_id(special["[CLS]"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, values in tensors(folder / "model.safetensors"):
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert known is not None, name
        made.add_tensor(known, np.ascontiguousarray(values, np.float32))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
