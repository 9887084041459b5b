// cohere-ai
import { CohereClientV2 } from "cohere-ai";
import { EMBEDDER, KEY, QUERY, RERANKER, TEXTS, URL_, ranking, vectors } from "./report.mjs";

const client = new CohereClientV2({ token: KEY, environment: URL_ });
const found = await client.embed({
  model: EMBEDDER, texts: TEXTS, inputType: "search_document", embeddingTypes: ["float"],
});
vectors("v2 embed", found.embeddings.float);
const ranked = await client.rerank({ model: RERANKER, query: QUERY, documents: TEXTS });
ranking("v2 rerank", ranked.results.map((each) => each.index));
