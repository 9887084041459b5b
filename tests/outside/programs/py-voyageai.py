"""voyageai."""

import voyageai
from report import EMBEDDER, KEY, QUERY, RERANKER, TEXTS, URL, ranking, vectors

client = voyageai.Client(api_key=KEY, base_url=f"{URL}/v1")
vectors("embed", client.embed(TEXTS, model=EMBEDDER, truncation=True).embeddings)
vectors("embed, document", client.embed(TEXTS, model=EMBEDDER, input_type="document").embeddings)
found = client.rerank(QUERY, TEXTS, model=RERANKER)
ranking("rerank", [each.index for each in found.results])
