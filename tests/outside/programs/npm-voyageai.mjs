// voyageai
import { VoyageAIClient } from "voyageai";
import { EMBEDDER, KEY, QUERY, RERANKER, TEXTS, URL_, ranking, vectors } from "./report.mjs";

const client = new VoyageAIClient({ apiKey: KEY, environment: `${URL_}/v1` });
const found = await client.embed({ model: EMBEDDER, input: TEXTS });
vectors("embed", found.data.map((each) => each.embedding));
const ranked = await client.rerank({ model: RERANKER, query: QUERY, documents: TEXTS });
ranking("rerank", ranked.data.map((each) => each.index));
