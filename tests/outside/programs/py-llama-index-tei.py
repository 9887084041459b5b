"""llama-index-embeddings-text-embeddings-inference."""

from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from report import EMBEDDER, TEXTS, URL, vectors

client = TextEmbeddingsInference(model_name=EMBEDDER, base_url=URL)
client.text_instruction = client.query_instruction = ""
vectors("get_text_embedding_batch", client.get_text_embedding_batch(TEXTS))
vectors("get_query_embedding", [client.get_query_embedding(each) for each in TEXTS])
