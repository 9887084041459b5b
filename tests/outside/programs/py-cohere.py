"""cohere."""

import cohere
from report import EMBEDDER, KEY, QUERY, RERANKER, TEXTS, URL, ranking, vectors

client = cohere.ClientV2(api_key=KEY, base_url=URL)
found = client.embed(
    model=EMBEDDER, texts=TEXTS, input_type="search_document", embedding_types=["float"]
)
vectors("v2 embed", found.embeddings.float_)
found = client.rerank(model=RERANKER, query=QUERY, documents=TEXTS)
ranking("v2 rerank", [each.index for each in found.results])
old = cohere.Client(api_key=KEY, base_url=URL)
vectors("v1 embed", old.embed(model=EMBEDDER, texts=TEXTS, input_type="search_query").embeddings)
found = old.rerank(model=RERANKER, query=QUERY, documents=TEXTS)
ranking("v1 rerank", [each.index for each in found.results])
