"""llama-index-embeddings-ollama."""

from llama_index.embeddings.ollama import OllamaEmbedding
from report import EMBEDDER, TEXTS, URL, vectors

client = OllamaEmbedding(model_name=EMBEDDER, base_url=URL)
vectors("get_text_embedding_batch", client.get_text_embedding_batch(TEXTS))
vectors("get_query_embedding", [client.get_query_embedding(each) for each in TEXTS])
