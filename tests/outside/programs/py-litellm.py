"""litellm."""

import litellm
from report import EMBEDDER, KEY, QUERY, RERANKER, TEXTS, URL, ranking, vectors

litellm.telemetry = False


def rows(found):
    return [each["embedding"] for each in found.data]


OPENAI = {"api_base": f"{URL}/v1", "api_key": KEY}
vectors("embedding openai/", rows(litellm.embedding(f"openai/{EMBEDDER}", TEXTS, **OPENAI)))
vectors(
    "embedding hosted_vllm/", rows(litellm.embedding(f"hosted_vllm/{EMBEDDER}", TEXTS, **OPENAI))
)
vectors("embedding ollama/", rows(litellm.embedding(f"ollama/{EMBEDDER}", TEXTS, api_base=URL)))
found = litellm.embedding(f"infinity/{EMBEDDER}", TEXTS, api_base=URL, api_key=KEY)
vectors("embedding infinity/", rows(found))
for provider, base in (
    ("cohere", f"{URL}/v1/rerank"),
    ("jina_ai", f"{URL}/v1/rerank"),
    ("hosted_vllm", URL),
    ("infinity", URL),
):
    # infinity's documents are texts where those of the others are objects, at one path; LiteLLM
    # asks for them unless told not to.
    more = {"return_documents": False} if provider == "infinity" else {}
    found = litellm.rerank(
        f"{provider}/{RERANKER}", QUERY, TEXTS, api_base=base, api_key=KEY, top_n=len(TEXTS), **more
    )
    ranking(f"rerank {provider}/", [each["index"] for each in found.results])
