"""ollama."""

import ollama
from report import EMBEDDER, TEXTS, URL, value, vectors

client = ollama.Client(host=URL)
vectors("embed", client.embed(model=EMBEDDER, input=TEXTS).embeddings)
vectors("embeddings", [client.embeddings(model=EMBEDDER, prompt=each).embedding for each in TEXTS])
value("list", any(EMBEDDER in each.model for each in client.list().models))
value("show", "embedding" in (client.show(EMBEDDER).capabilities or []))
value("ps", any(EMBEDDER in each.model for each in client.ps().models))
value("pull of what is there", client.pull(EMBEDDER).status == "success")
value("unload", client.embed(model=EMBEDDER, input=[], keep_alive=0).embeddings == [])
vectors("embed after unloading", client.embed(model=EMBEDDER, input=TEXTS).embeddings)
