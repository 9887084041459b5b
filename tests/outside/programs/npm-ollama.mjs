// ollama
import { Ollama } from "ollama";
import { EMBEDDER, TEXTS, URL_, value, vectors } from "./report.mjs";

const client = new Ollama({ host: URL_ });
vectors("embed", (await client.embed({ model: EMBEDDER, input: TEXTS })).embeddings);
const rows = [];
for (const text of TEXTS) rows.push((await client.embeddings({ model: EMBEDDER, prompt: text })).embedding);
vectors("embeddings", rows);
value("list", (await client.list()).models.some((each) => each.name.includes(EMBEDDER)));
value("show", (await client.show({ model: EMBEDDER })).capabilities.includes("embedding"));
value("ps", (await client.ps()).models.some((each) => each.name.includes(EMBEDDER)));
const steps = [];
for await (const step of await client.pull({ model: EMBEDDER, stream: true })) steps.push(step.status);
value("pull of what is there", steps.at(-1) === "success");
