// What every program here is given, and how it says what it got: a line of JSON for each call.
export const {
  LIKEWISE_URL: URL_, LIKEWISE_EMBEDDER: EMBEDDER, LIKEWISE_RERANKER: RERANKER, LIKEWISE_QUERY: QUERY,
} = process.env;
export const TEXTS = JSON.parse(process.env.LIKEWISE_TEXTS);
export const KEY = "unused";

const line = (got) => console.log("RESULT " + JSON.stringify(got));
export const vectors = (call, rows) => line({ call, vectors: rows.map((row) => Array.from(row)) });
export const ranking = (call, order) => line({ call, ranking: order });
export const value = (call, given) => line({ call, value: Boolean(given) });
