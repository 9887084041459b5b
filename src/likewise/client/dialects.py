"""What each kind of endpoint is sent, what it answers, and how it says what it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from likewise.base.errors import EndpointGarbled, ModelUnsupported

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Overflow, Vectors
    from likewise.client.address import Address

Get = Callable[..., Any]
"""`get(path)` and `get(path, body)`: the JSON at that path of the endpoint, by GET or POST."""

USUAL_TOKENS = 512
"""What nearly every model reads; taken where neither address nor endpoint says how much it is."""
OLLAMA_TOKENS = 2048
"""What Ollama reads of a text unless it is asked for more."""


@dataclass(frozen=True, slots=True)
class About:
    """What an endpoint says of its model."""

    identity: str
    """Which model it is, wherever the endpoint is."""
    max_tokens: int = USUAL_TOKENS
    """Tokens that it reads of a text, special ones included."""
    most_texts: int = 128
    """In one request."""
    pooling: str = "unknown"


class Dialect(Protocol):
    """How one kind of endpoint is spoken to."""

    @property
    def path(self) -> str:
        """Where texts are sent, below the address's URL."""
        ...

    def ask(self, address: Address, texts: Sequence[str], overflow: Overflow) -> dict[str, Any]:
        """The body that asks for vectors of `texts`."""
        ...

    def read(self, answer: Any, count: int) -> Vectors:
        """The vectors of `count` texts, in the order of the texts; not checked for NaN.

        Raises:
            EndpointGarbled: the answer isn't that.
        """
        ...

    def about(self, address: Address, get: Get) -> About:
        """What the endpoint says of its model.

        Raises:
            ModelUnsupported: it gives no vectors.
            LikewiseError: it doesn't have it, or can't be asked.
        """
        ...

    def names(self, get: Get) -> list[str]:
        """The models that the endpoint has."""
        ...


class OpenAI:
    """`/embeddings`, as OpenAI and very many others have it."""

    path = "/embeddings"

    def ask(self, address: Address, texts: Sequence[str], overflow: Overflow) -> dict[str, Any]:
        """In base64: a quarter of the bytes, and no digit is lost. It can't be asked to cut."""
        del overflow
        body: dict[str, Any] = {
            "model": address.model,
            "input": list(texts),
            "encoding_format": "base64",
        }
        if address.dimensions is not None:
            body["dimensions"] = address.dimensions
        return body

    def read(self, answer: Any, count: int) -> Vectors:
        """By `index`; as base64, or as numbers where the endpoint doesn't know that."""
        rows = _field(answer, "data")
        if not isinstance(rows, list) or len(rows) != count:
            raise _miscounted(rows, count)
        placed: list[Any] = [None] * count
        for position, row in enumerate(rows):
            at = row.get("index", position) if isinstance(row, dict) else None
            if type(at) is not int or not 0 <= at < count or placed[at] is not None:
                raise EndpointGarbled(f"it numbers its {count} vectors otherwise than 0 to n - 1")
            placed[at] = _decoded(_field(row, "embedding"))
        return _matrix(placed, count)

    def about(self, address: Address, get: Get) -> About:
        """Nothing is asked: the protocol has no answer to what a model is, beyond its name."""
        del get
        asked = "" if address.dimensions is None else f"?dimensions={address.dimensions}"
        return About(f"openai:{address.model}{asked}")

    def names(self, get: Get) -> list[str]:
        """As `/models` lists them."""
        return _names(get("/models"), "data", "id")


class Tei:
    """`/embed` of Text Embeddings Inference."""

    path = "/embed"

    def ask(self, address: Address, texts: Sequence[str], overflow: Overflow) -> dict[str, Any]:
        """What the server itself does with a text that is too long isn't left to it."""
        body: dict[str, Any] = {"inputs": list(texts), "truncate": overflow == "cut"}
        if address.dimensions is not None:
            body["dimensions"] = address.dimensions
        return body

    def read(self, answer: Any, count: int) -> Vectors:
        """A list of vectors."""
        return _matrix(answer, count)

    def about(self, address: Address, get: Get) -> About:
        """From `/info`: the model's commit on the hub, else its name; its limits."""
        told = get("/info")
        kind = _field(told, "model_type")
        if not isinstance(kind, dict) or "embedding" not in kind:
            raise ModelUnsupported(
                f"{address.url} serves {told.get('model_id')}, which gives no vectors "
                f"(model_type {kind!r})"
            )
        name = told.get("model_sha") or told.get("model_id")
        if not isinstance(name, str) or not name:
            raise EndpointGarbled("/info has neither model_sha nor model_id")
        pooling = kind["embedding"].get("pooling") if isinstance(kind["embedding"], dict) else None
        return About(
            f"tei:{name}",
            _count(told.get("max_input_length"), USUAL_TOKENS),
            # 32 is what its router takes unless told otherwise.
            min(128, _count(told.get("max_client_batch_size"), 32)),
            str(pooling or "unknown"),
        )

    def names(self, get: Get) -> list[str]:
        """The one it has."""
        return [str(_field(get("/info"), "model_id"))]


class Ollama:
    """`/api/embed` of Ollama."""

    path = "/api/embed"

    def ask(self, address: Address, texts: Sequence[str], overflow: Overflow) -> dict[str, Any]:
        """More tokens than usual are read when it is told so with the request."""
        body: dict[str, Any] = {
            "model": address.model,
            "input": list(texts),
            "truncate": overflow == "cut",
        }
        if address.dimensions is not None:
            body["dimensions"] = address.dimensions
        if address.max_tokens is not None:
            body["options"] = {"num_ctx": address.max_tokens}
        return body

    def read(self, answer: Any, count: int) -> Vectors:
        """The field `embeddings`."""
        return _matrix(_field(answer, "embeddings"), count)

    def about(self, address: Address, get: Get) -> About:
        """Its digest, as `/api/tags` lists it, and its longest text, from `/api/show`."""
        shown = get("/api/show", {"model": address.model})
        info = shown.get("model_info") if isinstance(shown, dict) else None
        facts: Mapping[str, Any] = info if isinstance(info, dict) else {}
        longest = next((v for k, v in facts.items() if k.endswith(".context_length")), None)
        digest = self._digest(address.model, get)
        return About(
            f"ollama:{digest or address.model}",
            min(OLLAMA_TOKENS, _count(longest, USUAL_TOKENS)),
            64,
        )

    def names(self, get: Get) -> list[str]:
        """As `/api/tags` lists them."""
        return _names(get("/api/tags"), "models", "name")

    def _digest(self, model: str, get: Get) -> str | None:
        listed = _field(get("/api/tags"), "models")
        known = {
            each.get("name"): each.get("digest")
            for each in (listed if isinstance(listed, list) else [])
            if isinstance(each, dict)
        }
        found = known.get(model) or known.get(f"{model}:latest")
        return found if isinstance(found, str) else None


DIALECTS: Mapping[str, Dialect] = {"openai": OpenAI(), "tei": Tei(), "ollama": Ollama()}


def _field(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise EndpointGarbled(f"there is no {name!r} in its answer")
    return answer[name]


def _count(value: Any, otherwise: int) -> int:
    return value if type(value) is int and value >= 1 else otherwise


def _names(answer: Any, listed: str, name: str) -> list[str]:
    rows = _field(answer, listed)
    if not isinstance(rows, list):
        return []
    return [str(row[name]) for row in rows if isinstance(row, dict) and name in row]


def _decoded(embedding: Any) -> Any:
    if not isinstance(embedding, str):
        return embedding
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    except (binascii.Error, ValueError):
        raise EndpointGarbled("a vector isn't base64 of little-endian float32") from None


def _matrix(rows: Any, count: int) -> Vectors:
    """float32 [count, n], or `EndpointGarbled`."""
    if not isinstance(rows, list) or len(rows) != count:
        raise _miscounted(rows, count)
    try:
        wide: npt.NDArray[np.float64] = np.asarray(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise EndpointGarbled("its vectors aren't lists of numbers of one length") from None
    if wide.ndim != 2 or wide.shape[1] == 0:
        raise EndpointGarbled("its vectors aren't lists of numbers")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(wide, dtype=np.float32)


def _miscounted(rows: Any, count: int) -> EndpointGarbled:
    got = f"{len(rows)} vectors" if isinstance(rows, list) else "no list of vectors"
    return EndpointGarbled(f"it gave {got} for {count} texts")
