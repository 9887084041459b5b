"""infinity-client."""

from infinity_client import Client
from infinity_client.api.default import embeddings, health, models, rerank
from infinity_client.models import OpenAIEmbeddingInputText, RerankInput
from report import EMBEDDER, QUERY, RERANKER, TEXTS, URL, ranking, value, vectors

client = Client(base_url=URL, raise_on_unexpected_status=True)
found = embeddings.sync(client=client, body=OpenAIEmbeddingInputText(input_=TEXTS, model=EMBEDDER))
vectors("embeddings", [each.embedding for each in found.data])
found = rerank.sync(client=client, body=RerankInput(query=QUERY, documents=TEXTS, model=RERANKER))
ranking("rerank", [each.index for each in found.results])
value("models", any(each.id and EMBEDDER in each.id for each in models.sync(client=client).data))
value("health", health.sync(client=client)["unix"] > 0)
