// @langchain/openai
import { OpenAIEmbeddings } from "@langchain/openai";
import { EMBEDDER, KEY, TEXTS, URL_, vectors } from "./report.mjs";

const client = new OpenAIEmbeddings({ model: EMBEDDER, apiKey: KEY, configuration: { baseURL: `${URL_}/v1` } });
vectors("embedDocuments", await client.embedDocuments(TEXTS));
const rows = [];
for (const text of TEXTS) rows.push(await client.embedQuery(text));
vectors("embedQuery", rows);
