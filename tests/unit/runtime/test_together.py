"""Late chunking: against numpy over transformers' states, and sentence-transformers' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import InputError, InputTooLong, ModelUnsupported
from likewise.models.parts import read_json
from likewise.runtime import metrics
from likewise.runtime.service import Service, load
from tests.conformance.folders import write_modules
from tests.conformance.test_engines import hidden_states
from tests.conformance.test_static import save_model2vec
from tests.conformance.tiny import WORDS, write_bert, write_json
from tests.support import LIMIT

CHUNKS = ["w1 w2 w3", "w9", "w4 w5 w6 w7", "w8 w1"]
HEAD, TAIL = [2], [3]


def ids(text: str) -> list[int]:
    """The token ids of words alone."""
    return [WORDS.index(word) for word in text.split()]


def by_hand(folder: Path, chunks: list[str], prompt: str = "", *, unit: bool = True) -> Any:
    """Vectors of chunks read in one pass: the means of their own states."""
    before = HEAD + ids(prompt)
    whole = [*before, *(token for chunk in chunks for token in ids(chunk)), *TAIL]
    states, at, rows = hidden_states(folder, whole), len(before), []
    for chunk in chunks:
        rows.append(states[at : at + len(ids(chunk))].mean(axis=0))
        at += len(ids(chunk))
    vectors = np.stack(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if unit else vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads 64 tokens."""
    path = tmp_path_factory.mktemp("late")
    return write_bert(path / "model", matryoshka_dimensions=[16])


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """The tiny model, loaded."""
    made = load(folder, name="tiny", precision="exact", threads=1)
    yield made
    made.close()


@pytest.mark.torch
def test_each_chunk_is_the_mean_of_its_own_states(service: Service, folder: Path) -> None:
    done = service.submit_late(CHUNKS).result(LIMIT)
    assert np.abs(done.vectors - by_hand(folder, CHUNKS)).max() < 1e-5
    assert done.truncated == ()
    # What stands around them is counted with the first and the last.
    assert done.tokens == (4, 1, 4, 3)
    apart = service.submit(CHUNKS).result(LIMIT).vectors
    assert np.abs(done.vectors - apart).max() > 1e-2


@pytest.mark.torch
def test_the_prompt_is_read_once_and_counts_in_no_chunk(service: Service, folder: Path) -> None:
    done = service.submit_late(CHUNKS, prompt="w20 w21 ").result(LIMIT)
    assert np.abs(done.vectors - by_hand(folder, CHUNKS, "w20 w21")).max() < 1e-5
    assert done.tokens == (6, 1, 4, 3)


@pytest.mark.torch
def test_token_ids_with_and_without_special_tokens(service: Service, folder: Path) -> None:
    given = [ids(CHUNKS[0]), [*HEAD, *ids(CHUNKS[1]), *TAIL]]
    done = service.submit_late(given).result(LIMIT)
    assert np.abs(done.vectors - by_hand(folder, CHUNKS[:2])).max() < 1e-5


@pytest.mark.torch
def test_smaller_widths_are_cut_and_made_length_one(service: Service, folder: Path) -> None:
    cut = by_hand(folder, CHUNKS)[:, :16]
    done = service.submit_late(CHUNKS, dimensions=16).result(LIMIT).vectors
    assert np.abs(done - cut / np.linalg.norm(cut, axis=1, keepdims=True)).max() < 1e-5


@pytest.mark.torch
def test_unnormalised_models_stay_so_unless_unit_is_asked_for(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model", normalise=False)
    made = load(folder, precision="exact", threads=1)
    try:
        plain = made.submit_late(CHUNKS).result(LIMIT).vectors
        unit = made.submit_late(CHUNKS, unit=True).result(LIMIT).vectors
    finally:
        made.close()
    assert np.abs(plain - by_hand(folder, CHUNKS, unit=False)).max() < 1e-4
    assert np.abs(unit - by_hand(folder, CHUNKS)).max() < 1e-5


@pytest.mark.torch
def test_a_long_document_is_read_in_windows_of_whole_chunks(service: Service, folder: Path) -> None:
    chunks = [" ".join(f"w{(i * 7 + j) % 60}" for j in range(25)) for i in range(5)]
    done = service.submit_late(chunks).result(LIMIT)
    expected = np.concatenate([by_hand(folder, chunks[at : at + 2]) for at in (0, 2, 4)])
    assert np.abs(done.vectors - expected).max() < 1e-5
    assert done.truncated == () and done.tokens == (26, 26, 26, 26, 27)
    with pytest.raises(InputTooLong, match="have 131 tokens.*tiny reads 64 together") as refused:
        service.submit_late(chunks, overflow="refuse")
    assert refused.value.inputs == (2, 3, 4)


@pytest.mark.torch
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_chunk_longer_than_a_window_is_cut_and_reported(
    service: Service, folder: Path, side: Any
) -> None:
    words = [f"w{n % 60}" for n in range(100)]
    chunks = ["w1 w2", " ".join(words), "w3"]
    lost = metrics.DROPPED_TOKENS.labels("tiny", "program")
    before = lost._value.get()
    done = service.submit_late(chunks, side=side).result(LIMIT)
    kept = " ".join(words[-62:] if side == "left" else words[:62])
    expected = np.concatenate([by_hand(folder, [one]) for one in ("w1 w2", kept, "w3")])
    assert np.abs(done.vectors - expected).max() < 1e-5
    assert done.truncated == (1,) and done.tokens == (4, 64, 3)
    assert lost._value.get() == before + 38
    with pytest.raises(InputTooLong) as refused:
        service.submit_late(chunks, overflow="refuse")
    assert refused.value.inputs == (1, 2)


@pytest.mark.torch
def test_a_limit_makes_windows_smaller(service: Service, folder: Path) -> None:
    done = service.submit_late(CHUNKS, limit=6).result(LIMIT)
    groups = [CHUNKS[:2], CHUNKS[2:3], CHUNKS[3:]]
    expected = np.concatenate([by_hand(folder, group) for group in groups])
    assert np.abs(done.vectors - expected).max() < 1e-5
    with pytest.raises(InputError, match="leaves no room for a chunk"):
        service.submit_late(CHUNKS, limit=4, prompt="w1 w2")


def test_nothing_gives_no_rows_and_an_empty_chunk_is_refused(service: Service) -> None:
    assert service.submit_late([]).result(LIMIT).vectors.shape == (0, 32)
    for empty in (["w1", ""], [[5], []], [[5], [2, 3]]):
        with pytest.raises(InputError, match="input 1 is empty"):
            service.submit_late(empty)
    with pytest.raises(InputError, match="a list of texts"):
        service.submit_late("w1")


REFUSED = {
    "cls": "its pooling is cls",
    "both": r"its pooling is cls\+mean",
    "dense": "Dense after its pooling",
    "table": "it is a table of token vectors",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_models_whose_vectors_are_no_means_are_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "model"
    if kind == "table":
        save_model2vec(folder)
    else:
        pooling: Any = {"cls": "cls", "both": ["cls", "mean"], "dense": "mean"}[kind]
        write_bert(folder, pooling=pooling, normalise=False)
    if kind == "dense":
        settings = {"in_features": 32, "out_features": 5, "bias": False}
        weights = {"linear.weight": np.ones((5, 32), np.float32)}
        activation = {"activation_function": "torch.nn.modules.linear.Identity"}
        pooled = {"embedding_dimension": 32, "pooling_mode": "mean"}
        write_modules(
            folder, [("Pooling", pooled, None), ("Dense", settings | activation, weights)]
        )
    made = load(folder, name="odd", precision="exact", threads=1)
    try:
        with pytest.raises(ModelUnsupported, match=f"odd does no late chunking: {REFUSED[kind]}"):
            made.submit_late(["w1"])
    finally:
        made.close()


@pytest.mark.torch
def test_the_real_model_as_sentence_transformers_reads_the_whole(model_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    chunks = ["Berlin is the capital of Germany.", "Its more than 3.85 million inhabitants", "rule"]
    theirs = SentenceTransformer(str(model_folder), device="cpu")
    whole = " ".join(chunks)
    states = theirs.encode(whole, output_value="token_embeddings").numpy()
    counts = [len(theirs.tokenizer(one, add_special_tokens=False)["input_ids"]) for one in chunks]
    assert len(states) == sum(counts) + 2, "cut between words, chunks have the tokens of the whole"
    ends = 1 + np.cumsum([0, *counts])
    means = [states[a:b].mean(axis=0) for a, b in zip(ends, ends[1:], strict=False)]
    expected = np.stack([one / np.linalg.norm(one) for one in means])
    made = load(model_folder, precision="exact", threads=1)
    try:
        ours = made.submit_late(chunks).result(LIMIT).vectors
        apart = made.embed(chunks)
    finally:
        made.close()
    assert np.abs(ours - expected).max() < 1e-5
    assert float((apart[1] * ours[1]).sum()) < 0.95, "what stands before changes what it means"


def test_pooling_that_leaves_prompts_out_changes_nothing(tmp_path: Path) -> None:
    both = []
    for include in (True, False):
        folder = write_bert(tmp_path / str(include))
        path = folder / "1_Pooling" / "config.json"
        write_json(path, {**read_json(path), "include_prompt": include})
        made = load(folder, precision="exact", threads=1)
        both.append(made.submit_late(CHUNKS, prompt="w20 ").result(LIMIT).vectors)
        made.close()
    assert np.abs(both[0] - both[1]).max() < 1e-6
