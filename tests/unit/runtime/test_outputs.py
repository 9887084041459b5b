"""Scores, sparse weights and token vectors through the service: refusals, limits, failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from starlette.testclient import TestClient

import likewise
from likewise.base.errors import InputError, InputTooLong, ModelUnsupported, NotFinite
from likewise.engines.batch import PackedBatch
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime import desk
from likewise.runtime.service import Service, load
from likewise.runtime.sinks import LexicalRows, Rows, SparseRows, TokenRows
from likewise.server.app import build
from tests.conformance.tiny import write_bert, write_cross_encoder, write_json

LONG = " ".join(f"w{n % 50}" for n in range(70))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder."""
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "reranker")


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Iterator[Service]:
    """It, loaded."""
    service = load(folder, precision="exact", threads=1)
    yield service
    service.close()


def test_what_the_model_has_not_is_refused_and_what_it_has_is_named(
    scorer: Service, tmp_path: Path
) -> None:
    has = r"it gives scores \(score\(\)\)"
    for asked, call in (
        ("vectors", lambda: scorer.embed(["w1"])),
        ("vectors", lambda: scorer.submit(["w1"])),
        ("vectors", lambda: scorer.space),
        ("vectors", lambda: scorer.splitter()),
        ("sparse", lambda: scorer.embed_sparse(["w1"])),
        ("tokens", lambda: scorer.embed_tokens(["w1"])),
    ):
        with pytest.raises(ModelUnsupported, match=f"reranker gives no {asked}; {has}"):
            call()
    embedder = load(write_bert(tmp_path / "embedder"), precision="exact", threads=1)
    with pytest.raises(ModelUnsupported, match=r"gives no scores; it gives vectors \(embed\(\)\)"):
        embedder.score("w1", ["w2"])
    embedder.close()


def test_info_names_what_the_model_gives(scorer: Service) -> None:
    info = scorer.info()
    assert info["gives"] == ["scores"] and info["labels"] == ["label 0"]
    assert info["activation"] == "sigmoid" and len(info["weights"]) == 64
    assert "dimensions" not in info and "pooling" not in info


def test_several_labels_come_together(tmp_path: Path) -> None:
    service = load(write_cross_encoder(tmp_path, labels=3), precision="exact", threads=1)
    assert service.submit_pairs([("w1", "w2")]).result().scores.shape == (1, 3)
    with pytest.raises(ModelUnsupported, match=r"3 numbers .*label 0, label 1.*submit_pairs\(\)"):
        service.score("w1", ["w2"])
    service.close()


def test_pairs_that_are_too_long_are_cut_or_refused(scorer: Service) -> None:
    pairs = [("w1", "w2"), ("w3 w4", LONG)]
    found = scorer.submit_pairs(pairs).result()
    assert found.truncated == (1,) and found.tokens == (2, 64)
    with pytest.raises(InputTooLong, match="input 1 has 72 tokens; reranker reads 64"):
        scorer.submit_pairs(pairs, overflow="refuse")
    with pytest.raises(InputTooLong, match="input 0 has 72 tokens"):
        scorer.score("w3 w4", [LONG], overflow="refuse")


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("w1", "w2"), "w3"], "input 1 isn't a pair"),
        ([("w1", "w2", "w3")], "input 0 isn't a pair"),
        ([("w1", 2)], "input 0 must be two texts, not a int"),
        ([("w1", "\ud800")], "input 0 isn't valid Unicode: a lone surrogate at character 0"),
    ],
)
def test_inputs_that_are_not_pairs_are_refused(
    scorer: Service, pairs: list[Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        scorer.submit_pairs(pairs)


def test_one_text_is_not_a_list_of_texts(scorer: Service) -> None:
    with pytest.raises(InputError, match="give a list of texts"):
        scorer.score("w1", "w2")


def test_many_pairs_go_in_slices(scorer: Service) -> None:
    texts = [f"w{n % 50}" for n in range(desk.SLICE_TEXTS + 20)]
    scores = scorer.score("w7", texts)
    assert np.abs(scores[:20] - scores[50:70]).max() < 1e-6
    assert scorer.submit_pairs([]).result().scores.shape == (0, 1)


def test_scores_that_are_not_numbers_never_leave(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path, damaged=True)
    service = load(folder, precision="exact", threads=1)
    wrong = service.submit_pairs([("w1", "w2"), ("w59 w59", "w3")])
    with pytest.raises(NotFinite, match=r"NaN or Inf \(1 of 2 inputs failed: 1\)"):
        wrong.result()
    assert np.isfinite(service.score("w1", ["w2", "w3"])).all(), "others are served"
    service.close()


class Spoilt:
    """An engine whose token vectors are NaN for the token w9; everything else is 1."""

    name, precision, why, streams, warm_lengths, budget_tokens = "x", "f32", "", 1, (), 512
    version, gives_states = "0", False
    least_fill = 0.0

    def stream(self) -> Any:
        """Computes at once."""

        def forward(batch: PackedBatch) -> Any:
            rows = np.ones((batch.tokens, 2), np.float32)
            rows[batch.ids == 13] = np.nan
            ones = np.ones((batch.tokens, 1), np.float32)
            vectors = np.ones((batch.texts, 32), np.float32)
            return {"tokens": rows, "weights": ones, "vectors": vectors}

        return forward

    def close(self) -> None:
        """Nothing to give back."""


def test_only_what_was_asked_for_must_be_finite(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = write_bert(tmp_path)
    for name, rows in (("sparse_linear", 1), ("colbert_linear", 2)):
        layer = {"weight": np.ones((rows, 32), np.float32), "bias": np.ones(rows, np.float32)}
        save_file(layer, folder / f"{name}.safetensors")
    card = read_card(folder)
    engine: Any = Spoilt()
    service = Service(card, Tokenizer(card), engine, None, {})
    with pytest.raises(NotFinite, match=r"NaN or Inf \(1 of 3 inputs failed: 2\)"):
        service.embed_tokens(["w1 w2", "w3", "w1 w9 w2"])
    assert [len(one) for one in service.embed_tokens(["w1 w2", "w3"])] == [3, 2]
    assert len(service.embed_sparse(["w9"])[0][0]) > 0
    assert service.submit(["w9"]).result().vectors.shape == (1, 32)
    service.close()


def test_sinks_copy_what_they_keep() -> None:
    """Engines give views of arrays that hold a whole batch."""
    rows = np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]], np.float32)
    kept = SparseRows(1)
    kept.put(0, rows[0])
    tokens, plain = TokenRows(1), Rows(1, 4)
    tokens.expect(0, np.array([False, True]))
    tokens.put(0, rows)
    plain.put(0, rows[1])
    lexical = LexicalRows(1, np.array([5], np.int32))
    lexical.expect(0, np.array([7, 5, 9, 7], np.int32))
    lexical.put(0, np.array([[0.5], [9], [0], [0.7]], np.float32))
    rows[:] = -1
    ((ids, weights),) = kept.result()
    assert (ids.tolist(), weights.tolist()) == ([1, 3], [2.0, 1.0])
    assert tokens.result()[0].tolist() == [[0, 0, 3, 0]] == plain.result().tolist()
    ((ids, weights),) = lexical.result()
    assert ids.tolist() == [7] and np.allclose(weights, [0.7])


def test_prompts_may_be_asked_for_by_text_and_by_name(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    prompts = {"query": "w1 ", "odd": "w5 w6 "}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    service = load(folder, precision="exact", threads=1)
    plain = service.embed(["w5 w6 w9"])
    assert np.allclose(service.embed(["w9"], prompt_name="odd"), plain, atol=1e-6)
    assert np.allclose(service.embed(["w9"], prompt="w5 w6 ", kind="query"), plain, atol=1e-6)
    assert np.allclose(service.submit(["w9"], prompt_name="odd").result().vectors, plain, atol=1e-6)
    with pytest.raises(InputError, match="no prompt called 'other'; it has: .*odd"):
        service.embed(["w9"], prompt_name="other")
    with pytest.raises(InputError, match="not both"):
        service.embed(["w9"], prompt="w1", prompt_name="odd")
    service.close()


def test_over_http_a_scorer_has_no_vectors_and_says_what_it_gives(scorer: Service) -> None:
    with TestClient(build({"reranker": scorer})) as client:
        answer = client.post("/v1/embeddings", json={"input": "w1"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "model_unsupported"
        assert "gives no vectors; it gives scores" in answer.json()["error"]["message"]
        assert client.get("/health").json()["models"]["reranker"]["gives"] == ["scores"]
        assert client.get("/v1/models").json()["data"][0]["gives"] == ["scores"]


def test_nothing_can_be_bound_with_a_scorer(scorer: Service, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    database = apsw.Connection(str(path))
    database.execute("CREATE TABLE pages(id INTEGER PRIMARY KEY, body TEXT)")
    before = database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    with pytest.raises(ModelUnsupported, match="gives no vectors; it gives scores"):
        likewise.bind(path, "pages", text="{body}", model=scorer)
    assert database.execute("SELECT count(*) FROM sqlite_schema").fetchall() == before
    database.close()
