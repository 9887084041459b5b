"""pydantic-ai."""

from pydantic_ai import Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.providers.openai import OpenAIProvider
from report import EMBEDDER, KEY, TEXTS, URL, vectors

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
client = Embedder(OpenAIEmbeddingModel(EMBEDDER, provider=provider))
vectors("embed_documents_sync", client.embed_documents_sync(TEXTS).embeddings)
vectors("embed_query_sync", [client.embed_query_sync(each).embeddings[0] for each in TEXTS])
