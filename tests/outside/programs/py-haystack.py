"""haystack-ai."""

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret
from report import EMBEDDER, KEY, TEXTS, URL, vectors

given = {"api_base_url": f"{URL}/v1", "api_key": Secret.from_token(KEY), "model": EMBEDDER}
documents = [Document(content=each) for each in TEXTS]
found = OpenAIDocumentEmbedder(**given, progress_bar=False).run(documents)["documents"]
vectors("OpenAIDocumentEmbedder", [each.embedding for each in found])
client = OpenAITextEmbedder(**given)
vectors("OpenAITextEmbedder", [client.run(each)["embedding"] for each in TEXTS])
