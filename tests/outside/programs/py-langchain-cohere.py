"""langchain-cohere."""

from langchain_cohere import CohereEmbeddings, CohereRerank
from report import EMBEDDER, KEY, QUERY, RERANKER, TEXTS, URL, ranking, vectors

client = CohereEmbeddings(model=EMBEDDER, cohere_api_key=KEY, base_url=URL)
vectors("embed_documents", client.embed_documents(TEXTS))
vectors("embed_query", [client.embed_query(each) for each in TEXTS])
rerank = CohereRerank(model=RERANKER, cohere_api_key=KEY, base_url=URL, top_n=len(TEXTS))
ranking("rerank", [each["index"] for each in rerank.rerank(TEXTS, QUERY)])
