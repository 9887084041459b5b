"""langchain-openai."""

from langchain_openai import OpenAIEmbeddings
from report import EMBEDDER, KEY, TEXTS, URL, vectors

given = {"model": EMBEDDER, "base_url": f"{URL}/v1", "api_key": KEY}
client = OpenAIEmbeddings(check_embedding_ctx_length=False, **given)
vectors("embed_documents", client.embed_documents(TEXTS))
vectors("embed_query", [client.embed_query(each) for each in TEXTS])
