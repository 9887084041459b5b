"""Libraries that speak OpenAI's dialect, each as its users set it up, against a real server."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from likewise.runtime.service import Service
from tests.dialects.conftest import NAME, serving
from tests.unit.server.fakes import FakeModel, by_hand

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

TEXTS = ["a cat", "ein Hund", "🦊 le renard", "two\nlines"]


@pytest.fixture(scope="module", autouse=True)
def surroundings() -> Iterator[None]:
    """An event loop for those that want one and don't close it; and their connections closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with pytest.MonkeyPatch.context() as patch:
        # Litellm otherwise fetches a table of prices when it is imported.
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        yield
    asyncio.set_event_loop(None)
    loop.close()
    litellm.in_memory_llm_clients_cache.flush_cache()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def close(got: Any, model: Service, texts: list[str]) -> None:
    found = np.array(got, np.float32)
    np.testing.assert_allclose(found, model.embed(texts), atol=1e-5)


def test_langchain(base_url: str, model: Service) -> None:
    import openai
    from langchain_openai import OpenAIEmbeddings

    def asking(name: str) -> Any:
        return OpenAIEmbeddings(
            model=name,
            base_url=f"{base_url}/v1",
            api_key="none",  # type: ignore[arg-type]
            check_embedding_ctx_length=False,
            max_retries=0,
        )

    found = asking(NAME)
    close(found.embed_documents(TEXTS), model, TEXTS)
    close([found.embed_query(TEXTS[2])], model, [TEXTS[2]])
    with pytest.raises(openai.NotFoundError, match="isn't served here"):
        asking("text-embedding-3-small").embed_query("a")


def test_langchain_with_the_models_own_tokenizer(
    base_url: str, model: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cuts long texts itself, with the tokenizer of the folder, and sends the pieces."""
    from langchain_openai import OpenAIEmbeddings

    found = OpenAIEmbeddings(
        model=NAME,
        base_url=f"{base_url}/v1",
        api_key="none",  # type: ignore[arg-type]
        tiktoken_enabled=False,
        embedding_ctx_length=100,
        max_retries=0,
    )
    import transformers

    def own(*args: object, **options: object) -> Any:
        return transformers.PreTrainedTokenizerFast.from_pretrained(str(model.card.folder))

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", own)
    short = ["a cat", "two dogs"]
    close(found.embed_documents(short), model, short)


def test_llama_index(base_url: str, model: Service) -> None:
    import openai
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    def asking(**options: Any) -> Any:
        return OpenAILikeEmbedding(
            model_name=NAME, api_base=f"{base_url}/v1", api_key="none", max_retries=0, **options
        )

    found = asking(embed_batch_size=2)
    lines = [text.replace("\n", " ") for text in TEXTS]
    close(found.get_text_embedding_batch(TEXTS), model, lines)
    close([found.get_query_embedding(TEXTS[0])], model, [TEXTS[0]])
    with pytest.raises(openai.BadRequestError, match="384"):
        asking(dimensions=100).get_text_embedding("a")


def test_litellm(base_url: str, model: Service) -> None:
    import litellm

    def asking(name: str, **options: Any) -> Any:
        return litellm.embedding(
            model=name, input=TEXTS, api_base=f"{base_url}/v1", api_key="none", max_retries=0,
            **options,
        )  # fmt: skip

    for provider in ("openai", "hosted_vllm"):
        found = asking(f"{provider}/{NAME}")
        close([each["embedding"] for each in found.data], model, TEXTS)
        assert found.usage.prompt_tokens > len(TEXTS)
    with pytest.raises(litellm.exceptions.NotFoundError, match="isn't served here"):
        asking("openai/nothing")
    with pytest.raises(litellm.exceptions.BadRequestError, match="384"):
        asking(f"openai/{NAME}", dimensions=100, allowed_openai_params=["dimensions"])


@pytest.mark.parametrize("provider", ["jina_ai", "voyage", "infinity"])
def test_litellm_as_the_client_of_others(base_url: str, model: Service, provider: str) -> None:
    import litellm

    found = litellm.embedding(
        model=f"{provider}/{NAME}",
        input=TEXTS,
        api_base=f"{base_url}/v1",
        api_key="none",
        dimensions=384,
    )
    close([each["embedding"] for each in found.data], model, TEXTS)


def encoded(wrapper: Any) -> Any:
    """What a model of mteb makes of the texts, in batches of three."""
    import mteb
    from datasets import Dataset
    from mteb._create_dataloaders import create_dataloader

    task = mteb.get_task("STSBenchmark").metadata
    batches = create_dataloader(
        Dataset.from_dict({"text": TEXTS}), task_metadata=task, input_column="text", batch_size=3
    )
    return wrapper.encode(
        batches, task_metadata=task, hf_split="test", hf_subset="default", show_progress_bar=False
    )


def test_mteb(base_url: str, model: Service) -> None:
    from mteb.models import OpenAIAPIEncodeWrapper

    found = OpenAIAPIEncodeWrapper(base_url, NAME, use_chat_template=False, max_retries=1)
    assert found.max_length == model.card.max_tokens
    close(encoded(found), model, TEXTS)
    # By default it sends messages, which this model has no template for.
    with pytest.raises(Exception, match="has no chat template"):
        encoded(OpenAIAPIEncodeWrapper(base_url, NAME, max_retries=1))


@pytest.fixture(scope="module")
def chatty_url() -> Iterator[str]:
    """A server whose model reads conversations."""
    with serving({"chatty": FakeModel()}) as address:
        yield address


def test_mteb_sends_several_conversations(chatty_url: str) -> None:
    from mteb.models import OpenAIAPIEncodeWrapper

    got = encoded(OpenAIAPIEncodeWrapper(chatty_url, "chatty", max_retries=1))
    want = np.stack([by_hand(f"<user>{text}") for text in TEXTS])
    np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=1e-6)
