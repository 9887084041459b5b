"""txtai."""

from report import EMBEDDER, KEY, TEXTS, URL, value, vectors
from txtai import Embeddings

client = Embeddings(
    path=f"openai/{EMBEDDER}",
    method="litellm",
    content=True,
    vectors={"api_base": f"{URL}/v1", "api_key": KEY},
)
vectors("batchtransform", client.batchtransform(TEXTS))
client.index(TEXTS)
value("a search finds its own text", client.search(TEXTS[1], 1)[0]["text"] == TEXTS[1])
