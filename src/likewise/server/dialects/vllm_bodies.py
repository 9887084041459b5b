"""What vLLM's pooling routes are sent and answer."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from likewise.server.dialects.scoring import By, Options

Side = str | dict[str, Any] | list[str | dict[str, Any]]
Inputs = str | list[str | int | list[int]]
Task = Literal["embed", "classify", "score", "token_embed", "token_classify", "plugin"]


class ScoreRequest(Options, kw_only=True):
    """The body of `POST /score`: one of the first four names, one of the others; `by` is ours."""

    text_1: Side | None = None
    queries: Side | None = None
    query: Side | None = None
    data_1: Side | None = None
    text_2: Side | None = None
    documents: Side | None = None
    items: Side | None = None
    data_2: Side | None = None
    use_activation: bool | None = None
    by: By | None = None


class ClassifyRequest(Options, kw_only=True):
    """The body of `POST /classify`; with `raw_scores` the answer has infinity's shape."""

    input: Inputs
    use_activation: bool | None = None
    raw_scores: bool | None = None


class PoolingRequest(Options, kw_only=True):
    """The body of `POST /pooling`."""

    input: Inputs | None = None
    messages: list[Any] | None = None
    data: Any = None
    task: Task | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    normalize: bool | None = None
    use_activation: bool | None = None


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /tokenize`."""

    prompt: str | None = None
    messages: list[Any] | None = None
    model: str | None = None
    add_special_tokens: bool = True
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /detokenize`."""

    tokens: list[int]
    model: str | None = None


class Listing(TypedDict):
    """What scores, classes and pooled outputs are answered in."""

    id: str
    object: Literal["list", "classify"]
    created: int
    model: str
    data: list[Any]
    usage: dict[str, int]
    truncated: NotRequired[list[int]]


class Tokens(TypedDict):
    """What `POST /tokenize` answers."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(TypedDict):
    """What `POST /detokenize` answers."""

    prompt: str
