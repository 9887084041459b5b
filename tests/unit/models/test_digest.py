"""The digest follows what decides the vectors, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from likewise.models.card import read_card
from likewise.models.digest import weights_digest
from likewise.models.tokenizer_files import assemble
from tests.conformance.tiny import SMALL, write_bert, write_json, write_weights


def digest(folder: Path, cache: Path | None = None) -> str:
    """The digest of the model in `folder`."""
    return weights_digest(read_card(folder), cache=cache)


def test_a_copy_elsewhere_has_the_same(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "one")
    shutil.copytree(folder, tmp_path / "two")
    assert digest(folder) == digest(tmp_path / "two")


def test_who_wrote_the_files_does_not_matter(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    # Else the padding's token would be a special one only where tokenizer.json pads.
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    write_json(folder / "tokenizer_config.json", settings)
    before = digest(folder)
    write_json(folder / "config.json", {**SMALL, "transformers_version": "9", "use_cache": False})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert tokenizer["truncation"] and tokenizer["padding"]
    tokenizer["truncation"] = tokenizer["padding"] = None
    write_json(folder / "tokenizer.json", tokenizer)
    assert digest(folder) == before


def test_what_decides_the_vectors_matters(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    seen = {digest(folder)}
    write_weights(folder, SMALL, seed=1)
    seen.add(digest(folder))
    write_json(folder / "config.json", {**SMALL, "layer_norm_eps": 1e-5})
    seen.add(digest(folder))
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "cls"})
    seen.add(digest(folder))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    write_json(folder / "tokenizer.json", tokenizer)
    seen.add(digest(folder))
    assert len(seen) == 5


def test_what_stands_around_pairs_does_not_matter_to_vectors(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"] = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": tokenizer["model"]["vocab"],
    }
    write_json(folder / "tokenizer.json", tokenizer)
    # transformers 4 wrote MPNet's pairs with segments 0 and 1, transformers 5 makes all of them 0.
    settings = {"tokenizer_class": "MPNetTokenizer", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    write_json(folder / "tokenizer_config.json", settings)
    pair = tokenizer["post_processor"]["pair"]
    tokenizer["post_processor"]["pair"] = pair[::-1]
    write_json(folder / "tokenizer.json", tokenizer)
    assembled = assemble(folder, "bert")
    assert "post_processor" in assembled.parts
    assert assembled.facts(pairs=True)["post_processor"] != tokenizer["post_processor"]
    assert assembled.facts(pairs=False)["post_processor"] == tokenizer["post_processor"]
    tokenizer["post_processor"]["single"] = tokenizer["post_processor"]["single"][:2]
    write_json(folder / "tokenizer.json", tokenizer)
    changed = assemble(folder, "bert").facts(pairs=False)["post_processor"]
    assert changed != tokenizer["post_processor"], "single texts are read otherwise"


def test_the_cache_is_used_and_notices_a_new_file(tmp_path: Path) -> None:
    folder, cache = write_bert(tmp_path / "model"), tmp_path / "cache"
    first = digest(folder, cache)
    known = json.loads((cache / "digests.json").read_text())
    (entry,) = known.values()
    entry["sha256"] = "0" * 64
    (cache / "digests.json").write_text(json.dumps(known))
    assert digest(folder, cache) != first, "the cache wasn't used"
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert digest(folder, cache) == first


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 3}'])
def test_a_damaged_cache_is_ignored(tmp_path: Path, content: str) -> None:
    folder, cache = write_bert(tmp_path / "model"), tmp_path / "cache"
    cache.mkdir()
    (cache / "digests.json").write_text(content)
    assert digest(folder, cache) == digest(folder)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    folder, cache = write_bert(tmp_path / "model"), tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    assert digest(folder, cache) == digest(folder)


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("one", "two", "three"):
        folder = write_bert(tmp_path / name)
        digest(folder, cache)
        shutil.rmtree(folder)
    digest(write_bert(tmp_path / "four"), cache)
    known = json.loads((cache / "digests.json").read_text())
    assert [Path(path).parent.name for path in known] == ["four"]
