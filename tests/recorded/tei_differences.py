"""Where this server answers otherwise than TEI on purpose; docs/tei.md prints this table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.recorded.tei_replay import Answer, Recorded

Seen = Callable[[Recorded, Answer], bool]

LIMIT = 32
"""Inputs that TEI takes in one request unless told otherwise."""

_OPENAI = ("/v1/embeddings", "/embeddings")
_NULLS = (
    "normalize", "raw_scores", "return_text", "add_special_tokens", "skip_special_tokens",
    "truncation_direction",
)  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """One difference: how it shows (`tei_replay.verdict`), in which requests, and why it is."""

    verdicts: tuple[str, ...]
    seen: Seen
    request: str
    theirs: str
    ours: str
    why: str

    def covers(self, row: Recorded, answer: Answer, verdict: str) -> bool:
        """Whether this is what differs there."""
        return verdict in self.verdicts and self.seen(row, answer)

    def row(self) -> str:
        """A line of the table."""
        return f"| {self.request} | {self.theirs} | {self.ours} | {self.why} |"


def _at(*paths: str) -> Seen:
    return lambda row, _: row.path in paths


def _has(row: Recorded, *names: str) -> bool:
    return isinstance(row.asked, dict) and any(name in row.asked for name in names)


def _longest_list(asked: Any) -> int:
    if isinstance(asked, dict):
        return max(map(_longest_list, asked.values()), default=0)
    return len(asked) if isinstance(asked, list) else 0


def _is_many(row: Recorded, _: Answer) -> bool:
    return _longest_list(row.asked) >= LIMIT


def _has_null(row: Recorded, _: Answer) -> bool:
    asked = row.asked
    return isinstance(asked, dict) and any(asked.get(name, 0) is None for name in _NULLS)


def _has_ids(row: Recorded, _: Answer) -> bool:
    given = row.asked.get("inputs", row.asked.get("input")) if isinstance(row.asked, dict) else None
    return isinstance(given, list) and any(isinstance(one, int | list) for one in given)


def _is_empty(row: Recorded, _: Answer) -> bool:
    text = (row.body or b"").replace(b" ", b"")
    return any(one in text for one in (b'""', b"[]", b"[[]]"))


def _is_wrong_kind(row: Recorded, _: Answer) -> bool:
    return row.status == 424


def _is_long(row: Recorded, _: Answer) -> bool:
    return len(row.body or b"") > 300


KEPT: tuple[Kept, ...] = (
    Kept(
        ("words",), lambda row, _: row.is_text or row.answer is None,
        "a body that can't be read, another method, an unknown path",
        "plain text, or nothing", "JSON, as every other error; the status is TEI's",
        "clients show what stands in `error`",
    ),
    Kept(
        ("shape",), _at("/health", "/health?x=1", "/ping"),
        "`GET /health`, `/ping`", "nothing", "JSON: models, engines, troubles",
        "probes read the status alone, people the rest",
    ),
    Kept(
        ("more",), _at("/info"),
        "`GET /info`", "15 fields", "these, and how the model runs",
        "it says which engine and precision gave the vectors",
    ),
    Kept(
        ("shape",), _at("/api-doc/openapi.json"),
        "`GET /api-doc/openapi.json`", "OpenAPI 3.0 of 12 paths", "OpenAPI 3.1 of all routes",
        "it is made from the routes; classes that are generated from it have other names",
    ),
    Kept(
        ("taken",), _at("/v1/models"),
        "`GET /v1/models`", "404", "the list of models", "clients of OpenAI ask for it",
    ),
    Kept(
        ("more",), _at(*_OPENAI),
        "`/v1/embeddings`", "no `id`, `created`; errors of three fields",
        "these too; errors have OpenAI's `error` and `detail` beside `message`, `code` and `type`",
        "clients of OpenAI, vLLM, Jina and Voyage read them",
    ),
    Kept(
        ("status",), lambda row, answer: row.path in _OPENAI and answer.status == 400,
        "`/v1/embeddings` with what can't be answered", "422", "400",
        "OpenAI's status: its clients have a class of error for it",
    ),
    Kept(
        ("taken", "status"), _is_many,
        "more than 32 inputs", "422 unless `--max-client-batch-size` allows them",
        "answered, up to `max_batch_inputs` (2,048)", "a server that takes more breaks no client",
    ),
    Kept(
        ("taken",), _has_null,
        "`null` for a boolean or `truncation_direction`", "400 or 422", "as if left out",
        "many clients write every field that is not set as null",
    ),
    Kept(
        ("taken", "status"),
        lambda row, _: row.status == 415,
        "a body of another content type, or of none", "415", "read as JSON; an empty one is 400",
        "`curl -d` says it is a form",
    ),
    Kept(
        ("status",), lambda row, answer: answer.status == 415,
        "`Content-Encoding: gzip`", "400", "415, with words",
        "compressed bodies are not read: a small one can become any size",
    ),
    Kept(
        ("status",), lambda row, answer: row.status == 400 and answer.status == 422,
        "`truncation_direction` that is no text; JSON nested too deeply", "400", "422",
        "the JSON can be read, and has another shape than is wanted, which is 422 elsewhere",
    ),
    Kept(
        ("status",), lambda row, answer: "valid UTF-8" in str(answer.content),
        "bytes that aren't UTF-8, where a field is missing too", "422", "400",
        "400 as for every other body that isn't JSON",
    ),
    Kept(
        ("refused",), lambda row, answer: "trailing" in str(answer.content),
        "something after the JSON", "ignored", "400",
        "of two objects in one body one would be lost",
    ),
    Kept(
        ("refused",), lambda row, _: _has(row, "model") and not isinstance(row.asked["model"], str),
        "`model` that is no text", "ignored", "422", "a model is chosen by it",
    ),
    Kept(
        ("refused",), lambda row, _: _has(row, "dimensions"),
        "`dimensions` on a model that wasn't trained for it", "cut, length 1 again", "422, 400",
        "such vectors find other texts; who knows better says so ([models.md](models.md))",
    ),
    Kept(
        ("refused", "status"), lambda row, answer: "holds token id" in str(answer.content),
        "a token id that the model doesn't have", "left out; where none is left the process ends",
        "422", "the vector would be that of another text",
    ),
    Kept(
        ("refused",), lambda row, answer: row.path in _OPENAI and _has_ids(row, answer),
        "`/v1/embeddings` with texts and token ids in one list", "200", "400", "as OpenAI",
    ),
    Kept(
        ("numbers", "shape"), _has_ids,
        "token ids without special tokens", "computed without them", "computed with them",
        "the vector is the text's",
    ),
    Kept(
        ("numbers",), lambda row, _: row.path in _OPENAI and _has(row, "normalize"),
        "`normalize: false` on `/v1/embeddings`", "ignored: length 1", "followed",
        "other servers of this route follow it",
    ),
    Kept(
        ("numbers", "shape"),
        lambda row, _: row.kind == "splade" and row.path in ("/embed_sparse", "/similarity"),
        "several texts to a SPLADE model", "values depend on the other texts",
        "each as if it were alone", "TEI's padding counts as text there",
    ),
    Kept(
        ("numbers", "shape"),
        lambda row, _: row.kind in ("rerank", "classify") and _is_long(row, _),
        "a long text to a cross-encoder", "`max_position_embeddings` tokens are read",
        "as many as its `tokenizer_config.json` says", "as sentence-transformers",
    ),
    Kept(
        ("numbers",), lambda row, _: row.kind == "rerank" and row.path == "/rerank",
        "equal scores of `/rerank`", "the later text first", "the earlier first",
        "the order in which they were sent",
    ),
    Kept(
        ("shape",), lambda row, _: _has(row, "parameters"),
        "`/predict` with `parameters`", "a flat list", "a list of lists",
        "huggingface_hub's client takes the first element of it",
    ),
    Kept(
        ("shape",), lambda row, _: _has(row, "top_n"),
        "`top_n` on `/rerank`", "ignored", "followed", "it asks for fewer results",
    ),
    Kept(
        ("taken",), lambda row, _: row.path in _OPENAI and row.asked.get("dimensions") == 0,
        "`dimensions: 0` on `/v1/embeddings`", "422", "the model's width",
        "infinity's client always sends it",
    ),
    Kept(
        ("taken",), lambda row, _: row.path == "/embed_all" and row.status == 424,
        "`/embed_all` on a model without dense vectors", "424", "its hidden states",
        "it has them, and is asked for them",
    ),
    Kept(
        ("taken",), lambda row, _: row.path == "/tokenize" and _is_empty(row, _),
        "`/tokenize` with an empty text", "400", "its special tokens",
        "nothing is wrong with it",
    ),
    Kept(
        ("taken",), lambda row, _: row.path == "/tokenize" and _is_long(row, _),
        "a text of more than 250 characters for each token of the limit",
        "422", "read", "no such limit is needed here",
    ),
    Kept(
        ("taken", "status"), lambda row, _: _has(row, "documents", "prompt"),
        "bodies of other dialects on `/rerank`, `/tokenize`", "422",
        "answered, or refused, in their dialect", "several dialects share the path",
    ),
    Kept(
        ("taken", "status"), lambda row, _: row.path in ("/", "/invocations") and row.status == 422,
        "`/` and `/invocations` with a body of another task than the model's", "422",
        "the task that the body is for, where the model can do it", "the body says what is asked",
    ),
    Kept(
        ("status",), lambda row, _: _is_wrong_kind(row, _) and not _has_ids(row, _),
        "a request with two faults, on a model of another kind", "424", "400 or 422",
        "the input is looked at first, before a model is loaded for it",
    ),
    Kept(
        ("status",), lambda row, _: row.path == "/predict" and _is_empty(row, _),
        "`/predict` with `[]`, `[[]]`", "422", "400 `Empty`", "as every other empty input",
    ),
)  # fmt: skip


def table() -> str:
    """The table as the page has it."""
    head = "| request | TEI | here | why |\n|---|---|---|---|"
    return "\n".join([head, *(kept.row() for kept in KEPT)])
