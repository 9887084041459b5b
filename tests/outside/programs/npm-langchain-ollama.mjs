// @langchain/ollama
import { OllamaEmbeddings } from "@langchain/ollama";
import { EMBEDDER, TEXTS, URL_, vectors } from "./report.mjs";

const client = new OllamaEmbeddings({ model: EMBEDDER, baseUrl: URL_ });
vectors("embedDocuments", await client.embedDocuments(TEXTS));
const rows = [];
for (const text of TEXTS) rows.push(await client.embedQuery(text));
vectors("embedQuery", rows);
