// openai
import OpenAI from "openai";
import { EMBEDDER, KEY, TEXTS, URL_, value, vectors } from "./report.mjs";

const client = new OpenAI({ baseURL: `${URL_}/v1`, apiKey: KEY });
let found = await client.embeddings.create({ model: EMBEDDER, input: TEXTS });
vectors("embeddings.create", found.data.map((each) => each.embedding));
found = await client.embeddings.create({ model: EMBEDDER, input: TEXTS, encoding_format: "float" });
vectors("embeddings.create, float", found.data.map((each) => each.embedding));
const listed = await client.models.list();
value("models.list", listed.data.some((each) => each.id.includes(EMBEDDER)));
try {
  await client.embeddings.create({ model: "nothing-here", input: "x" });
} catch (error) {
  value("an unknown model is NotFoundError", error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
}
