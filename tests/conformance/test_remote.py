"""A model behind each kind of endpoint gives what it gives here: real servers, a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from likewise.base.errors import DimensionsError, EndpointError, InputTooLong, ModelNotFound
from likewise.client.embedder import RemoteEmbedder
from likewise.client.names import connected
from likewise.runtime import service
from likewise.runtime.service import Service
from tests.conformance.tiny import WORDS, write_bert
from tests.dialects.conftest import serving
from tests.remote_kit import without_key

NAME = "tiny"
FORMS = {"openai": f"openai:{NAME}@{{}}/v1", "tei": "tei:{}", "ollama": f"ollama:{NAME}@{{}}"}
TEXTS = [" ".join(WORDS[4 + (n * m) % 60] for m in range(1, 3 + n % 40)) for n in range(150)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = write_bert(tmp_path_factory.mktemp("model") / NAME)
    loaded = service.load(folder, name=NAME, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def url(model: Service) -> Iterator[str]:
    with serving({NAME: model}) as address:
        yield address


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, url: str) -> str:
    """An address of the model."""
    return FORMS[request.param].format(url)


def reached(address: str) -> RemoteEmbedder:
    return connected(address, without_key())


def test_the_vectors_are_those_of_the_model(form: str, model: Service) -> None:
    remote = reached(form + "?batch=32")
    found = remote.embed(TEXTS)
    remote.close()
    assert found.dtype == np.float32 and found.shape == (150, 32)
    np.testing.assert_allclose(found, model.embed(TEXTS), atol=1e-6)


def test_the_space_says_what_the_endpoint_says(form: str, model: Service) -> None:
    remote = reached(form)
    space = remote.space
    remote.close()
    assert (space.dimensions, space.normalised, space.model) == (32, True, form)
    kind = form.partition(":")[0]
    if kind == "openai":
        assert (space.weights, space.max_tokens) == ("openai:tiny", 512)
    else:
        assert (space.weights, space.max_tokens) == (f"{kind}:{model.space.weights}", 64)
    assert remote.embed([]).shape == (0, 32)


def test_a_moved_endpoint_is_the_same_space(form: str, model: Service, url: str) -> None:
    with serving({NAME: model}) as elsewhere:
        here, there = reached(form), reached(form.replace(url, elsewhere))
        assert here.space.fingerprint == there.space.fingerprint
        assert here.space.model != there.space.model
        here.close()
        there.close()


def test_other_weights_of_the_same_name_are_another_space(tmp_path: Path, url: str) -> None:
    other = service.load(write_bert(tmp_path / NAME, layer_norm_eps=1e-5), name=NAME)
    with serving({NAME: other}) as elsewhere:
        for kind in ("tei", "ollama"):
            here, there = reached(FORMS[kind].format(url)), reached(FORMS[kind].format(elsewhere))
            assert here.space.fingerprint != there.space.fingerprint
            here.close()
            there.close()
    other.close()


def test_prompts_go_before_texts(form: str, model: Service) -> None:
    remote = reached(form + "?query_prompt=w1%20w2%20&document_prompt=w3%20")
    wanted = model.embed(["w1 w2 w9", "w3 w9"])
    np.testing.assert_allclose(remote.embed(["w9"], kind="query"), wanted[:1], atol=1e-6)
    np.testing.assert_allclose(remote.embed(["w9"]), wanted[1:], atol=1e-6)
    plain = reached(form)
    assert plain.space.fingerprint != remote.space.fingerprint
    plain.close()
    remote.close()


def test_what_is_cut_fits_and_what_is_too_long_is_refused(form: str, model: Service) -> None:
    remote = reached(form + "?max_tokens=64")
    text = " ".join(WORDS[4 + n % 60] for n in range(500))
    (passages,) = remote.splitter("tokens:49/10")([text])
    parts = [text[each.start : each.end] for each in passages]
    assert len(parts) > 5
    np.testing.assert_allclose(remote.embed(parts), model.embed(parts), atol=1e-6)
    if not form.startswith("openai"):
        with pytest.raises(InputTooLong, match="64"):
            remote.embed([text])
        cut = remote.embed([text], overflow="cut")
        np.testing.assert_allclose(cut, model.embed([text]), atol=1e-6)
    remote.close()


def test_dimensions_that_it_cannot_give(form: str) -> None:
    # It wasn't trained for fewer; of Ollama's kind, more are taken as all there are.
    with pytest.raises((EndpointError, DimensionsError), match="dimensions"):
        reached(form + ("?dimensions=48" if form.startswith("ollama") else "?dimensions=16"))


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_a_model_that_is_not_there_is_said_with_those_that_are(kind: str, url: str) -> None:
    address = FORMS[kind].format(url).replace(NAME, "other", 1)
    with pytest.raises(ModelNotFound, match=rf"'?other'?.*it has: {NAME}"):
        reached(address)


def test_an_endpoint_of_another_kind(url: str) -> None:
    with pytest.raises(ModelNotFound, match="404"):
        reached(f"openai:{NAME}@{url}/v9")
