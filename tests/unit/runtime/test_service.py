"""The service on real, if tiny, models: order, limits, lanes, failures, closing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from likewise.base.errors import (
    DimensionsError,
    EngineError,
    InputError,
    InputTooLong,
    ModelCorrupt,
    ModelNotFound,
    NotFinite,
    Overloaded,
    SettingsError,
)
from likewise.engines.batch import PackedBatch
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime import desk, metrics
from likewise.runtime.service import Service, load
from tests.conformance.tiny import SMALL, WORDS, write_bert, write_json
from tests.support import LIMIT, wait_until

TEXTS = [" ".join(f"w{(i * 7 + j) % 60}" for j in range(i % 50)) for i in range(700)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that declares a smaller width."""
    path = tmp_path_factory.mktemp("tiny")
    return write_bert(path / "model", matryoshka_dimensions=[16])


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """The tiny model, loaded."""
    loaded = load(folder, name="tiny", precision="f32", threads=2)
    yield loaded
    loaded.close()


class Gate:
    """An engine whose streams wait until they are let through; it gives ones."""

    name, precision, why, streams, warm_lengths = "gate", "f32", "a test", 1, ()
    budget_tokens = 512
    version, gives_states = "1", False
    least_fill = 0.0

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.batches: list[list[int]] = []

    def stream(self) -> Any:
        """Computes once the gate is open."""

        def forward(batch: PackedBatch) -> Any:
            self.batches.append(np.diff(batch.cumulative).tolist())
            assert self.opened.wait(LIMIT)
            return {"vectors": np.ones((batch.texts, 32), np.float32)}

        return forward

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def gated(folder: Path) -> Iterator[tuple[Gate, Service]]:
    """A service whose engine waits at a gate, with room for 1,000 tokens a lane."""
    gate, card = Gate(), read_card(folder)
    space = load_space(folder)
    made = Service(card, Tokenizer(card), gate, space, {}, capacity_tokens=1000)
    yield gate, made
    gate.opened.set()
    made.close()


def load_space(folder: Path) -> Any:
    """The space of the model in `folder`."""
    loaded = load(folder, precision="f32", threads=1)
    loaded.close()
    return loaded.space


def test_vectors_come_in_the_order_of_the_texts(service: Service) -> None:
    vectors = service.embed(TEXTS)
    assert vectors.shape == (700, 32) and vectors.dtype == np.float32
    for index in (0, 1, 49, 50, 51, 333, 699):
        alone = service.embed([TEXTS[index]], lane="interactive")
        assert np.abs(vectors[index] - alone[0]).max() < 1e-5


def test_many_callers_at_once_get_their_own(service: Service) -> None:
    expected = service.embed(TEXTS[:100])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: service.embed([text])[0], TEXTS[:100]))
    assert np.abs(np.stack(found) - expected).max() < 1e-5


def test_nothing_gives_no_rows(service: Service) -> None:
    assert service.embed([]).shape == (0, 32)
    assert service.submit([]).result().vectors.shape == (0, 32)


def test_cuts_are_reported_or_refused(service: Service) -> None:
    done = service.submit(["w1", "w1 " * 100, "w1 " * 62]).result()
    assert done.truncated == (1,) and done.tokens == (3, 64, 64)
    with pytest.raises(InputTooLong, match="input 1 has 102 tokens; tiny reads 64"):
        service.submit(["w1", "w1 " * 100], overflow="refuse")


def test_positions_count_over_slices(service: Service) -> None:
    texts = ["w1"] * desk.SLICE_TEXTS + ["w1 " * 100, "\ud800"]
    with pytest.raises(InputError, match=f"input {desk.SLICE_TEXTS + 1} isn't valid Unicode"):
        service.embed(texts)


def test_token_ids_equal_their_text(service: Service) -> None:
    assert np.array_equal(
        service.submit([[4, 5], [2, 4, 5, 3]]).result().vectors,
        service.submit(["w0 w1", "w0 w1"]).result().vectors,
    )


def test_smaller_widths_only_where_declared(service: Service) -> None:
    full = service.embed(["w1 w2"])
    done = service.submit(["w1 w2"], dimensions=16).result().vectors
    assert np.allclose(done, full[:, :16] / np.linalg.norm(full[:, :16]), atol=1e-6)
    assert service.submit(["w1"], dimensions=32).result().vectors.shape == (1, 32)
    with pytest.raises(DimensionsError, match="16 or 32 dimensions, not 8"):
        service.submit(["w1"], dimensions=8)
    forced = service.embed(["w1 w2"], dimensions=8, force=True)
    assert np.allclose(forced, full[:, :8] / np.linalg.norm(full[:, :8]), atol=1e-6)
    for width in (33, 0, -1):
        with pytest.raises(DimensionsError, match=f"1 to 32 dimensions, not {width}"):
            service.submit(["w1"], dimensions=width, force=True)


def test_any_width_where_that_is_declared(tmp_path: Path) -> None:
    path = write_bert(tmp_path / "model", is_matryoshka=True)
    with contextlib.closing(load(path, precision="f32")) as service:
        assert service.embed(["w1"], dimensions=5).shape == (1, 5)
        with pytest.raises(DimensionsError, match="1 to 32 dimensions, not 33"):
            service.embed(["w1"], dimensions=33)


def test_an_adapter_for_a_model_in_the_cache(tmp_path: Path) -> None:
    from tests.conformance.test_lora import QUERY, lora, write_adapter

    folder = write_adapter(tmp_path / "adapter", "someone/base", lora(QUERY, 32, 32))
    with pytest.raises(ModelNotFound, match=r"someone/base, which isn't here.*models pull"):
        load(folder, cache=tmp_path / "cache")


@pytest.mark.parametrize("inputs", ["text", b"text"])
def test_one_text_is_not_a_list(service: Service, inputs: Any) -> None:
    with pytest.raises(InputError, match="a list of texts"):
        service.embed(inputs)


def test_prompts_are_put_before_and_are_part_of_the_space(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    plain = load(folder, precision="f32", threads=1)
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "w1 w2 ", "document": "w3 "}},
    )
    made = load(folder, precision="f32", threads=1)
    try:
        assert np.array_equal(made.embed(["w9"], kind="query"), plain.embed(["w1 w2 w9"]))
        assert np.array_equal(made.embed(["w9"], kind="document"), plain.embed(["w3 w9"]))
        assert np.array_equal(made.embed(["w9"]), plain.embed(["w9"]))
        assert made.space.fingerprint != plain.space.fingerprint
        with pytest.raises(SettingsError, match="up to 61 tokens"):
            made.splitter("tokens:62/0")
    finally:
        plain.close()
        made.close()


def test_the_splitter(service: Service) -> None:
    split = service.splitter("tokens:4/1")
    assert split.name == "tokens:4/1"
    text = "w1 w2 w3 w4 w5 w6"
    (chunks, none) = split([text, ""])
    assert [text[c.start : c.end] for c in chunks] == ["w1 w2 w3 w4", "w4 w5 w6"] and none == ()
    for size, overlap in ((0, 0), (63, 0), (8, 5)):
        with pytest.raises(SettingsError, match=f"chunks of {size} tokens"):
            service.splitter(f"tokens:{size}/{overlap}")


def test_nan_weights_are_refused_at_load(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][3] = np.nan
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelCorrupt, match=r"layer\.1\.output\.dense\.bias.*NaN"):
        load(folder)


def test_vectors_that_overflow_are_never_handed_on(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model", normalise=False)
    weights = load_file(folder / "model.safetensors")
    # Only texts with this word, so that the check at load doesn't see it.
    weights["embeddings.word_embeddings.weight"][WORDS.index("w9")] = 3e38
    save_file(weights, folder / "model.safetensors")
    made = load(folder, precision="f32", threads=1)
    try:
        with pytest.raises(NotFinite, match="NaN or Inf"):
            made.embed(["w1 w2 w9 w4 w5"])
        with pytest.raises(NotFinite):
            made.embed(["w1 w2 w9 w4 w5"])
        assert np.isfinite(made.embed(["w1 w2"])).all()
    finally:
        made.close()


def test_a_failing_batch_fails_its_requests_and_not_the_worker(
    gated: tuple[Gate, Service],
) -> None:
    gate, made = gated
    gate.opened.set()
    assert made.embed(["w1"]).shape == (1, 32)
    real = gate.batches
    gate.batches = None  # type: ignore[assignment]
    with pytest.raises(EngineError, match="This is a bug"):
        made.embed(["w1"])
    gate.batches = real
    assert made.embed(["w1"]).shape == (1, 32)


def test_queries_go_before_bulk_and_bulk_shrinks(gated: tuple[Gate, Service]) -> None:
    gate, made = gated
    first = made.submit(["w0"], lane="bulk")
    wait_until(lambda: gate.batches)
    bulk = made.submit([f"w{n} " * 20 for n in range(40)], lane="bulk")
    query = made.submit(["w2"], lane="interactive")
    gate.opened.set()
    for future in (first, bulk, query):
        future.result(LIMIT)
    assert gate.batches[:2] == [[3], [3]], "the query went before the bulk request"
    assert max(len(batch) for batch in gate.batches) <= 3, "bulk batches are short now"


def test_a_full_lane_refuses(gated: tuple[Gate, Service]) -> None:
    gate, made = gated
    counted = metrics.REJECTED.labels(made.space.model, "bulk", "program", "overloaded")
    before = counted._value.get()
    texts = iter([f"w{first} w{second} " * 30 for first in range(60) for second in range(60)])

    def ten() -> list[str]:
        return [next(texts) for _ in range(10)]

    futures = [made.submit(ten(), lane="bulk")]
    wait_until(lambda: gate.batches)
    with pytest.raises(Overloaded, match="try again later"):
        for _ in range(100):
            futures.append(made.submit(ten(), lane="bulk"))
    assert counted._value.get() == before + 1
    assert made.submit(["w1"], lane="interactive") is not None
    gate.opened.set()
    for future in futures:
        assert future.result(LIMIT).vectors.shape == (10, 32)


def test_cancelled_work_is_not_computed(gated: tuple[Gate, Service]) -> None:
    gate, made = gated
    first = made.submit(["w0"])
    wait_until(lambda: gate.batches)
    gone = made.submit(["w1 w2 w3"])
    assert gone.cancel()
    gate.opened.set()
    first.result(LIMIT)
    made.embed(["w4"])
    assert [5] not in gate.batches
    with pytest.raises(CancelledError):
        gone.result(0)


def test_closing_fails_what_waits_and_refuses_what_comes(folder: Path) -> None:
    gate, card = Gate(), read_card(folder)
    made = Service(card, Tokenizer(card), gate, load_space(folder), {})
    running: Future[Any] = made.submit(["w0"])
    wait_until(lambda: gate.batches)
    waiting = made.submit(["w1"])
    closer = threading.Thread(target=made.close)
    closer.start()
    with pytest.raises(EngineError, match="closed"):
        waiting.result(LIMIT)
    gate.opened.set()
    closer.join(LIMIT)
    assert running.result(0).vectors.shape == (1, 32)
    made.close()
    with pytest.raises(EngineError, match="closed"):
        made.embed(["w1"])


def test_info_says_what_runs(service: Service) -> None:
    info = service.info()
    assert (info["model"], info["precision"], info["why"]) == ("tiny", "f32", "asked for")
    assert info["dimensions"] == SMALL["hidden_size"] and info["max_tokens"] == 64
    assert info["engine_version"].startswith("openvino ") and info["batch_tokens"] > 64
    assert info["weights"] == service.space.weights and len(info["weights"]) == 64


def test_texts_and_tokens_are_counted(service: Service) -> None:
    counters = [c.labels("tiny", "bulk", "program") for c in (metrics.TEXTS, metrics.TOKENS)]
    before = [c._value.get() for c in counters]
    truncated = metrics.TRUNCATED.labels("tiny", "program")._value.get()
    service.embed(["w1 w2", "w1 " * 100])
    assert [c._value.get() for c in counters] == [before[0] + 2, before[1] + 4 + 64]
    assert metrics.TRUNCATED.labels("tiny", "program")._value.get() == truncated + 1
