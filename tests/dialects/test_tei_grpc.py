"""`tei.v1` over a running server, by a client that protoc generates from the package's own file."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.resources
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc_tools
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_tools import protoc
from starlette.testclient import TestClient

from likewise.base.errors import ModelError, Overloaded
from likewise.server import grpc as folder
from likewise.server.app import build
from likewise.server.grpc.service import GrpcServer, in_order
from likewise.server.guard import Guard
from likewise.server.keys import KeyRing
from likewise.server.listen import listen
from likewise.server.run import server
from tests.support import wait_until
from tests.unit.server.fakes import DIMENSIONS, MAX_TOKENS, FakeModel, by_hand

LONG = "one two three four five six seven eight nine"
WAIT_S = 60


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """The generated modules: messages, and stubs."""
    out = tmp_path_factory.mktemp("generated")
    proto = Path(folder.__file__).with_name("tei.proto")
    include = importlib.resources.files(grpc_tools) / "_proto"
    assert not protoc.main(
        ["protoc", f"-I{proto.parent}", f"-I{include}", f"--python_out={out}"]
        + [f"--grpc_python_out={out}", proto.name]
    )
    sys.path.insert(0, str(out))
    try:
        yield importlib.import_module("tei_pb2"), importlib.import_module("tei_pb2_grpc")
    finally:
        sys.path.remove(str(out))


@contextlib.contextmanager
def serving(models: dict[str, FakeModel], **options: Any) -> Iterator[tuple[Any, grpc.Channel]]:
    """The application, and a channel to it over gRPC, while both servers run."""
    app = build(models, **options)
    beside = GrpcServer(app, "127.0.0.1", 0)
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    running = server(app, on_ready=ready.set, beside=beside)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        with grpc.insecure_channel(f"127.0.0.1:{beside.port}") as channel:
            yield app, channel
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(gives=("vectors", "states", "sparse"), prompts={"query": "ask: "})


@pytest.fixture
def channel(model: FakeModel) -> Iterator[grpc.Channel]:
    with serving({"m": model}) as (_, channel):
        yield channel


def refused(call: Any, *arguments: Any, **more: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=WAIT_S, **more)
    return caught.value


def test_vectors_states_and_weights(stubs: tuple[Any, Any], channel: grpc.Channel) -> None:
    messages, services = stubs
    embed = services.EmbedStub(channel)
    answer = embed.Embed(messages.EmbedRequest(inputs="one two", truncate=True))
    np.testing.assert_allclose(answer.embeddings, by_hand("one two"), rtol=1e-6)
    assert answer.metadata.compute_chars == 7
    assert answer.metadata.compute_tokens == 2
    assert answer.metadata.tokenization_time_ns == 2_000_000
    assert answer.metadata.queue_time_ns == 3_000_000
    assert answer.metadata.inference_time_ns == 4_000_000
    assert answer.metadata.total_time_ns > 0
    states = embed.EmbedAll(messages.EmbedAllRequest(inputs="one two"))
    assert [len(each.embeddings) for each in states.token_embeddings] == [DIMENSIONS] * 4
    sparse = embed.EmbedSparse(messages.EmbedSparseRequest(inputs="one two three"))
    assert [(each.index, each.value) for each in sparse.sparse_embeddings] == [(3, 2.0), (5, 1.0)]


def test_what_is_asked_reaches_the_model(
    stubs: tuple[Any, Any], channel: grpc.Channel, model: FakeModel
) -> None:
    messages, services = stubs
    embed = services.EmbedStub(channel)
    embed.Embed(messages.EmbedRequest(inputs="a"))
    assert (model.asked[-1]["unit"], model.asked[-1]["overflow"]) == (True, "refuse")
    asked = messages.EmbedRequest(
        inputs="a", normalize=False, truncate=True, truncation_direction=1, prompt_name="query"
    )
    embed.Embed(asked, metadata=(("x-likewise-lane", "bulk"),))
    last = model.asked[-1]
    assert (last["unit"], last["overflow"], last["side"]) == (False, "cut", "left")
    assert (last["prompt"], last["lane"]) == ("ask: ", "bulk")


def test_a_deadline_travels_with_the_call(
    stubs: tuple[Any, Any], channel: grpc.Channel, model: FakeModel
) -> None:
    messages, services = stubs
    services.EmbedStub(channel).Embed(messages.EmbedRequest(inputs="a"), timeout=WAIT_S)
    assert model.asked[-1]["deadline"] is not None


def test_a_stream_is_answered_in_order_and_is_bulk(
    stubs: tuple[Any, Any], channel: grpc.Channel, model: FakeModel
) -> None:
    messages, services = stubs
    texts = [f"text {'a' * number}" for number in range(50)]
    asked = (messages.EmbedRequest(inputs=text) for text in texts)
    answers = list(services.EmbedStub(channel).EmbedStream(asked, timeout=WAIT_S))
    for text, answer in zip(texts, answers, strict=True):
        np.testing.assert_allclose(answer.embeddings, by_hand(text), rtol=1e-6)
    assert {asked["lane"] for asked in model.asked} == {"bulk"}


def test_a_stream_ends_where_a_message_is_refused(
    stubs: tuple[Any, Any], channel: grpc.Channel
) -> None:
    messages, services = stubs
    asked = [messages.EmbedRequest(inputs=text) for text in ("a", "b", "", "c")]
    answered = []
    with pytest.raises(grpc.RpcError) as caught:
        for each in services.EmbedStub(channel).EmbedStream(iter(asked), timeout=WAIT_S):
            answered.append(each)
    assert len(answered) == 2
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_tokens_and_text(stubs: tuple[Any, Any], channel: grpc.Channel) -> None:
    messages, services = stubs
    tokenize = services.TokenizeStub(channel)
    asked = messages.EncodeRequest(inputs="one three", add_special_tokens=True)
    tokens = list(tokenize.Tokenize(asked).tokens)
    assert [token.id for token in tokens] == [0, 3, 5, 0]
    assert [token.special for token in tokens] == [True, False, False, True]
    assert not tokens[0].HasField("start")
    assert (tokens[2].text, tokens[2].start, tokens[2].stop) == ("three", 4, 9)
    plain = tokenize.Tokenize(messages.EncodeRequest(inputs="one three"))
    assert [token.id for token in plain.tokens] == [3, 5]
    several = [messages.EncodeRequest(inputs="one"), messages.EncodeRequest(inputs="three")]
    answers = list(tokenize.TokenizeStream(iter(several), timeout=WAIT_S))
    assert [[token.id for token in each.tokens] for each in answers] == [[3], [5]]
    decoded = tokenize.Decode(messages.DecodeRequest(ids=[3, 5], skip_special_tokens=True))
    assert decoded.text == "xxx xxxxx"


def test_ranks_and_predictions(stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    with serving({"r": FakeModel(gives=("scores",), labels=("yes",))}) as (_, channel):
        rerank = services.RerankStub(channel)
        asked = messages.RerankRequest(
            query="a b", texts=["c", "a b", "b"], raw_scores=True, return_text=True
        )
        ranks = rerank.Rerank(asked).ranks
        assert [(rank.index, rank.text, rank.score) for rank in ranks] == [
            (1, "a b", 2.0),
            (2, "b", 1.0),
            (0, "c", 0.0),
        ]
        stream = [
            messages.RerankStreamRequest(query="a b", text=text, raw_scores=True)
            for text in ("c", "a b")
        ]
        ranks = rerank.RerankStream(iter(stream), timeout=WAIT_S).ranks
        assert [(rank.index, rank.HasField("text")) for rank in ranks] == [(1, False), (0, False)]
        info = services.InfoStub(channel).Info(messages.InfoRequest())
        assert info.model_type == messages.MODEL_TYPE_RERANKER
        assert info.max_input_length == MAX_TOKENS
        predict = services.PredictStub(channel)
        pair = messages.PredictPairRequest(inputs=["a b", "b"], raw_scores=True)
        assert [each.score for each in predict.PredictPair(pair).predictions] == [1.0]
        one = refused(predict.PredictPair, messages.PredictPairRequest(inputs=["a"]))
        assert one.code() is grpc.StatusCode.INVALID_ARGUMENT
    with serving({"c": FakeModel(gives=("scores",), labels=("x", "y"))}) as (_, channel):
        predict = services.PredictStub(channel)
        asked = messages.PredictRequest(inputs="a" * 20, raw_scores=True)
        found = [(each.label, each.score) for each in predict.Predict(asked).predictions]
        assert found == [("x", 2.0), ("y", 1.0)]


def test_no_message_in_a_stream_to_rank(stubs: tuple[Any, Any], channel: grpc.Channel) -> None:
    _, services = stubs
    error = refused(services.RerankStub(channel).RerankStream, iter(()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("request_fields", "fails", "code", "words"),
    [
        ({"inputs": ""}, None, "INVALID_ARGUMENT", "empty"),
        ({"inputs": LONG}, None, "INVALID_ARGUMENT", "tokens"),
        ({"inputs": "a", "prompt_name": "nope"}, None, "INVALID_ARGUMENT", "nope"),
        ({"inputs": "a"}, Overloaded("full"), "RESOURCE_EXHAUSTED", "full"),
        ({"inputs": "a"}, ModelError("broken"), "INTERNAL", "broken"),
    ],
)
def test_refusals(
    stubs: tuple[Any, Any],
    channel: grpc.Channel,
    model: FakeModel,
    request_fields: dict[str, Any],
    fails: Any,
    code: str,
    words: str,
) -> None:
    messages, services = stubs
    model.fails = fails
    error = refused(services.EmbedStub(channel).Embed, messages.EmbedRequest(**request_fields))
    assert error.code() is grpc.StatusCode[code]
    assert words in error.details()


def test_a_model_is_named_in_the_metadata(stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    one, other = FakeModel(), FakeModel()
    with serving({"one": one, "other": other}) as (_, channel):
        asked = messages.EmbedRequest(inputs="a")
        services.EmbedStub(channel).Embed(asked, metadata=(("model", "other"),))
        assert (len(one.asked), len(other.asked)) == (0, 1)
        error = refused(services.EmbedStub(channel).Embed, asked, metadata=(("model", "third"),))
        assert error.code() is grpc.StatusCode.NOT_FOUND


def test_keys_guard_it_and_health_is_open(stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    key = "k" * 20
    guard = Guard(keys=KeyRing(None, {"LIKEWISE_API_KEY": (key, False)}))
    with serving({"m": FakeModel()}, guard=guard) as (_, channel):
        embed = services.EmbedStub(channel).Embed
        asked = messages.EmbedRequest(inputs="a")
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            error = refused(embed, asked, metadata=metadata)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "key" in error.details()
        assert embed(asked, metadata=(("authorization", f"Bearer {key}"),)).embeddings
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_health_and_reflection(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tei.v1.Embed"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    error = refused(health.Check, health_pb2.HealthCheckRequest(service="nope"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    watched = health.Watch(health_pb2.HealthCheckRequest(service="tei.v1.Info"))
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    watched.cancel()
    listed = ProtoReflectionDescriptorDatabase(channel)
    assert {"tei.v1.Embed", "tei.v1.Tokenize", "grpc.health.v1.Health"} <= set(
        listed.get_services()
    )
    described = listed.FindFileContainingSymbol("tei.v1.EmbedRequest")
    assert described.package == "tei.v1"


def test_a_call_is_counted_as_a_request(stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    with serving({"m": FakeModel()}) as (app, channel):
        services.EmbedStub(channel).Embed(messages.EmbedRequest(inputs="a"))
        metrics = wait_until(
            lambda: next(
                (
                    line
                    for line in TestClient(app).get("/metrics").text.splitlines()
                    if line.startswith("te_embed_success") and line.endswith(" 1.0")
                ),
                None,
            ),
            what="the count of the call",
        )
        assert metrics


def test_a_caller_that_goes_gives_up_its_work(stubs: tuple[Any, Any]) -> None:
    messages, services = stubs
    held = threading.Event()
    model = FakeModel(held=held)
    with serving({"m": model}) as (_, channel):
        try:
            call = services.EmbedStub(channel).Embed.future(messages.EmbedRequest(inputs="a"))
            wait_until(lambda: model.futures, what="the work")
            call.cancel()
            wait_until(lambda: model.futures[0].cancelled(), what="its end")
        finally:
            held.set()


def test_no_more_than_so_many_are_done_at_a_time() -> None:
    running, most = 0, 0

    async def do(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        running -= 1
        return number

    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    async def together() -> list[int]:
        return [each async for each in in_order(numbers(), do, 4)]

    assert asyncio.run(together()) == list(range(100))
    # Those that wait, the one that is handed over, and the one that waits to be put there.
    assert 1 < most <= 6
