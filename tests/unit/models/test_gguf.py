"""What isn't read here is called by its name, with the commands that fetch the same models."""

import json
import struct
from pathlib import Path

import pytest

from likewise.base.errors import ModelNotFound, ModelUnsupported, SettingsError
from likewise.cli import catalogue, resolve
from likewise.models import gguf
from likewise.models.locate import locate
from likewise.runtime.making import Options
from likewise.runtime.registry import Registry
from likewise.runtime.watch import Watch
from tests.conformance.tiny import write_bert

NOWHERE = "http://127.0.0.1:9"


def write_gguf(path: Path, **texts: str) -> Path:
    """A GGUF file as far as its header, with `texts` in it behind a number."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    pairs = [text("general.quantization_version") + struct.pack("<II", 4, 2)]
    pairs += [
        text(key.replace("_", ".", 1)) + struct.pack("<I", 8) + text(value)
        for key, value in texts.items()
    ]
    pairs.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 0))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))
    return path


def write_store(root: Path, *names: str) -> Path:
    """Ollama's store with `names`, each `HOST/NAMESPACE/MODEL:TAG`."""
    (root / "blobs").mkdir(parents=True)
    for number, name in enumerate(names):
        digest = f"{number:064x}"
        write_gguf(root / "blobs" / f"sha256-{digest}", general_architecture="bert")
        manifest = root / "manifests" / name.replace(":", "/")
        manifest.parent.mkdir(parents=True, exist_ok=True)
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
        manifest.write_text(json.dumps({"layers": [{"mediaType": "x", "digest": "y"}, layer]}))
    return root


LIBRARY = "registry.ollama.ai/library"


def refused(path: Path | str, tmp_path: Path) -> str:
    with pytest.raises(ModelUnsupported) as said:
        locate(str(path), cache=tmp_path / "cache", endpoint=NOWHERE)
    return str(said.value)


@pytest.mark.parametrize("name", ["nomic.gguf", "weights.bin", "no-ending"])
def test_a_file_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / name, general_name="nomic-embed-text-v1.5")
    said = refused(file, tmp_path)
    assert f"{file} is a GGUF file" in said
    assert "likewise models pull nomic-ai/nomic-embed-text-v1.5" in said


def test_a_file_that_is_only_called_so_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"something else")
    with pytest.raises(ModelNotFound, match="isn't a folder"):
        locate(str(tmp_path / "x.gguf"), cache=tmp_path / "cache", endpoint=NOWHERE)


def test_a_relative_path_without_a_dot_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "bge-m3-q8_0.gguf")
    assert "likewise models pull BAAI/bge-m3" in refused("bge-m3-q8_0.gguf", tmp_path)


def test_a_folder_with_nothing_else_is_refused_by_its_files(tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "m" / "model.gguf",
        general_basename="all MiniLM",
        general_name="All MiniLM L6 v2",
    )
    said = refused(tmp_path / "m", tmp_path)
    assert "holds a model as GGUF (model.gguf)" in said
    assert "likewise models pull sentence-transformers/all-MiniLM-L6-v2" in said


def test_a_folder_with_weights_beside_a_gguf_is_a_model(tmp_path: Path) -> None:
    write_bert(tmp_path / "m")
    write_gguf(tmp_path / "m" / "model.gguf")
    assert locate(str(tmp_path / "m"), cache=tmp_path / "cache").origin == "folder"


@pytest.mark.parametrize("below", ["", "models"])
def test_a_store_gives_the_lines_of_its_models(below: str, tmp_path: Path) -> None:
    write_store(
        tmp_path / "ollama" / below,
        f"{LIBRARY}/nomic-embed-text:latest",
        f"{LIBRARY}/all-minilm:22m-l6-v2-q4_0",
        f"{LIBRARY}/llama3.2:3b",
        "hf.co/acme/tiny-embed-GGUF:Q8_0",
    )
    said = refused(tmp_path / "ollama", tmp_path)
    assert "is Ollama's store" in said
    assert "likewise models pull nomic-ai/nomic-embed-text-v1.5  # nomic-embed-text:latest" in said
    assert "likewise models pull sentence-transformers/all-MiniLM-L6-v2" in said
    assert "likewise models pull acme/tiny-embed" in said
    assert "# llama3.2:3b: no counterpart" in said


def test_a_blob_is_named_by_the_manifest_that_lists_it(tmp_path: Path) -> None:
    store = write_store(
        tmp_path / "s", f"{LIBRARY}/all-minilm:latest", f"{LIBRARY}/mxbai-embed-large:latest"
    )
    blobs = sorted((store / "blobs").iterdir())
    assert "likewise models pull mixedbread-ai/mxbai-embed-large-v1" in refused(blobs[1], tmp_path)
    assert "is Ollama's store" in refused(store / "manifests", tmp_path)


def test_damage_in_it_is_no_error_of_ours(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", f"{LIBRARY}/all-minilm:latest")
    (store / "manifests" / LIBRARY / "all-minilm" / "latest").write_text("{", encoding="utf-8")
    assert "likewise models pull" in refused(store, tmp_path)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(write_gguf(tmp_path / "x", general_name="bge-m3").read_bytes()[:50])
    assert "likewise models pull ORG/NAME" in refused(cut, tmp_path)
    cut.write_bytes(b"GGUF" + b"\xff" * 60)
    assert "is a GGUF file" in refused(cut, tmp_path)
    assert gguf.explained(tmp_path / "nothing") is None


def test_a_store_is_no_models_dir(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", f"{LIBRARY}/bge-m3:latest")
    place = resolve.Place(cache=tmp_path / "cache", offline=True)
    with (
        catalogue.opened(place, resolve.Keeping(models_dir=store)) as models,
        pytest.raises(SettingsError, match="likewise models pull BAAI/bge-m3"),
    ):
        models.start()


def test_a_gguf_among_models_is_told_of_and_the_others_are_served(tmp_path: Path) -> None:
    write_bert(tmp_path / "models" / "good")
    file = write_gguf(tmp_path / "models" / "bad.gguf", general_name="bge-m3")
    write_gguf(tmp_path / "models" / "worse" / "x.gguf")
    registry = Registry(Options(tmp_path / "cache", offline=True))
    try:
        watch = Watch(registry, tmp_path / "models")
        watch.look(settle_s=0)
        assert [view.name for view in registry.models()] == ["good"]
        assert "likewise models pull BAAI/bge-m3" in registry.troubles[str(file)]
        assert "GGUF" in registry.troubles[str(tmp_path / "models" / "worse")]
        file.unlink()
        watch.look(settle_s=0)
        assert str(file) not in registry.troubles
    finally:
        registry.close()
