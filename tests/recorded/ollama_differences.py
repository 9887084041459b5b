"""Where this server answers otherwise than Ollama on purpose; docs/ollama.md prints this table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """One difference: the recorded requests that it is seen in, and how the page says it."""

    names: frozenset[int]
    request: str
    theirs: str
    ours: str
    why: str
    seen: str
    """A pattern of what differs there, and nothing else may."""

    def row(self) -> str:
        """A line of the table."""
        return f"| {self.request} | {self.theirs} | {self.ours} | {self.why} |"


def _kept(
    names: tuple[int, ...], seen: str, request: str, theirs: str, ours: str, why: str
) -> Kept:
    return Kept(frozenset(names), request, theirs, ours, why, seen)


KEPT = (
    _kept(
        (4, 14, 15, 16),
        r"content-type: ",
        "a method that a path doesn't take",
        "405 as plain text",
        '405 as `{"error": ...}`',
        "the text says which methods the path takes, where clients look for errors",
    ),
    _kept(
        (11,),
        r"status 200, not 405",
        "`HEAD /api/ps`",
        "405",
        "200",
        "`HEAD` answers as `GET` does, on every path",
    ),
    _kept(
        (23, 25),
        r"status 421, not 403",
        "a `Host` that isn't local",
        "403 with no body",
        "421 with words",
        "the message names the setting that allows the host",
    ),
    _kept(
        (45, 118, 132, 133, 217, 246),
        r"status 200, not 40[04]",
        "no `model`",
        "400 or 404",
        "the model that can do what is asked",
        "there is nothing to choose where only one can, and `--default-model` settles the rest",
    ),
    _kept(
        (116,),
        r"status 400, not 404",
        "`null` as the whole body",
        "404",
        "400",
        "a body that isn't an object is the fault, not a model",
    ),
    _kept(
        (77,),
        r"status 400, not 200",
        "texts in a field that isn't read, such as `prompt` on `/api/embed`",
        "200 without vectors",
        "400 that names the field",
        "a program would go on with no vectors",
    ),
    _kept(
        (99, 109),
        r"status 400, not 200",
        "a field twice",
        "the last one counts",
        "400",
        "a proxy or filter that looked at the first saw another request",
    ),
    _kept(
        (82, 243),
        r"_count is|_tokens is|embedding.* begins|has .*truncated|body\.model is",
        "a text longer than the model's files say (256 tokens for all-MiniLM-L6-v2)",
        "512 tokens are read",
        "256 are read, and headers tell that it was cut",
        "the model was trained and measured so; what is in between has another vector",
    ),
    _kept(
        (91, 230),
        r"status 400, not 200",
        "`dimensions` that the model wasn't trained for",
        "cut, length 1",
        "400",
        "such a vector finds worse, and nothing in it tells",
    ),
    _kept(
        (232,),
        r"status 400, not 200",
        "`dimensions` above the model's on `/v1/embeddings`",
        "ignored",
        "400",
        "OpenAI refuses it, and the route is OpenAI's; `/api/embed` ignores it as Ollama does",
    ),
    _kept(
        (120, 121),
        r"prompt_eval_count is 2, not 3",
        "bytes or escapes that are no character",
        "U+FFFD, read as an unknown word",
        "U+FFFD, and a warning in a header",
        "BERT's tokenizer takes U+FFFD away, so that the counts differ",
    ),
    _kept(
        (140, 143, 144, 157),
        r"status 200, not 404",
        "other names of the model that is served",
        "404",
        "200",
        "they name the same weights",
    ),
    _kept(
        (154,),
        r"status 404, not 502",
        "a tag of Ollama's cloud",
        "502",
        "404",
        "no model is asked elsewhere",
    ),
    _kept(
        (178,),
        r"status 200, not 500",
        "`stop` as a text in `options`",
        "500",
        "200",
        "it changes no vector",
    ),
    _kept(
        (184,),
        r"status 200, not 400",
        "`options` as an empty list",
        "400",
        "200",
        "PHP writes an object without fields so",
    ),
    _kept(
        (222, 223, 244, 245, 248),
        r"body has \['created', 'id'\]|body\.model is",
        "the answer of `/v1/embeddings`",
        "`model` as it was asked",
        "`model` in full, with `id` and `created`",
        "the route is OpenAI's, which names the model that answered; vLLM sends the other two",
    ),
    _kept(
        (224, 228, 229),
        r"status 400, not 200",
        "an empty text on `/v1/embeddings`",
        "a vector",
        "400",
        "OpenAI refuses it; `/api/embed` takes it inside a list, as Ollama does",
    ),
    _kept(
        (235,),
        r"status 400, not 200",
        "`encoding_format` in capitals",
        "taken",
        "400",
        "OpenAI knows only `float` and `base64`",
    ),
    _kept(
        (237, 242, 250, 251),
        r"error\.code is str, not NoneType|error\.param is str, not NoneType|body has \[.*'detail'",
        "an error of `/v1`",
        "`param` and `code` are null",
        "texts, and the top has the message again",
        "OpenAI's clients tell errors apart by them; those of Jina, Voyage and TEI look at the top",
    ),
    _kept(
        (252,),
        r"body\.data has another length|body has \['models'\]",
        "`/v1/models`",
        "one line a model",
        "a line for each name of a model, with more fields, and `models` beside `data`",
        "programs look for the name that they use, for a model's length and kind, and for `models`",
    ),
    _kept(
        (262,),
        r"status 404, not 400",
        "`/v1/completions`",
        "400",
        "404",
        "nothing is generated here",
    ),
)
