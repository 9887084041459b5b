"""chromadb."""

import chromadb
from chromadb.utils import embedding_functions as functions
from report import EMBEDDER, KEY, TEXTS, URL, value, vectors

client = functions.OpenAIEmbeddingFunction(api_key=KEY, api_base=f"{URL}/v1", model_name=EMBEDDER)
vectors("OpenAIEmbeddingFunction", client(TEXTS))
vectors("HuggingFaceEmbeddingServer", functions.HuggingFaceEmbeddingServer(f"{URL}/embed")(TEXTS))
ollama = functions.OllamaEmbeddingFunction(url=URL, model_name=EMBEDDER)
vectors("OllamaEmbeddingFunction", ollama(TEXTS))
kept = chromadb.EphemeralClient().create_collection("texts", embedding_function=ollama)
kept.add(ids=[str(at) for at in range(len(TEXTS))], documents=TEXTS)
value("a query finds its own text", kept.query(query_texts=[TEXTS[1]])["ids"][0][0] == "1")
