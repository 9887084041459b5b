// @huggingface/inference
import { InferenceClient } from "@huggingface/inference";
import { TEXTS, URL_, value, vectors } from "./report.mjs";

const client = new InferenceClient(undefined, { endpointUrl: URL_ });
vectors("featureExtraction", await client.featureExtraction({ inputs: TEXTS }));
const [source_sentence, ...sentences] = TEXTS;
const scores = await client.sentenceSimilarity({ inputs: { source_sentence, sentences } });
value("sentenceSimilarity", scores.length === sentences.length && scores.every((each) => Math.abs(each) <= 1));
