"""langchain-ollama."""

from langchain_ollama import OllamaEmbeddings
from report import EMBEDDER, TEXTS, URL, vectors

client = OllamaEmbeddings(model=EMBEDDER, base_url=URL, validate_model_on_init=True)
vectors("embed_documents", client.embed_documents(TEXTS))
vectors("embed_query", [client.embed_query(each) for each in TEXTS])
client = OllamaEmbeddings(model=EMBEDDER, base_url=URL, num_ctx=256, temperature=0, keep_alive=60)
vectors("embed_documents with options", client.embed_documents(TEXTS))
