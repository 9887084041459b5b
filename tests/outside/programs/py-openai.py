"""openai."""

import openai
from report import EMBEDDER, KEY, TEXTS, URL, value, vectors

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
found = client.embeddings.create(model=EMBEDDER, input=TEXTS)
vectors("embeddings.create", [each.embedding for each in found.data])
found = client.embeddings.create(model=EMBEDDER, input=TEXTS, encoding_format="float")
vectors("embeddings.create, float", [each.embedding for each in found.data])
value("models.list", any(EMBEDDER in each.id for each in client.models.list().data))
value("models.retrieve", client.models.retrieve(EMBEDDER).object == "model")
try:
    client.embeddings.create(model="nothing-here", input="x")
except openai.NotFoundError as error:
    value("an unknown model is NotFoundError", error.code == "model_not_found")
try:
    client.embeddings.create(model=EMBEDDER, input="")
except openai.BadRequestError:
    value("an empty text is BadRequestError", True)
