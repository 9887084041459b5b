"""Settings of the servers that people come from, and what is said for each of them here.

docs/coming-from.md is made from these tables; a server that starts names those variables that are
set in its environment and aren't followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Setting:
    """One setting of another server."""

    flag: str
    """As it is typed there; empty where there is only the variable."""
    variable: str
    """Its name in the environment; empty where there is none."""
    here: str
    """What to say here, as Markdown."""
    is_followed: bool = False
    """Whether the variable means the same here."""
    is_common: bool = False
    """Whether other programs set the variable too: it is named only beside another one."""


@dataclass(frozen=True)
class OtherServer:
    """A server that people come from."""

    name: str
    prefix: str
    """What its variables begin with; empty where they have no common beginning."""
    settings: tuple[Setting, ...]
    why_anew: str
    """Why its vectors can't be used on, as Markdown."""


_NONE = "nothing to say: "

TEI = OtherServer(
    "Text Embeddings Inference",
    "",
    (
        Setting("--model-id", "MODEL_ID", "the argument: `likewise serve MODEL`"),
        Setting(
            "--revision", "REVISION", "`likewise models pull MODEL --revision REV`, then serve it"
        ),
        Setting(
            "--dtype",
            "DTYPE",
            "`--precision exact` (float32) or `fast` (bf16); there is no float16",
        ),
        Setting(
            "--served-model-name",
            "SERVED_MODEL_NAME",
            "`NAME=MODEL` in place of the model, or `--alias NAME=MODEL`",
        ),
        Setting(
            "--pooling",
            "POOLING",
            "`--pooling`, with `last-token` as `lasttoken`; SPLADE is known from the files",
        ),
        Setting("--dense-path", "DENSE_PATH", f"{_NONE}`modules.json` is followed"),
        Setting("--auto-truncate", "AUTO_TRUNCATE", "`--auto-truncate`"),
        Setting("--default-prompt", "DEFAULT_PROMPT", "`--default-prompt`"),
        Setting("--default-prompt-name", "DEFAULT_PROMPT_NAME", "`--default-prompt-name`"),
        Setting(
            "--max-client-batch-size",
            "MAX_CLIENT_BATCH_SIZE",
            "`max_batch_inputs` under `[server]` (2,048 unless set)",
        ),
        Setting(
            "--payload-limit",
            "PAYLOAD_LIMIT",
            "`max_body_mib` under `[server]` (32 MiB unless set)",
        ),
        Setting(
            "--max-concurrent-requests",
            "MAX_CONCURRENT_REQUESTS",
            f"{_NONE}requests wait their turn; `queue_timeout_ms` under `[server]` limits how long",
        ),
        Setting(
            "--max-batch-tokens",
            "MAX_BATCH_TOKENS",
            f"{_NONE}batches are measured at the start. To read less of each text: `--max-length`",
        ),
        Setting("--max-batch-requests", "MAX_BATCH_REQUESTS", f"{_NONE}batches are cut by tokens"),
        Setting(
            "--tokenization-workers",
            "TOKENIZATION_WORKERS",
            f"{_NONE}`--threads` limits what computes",
        ),
        Setting(
            "--hostname",
            "HOSTNAME",
            "`--host`; 127.0.0.1 unless said, TEI takes 0.0.0.0",
            is_common=True,
        ),
        Setting("--port", "PORT", "`--port`; 7997 unless said", is_common=True),
        Setting(
            "--api-key",
            "API_KEY",
            "`LIKEWISE_API_KEY`, or a file of keys: `--keys`",
            is_common=True,
        ),
        Setting("--hf-token", "HF_TOKEN", "the same variable", is_followed=True),
        Setting("--huggingface-hub-cache", "HUGGINGFACE_HUB_CACHE", "`HF_HUB_CACHE`"),
        Setting("--cors-allow-origin", "CORS_ALLOW_ORIGIN", "`--cors-origin`"),
        Setting(
            "--otlp-endpoint",
            "OTLP_ENDPOINT",
            "`OTEL_EXPORTER_OTLP_ENDPOINT`, or `otlp_endpoint` under `[server]`; over HTTP, not gRPC",
        ),
        Setting("--otlp-service-name", "OTLP_SERVICE_NAME", f"{_NONE}it is `likewise`"),
        Setting("--json-output", "JSON_OUTPUT", "`likewise --log-format json serve ...`"),
        Setting("--disable-spans", "DISABLE_SPANS", f"{_NONE}log lines have no spans"),
        Setting("", "LOG_LEVEL", "`likewise --log-level info serve ...`", is_common=True),
        Setting(
            "--prometheus-port", "PROMETHEUS_PORT", f"{_NONE}`/metrics` is on the server's port"
        ),
        Setting(
            "--uds-path",
            "UDS_PATH",
            f"{_NONE}there is no second process to speak to; `--uds` serves HTTP on a Unix socket",
        ),
        Setting("", "TASK", f"{_NONE}`POST /` goes by the body", is_common=True),
        Setting("the image with `-grpc`", "", "`--grpc-port`, beside HTTP"),
    ),
    "TEI computes GeLU by its tanh form where the model says `gelu` (unless it runs the folder's ONNX file): numbers differ by up to 4e-4, the cosine of a text's two vectors is "
    "0.99999 or more. SPLADE weights of TEI depend on what else was in the batch. What was said with `--default-prompt` or `--pooling` must be said here too, else all vectors differ much. Make them anew.",
)

OLLAMA = OtherServer(
    "Ollama",
    "OLLAMA_",
    (
        Setting("", "OLLAMA_HOST", "`--host` and `--port`; clients keep the variable"),
        Setting(
            "",
            "OLLAMA_MODELS",
            "`--models-dir FOLDER`, a folder of model folders; Ollama's own store isn't read, it is told which `models pull` lines fetch the same models",
        ),
        Setting("", "OLLAMA_KEEP_ALIVE", "`--keep-alive`; for ever unless said, Ollama takes 5m"),
        Setting("", "OLLAMA_ORIGINS", "`--cors-origin`, once for each"),
        Setting("", "OLLAMA_MAX_LOADED_MODELS", "`--memory-budget MIB`: by memory, not by number"),
        Setting(
            "",
            "OLLAMA_CONTEXT_LENGTH",
            "`--max-length`; the model's own length unless said. A request's `num_ctx` is followed",
        ),
        Setting(
            "", "OLLAMA_MAX_QUEUE", "`queue_timeout_ms` under `[server]`: by time, not by number"
        ),
        Setting("", "OLLAMA_NUM_PARALLEL", f"{_NONE}requests are batched together"),
        Setting(
            "",
            "OLLAMA_LOAD_TIMEOUT",
            f"{_NONE}loading has no limit; a client that goes ends its wait",
        ),
        Setting("", "OLLAMA_DEBUG", "`likewise --log-level debug serve ...`"),
        Setting("`PARAMETER num_ctx` of a Modelfile", "", '`max_length` under `[models."NAME"]`'),
        Setting("`PARAMETER num_thread`", "", "`--threads`"),
        Setting("`ollama create`", "", "not there: name the folder, or `--alias NAME=MODEL`"),
    ),
    "Ollama reads other tokens: accents aren't stripped, curly quotes, dashes and signs such as `+` or `=` become unknown, Greek, Korean, Hindi and Japanese come apart differently (cosine 0.08 to 0.6 for such "
    "texts, measured with all-minilm), and it keeps weights in 16 or fewer bits. Vectors of both must not be mixed: make them anew.",
)

VLLM = OtherServer(
    "vLLM",
    "VLLM_",
    (
        Setting(
            "`vllm serve MODEL --runner pooling`",
            "",
            "`likewise serve MODEL`; what a model gives is known from its files",
        ),
        Setting("--convert", "", f"{_NONE}see above"),
        Setting(
            "--pooler-config", "", "`--pooling`, `--matryoshka`; `use_activation` is in the request"
        ),
        Setting(
            "--hf-overrides",
            "",
            '`[models."NAME"]` in likewise.toml for pooling, prompts, length and widths; nothing else of `config.json` can be overridden',
        ),
        Setting("--dtype", "", "`--precision exact` (float32) or `fast` (bf16)"),
        Setting("--max-model-len", "", "`--max-length`"),
        Setting(
            "--served-model-name", "", "`NAME=MODEL` in place of the model, or `--alias NAME=MODEL`"
        ),
        Setting("--api-key", "VLLM_API_KEY", "`LIKEWISE_API_KEY`, or a file of keys: `--keys`"),
        Setting("--allowed-origins", "", "`--cors-origin`"),
        Setting("--uds", "", "`--uds`"),
        Setting("--root-path", "", "`--root-path`"),
        Setting("--ssl-certfile, --ssl-keyfile", "", "`--tls-cert`, `--tls-key`"),
        Setting("--otlp-traces-endpoint", "", "`OTEL_EXPORTER_OTLP_ENDPOINT`; over HTTP, not gRPC"),
        Setting(
            "--max-num-batched-tokens, --max-num-seqs",
            "",
            f"{_NONE}batches are measured at the start",
        ),
        Setting(
            "--gpu-memory-utilization", "", "`--memory-budget MIB`; nothing is taken in advance"
        ),
        Setting("--trust-remote-code", "", f"{_NONE}code of a model's repository is never run"),
        Setting(
            "--tensor-parallel-size, --enable-lora",
            "",
            "not there; an adapter's folder is served as a model of its own",
        ),
        Setting("", "VLLM_LOGGING_LEVEL", "`likewise --log-level info serve ...`"),
    ),
    "With `--dtype float32` the cosine of a text's two vectors was 0.99999 or more; unless told otherwise vLLM computes in 16 bits, which wasn't measured. Its `--pooler-config` can say another pooling than "
    "the folder's. Make them anew.",
)

INFINITY = OtherServer(
    "infinity",
    "INFINITY_",
    (
        Setting("--model-id", "INFINITY_MODEL_ID", "the arguments: `likewise serve MODEL MODEL`"),
        Setting(
            "--served-model-name",
            "INFINITY_SERVED_MODEL_NAME",
            "`NAME=MODEL` in place of the model, or `--alias NAME=MODEL`",
        ),
        Setting(
            "--revision",
            "INFINITY_REVISION",
            "`likewise models pull MODEL --revision REV`, then serve it",
        ),
        Setting(
            "--dtype",
            "INFINITY_DTYPE",
            "`--precision exact` (float32), `fast` (bf16) or `small` (int8 weights)",
        ),
        Setting("--engine, --device", "INFINITY_ENGINE", "`--engine`"),
        Setting("--pooling-method", "INFINITY_POOLING_METHOD", "`--pooling`"),
        Setting("--batch-size", "INFINITY_BATCH_SIZE", f"{_NONE}batches are measured at the start"),
        Setting(
            "--max-client-batch-size",
            "INFINITY_MAX_CLIENT_BATCH_SIZE",
            "`max_batch_inputs` under `[server]`",
        ),
        Setting(
            "--embedding-dtype",
            "INFINITY_EMBEDDING_DTYPE",
            "`encoding_format` and `embedding_types` of a request",
        ),
        Setting(
            "--vector-disk-cache", "INFINITY_VECTOR_DISK_CACHE", "`vector_cache` under `[server]`"
        ),
        Setting(
            "--queue-size",
            "INFINITY_QUEUE_SIZE",
            "`queue_timeout_ms` under `[server]`: by time, not by number",
        ),
        Setting(
            "--host, --port",
            "INFINITY_HOST",
            "`--host`, `--port`: the same port, but 127.0.0.1 unless said",
        ),
        Setting("", "INFINITY_PORT", "`--port`"),
        Setting(
            "--url-prefix", "INFINITY_URL_PREFIX", f"{_NONE}routes are there with `/v1` and without"
        ),
        Setting("--api-key", "INFINITY_API_KEY", "`LIKEWISE_API_KEY`, or a file of keys: `--keys`"),
        Setting("--permissive-cors", "INFINITY_PERMISSIVE_CORS", "`--cors-origin '*'`"),
        Setting(
            "--trust-remote-code",
            "INFINITY_TRUST_REMOTE_CODE",
            f"{_NONE}code of a model's repository is never run",
        ),
        Setting("", "INFINITY_ANONYMOUS_USAGE_STATS", f"{_NONE}nothing is ever sent"),
    ),
    "In float32 the cosine of a text's two vectors was 0.999997 or more; in other `--dtype`s it wasn't measured. Make them anew unless it was float32.",
)

SERVERS = (TEI, OLLAMA, VLLM, INFINITY)


def not_followed(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each server of which variables are set that mean nothing here.

    Values are never shown: some are keys.
    """
    for server in SERVERS:
        known = {each.variable: each for each in server.settings if each.variable}
        found = [
            name
            for name in environment
            if (name in known and not known[name].is_followed)
            or (server.prefix and name.startswith(server.prefix) and name not in known)
        ]
        telling = [name for name in found if name not in known or not known[name].is_common]
        if telling:
            said = ", ".join(_hint(name, known.get(name)) for name in sorted(found))
            yield f"variables of {server.name} are set and not followed: {said}"


def _hint(name: str, setting: Setting | None) -> str:
    if setting is None or setting.here.startswith(_NONE):
        return name
    return f"{name} (here: {setting.here.replace('`', '')})"


def page() -> str:
    """docs/coming-from.md."""
    parts = [_INTRODUCTION]
    for server in SERVERS:
        rows = [
            f"| {_as_code(each.flag)} | {_as_code(each.variable)} | {each.here} |"
            for each in server.settings
        ]
        table = "\n".join(["| there | in the environment | here |", "|---|---|---|", *rows])
        parts.append(f"## From {server.name}\n\n{table}\n\n**Vectors.** {server.why_anew}\n")
    return "\n".join(parts)


def _as_code(name: str) -> str:
    if not name or "`" in name:
        return name
    return ", ".join(f"`{each}`" for each in name.split(", "))


_INTRODUCTION = """# Coming from another server

This page is made from the code by `python -m tests.docs.pages`.

Clients keep working: only the address changes ([openai.md](openai.md), [tei.md](tei.md), [ollama.md](ollama.md), [rerank.md](rerank.md)). What the old server was
started with is said here by other names; a flag of `likewise serve` can also stand in `likewise.toml` ([settings.md](settings.md)). Variables of
the old server that are still set when Likewise starts, and aren't followed, are named on standard error.

**Vectors that another server made must be made anew.** Two servers of one model give vectors that are near each other, not equal, and for some texts not even near; a collection
with both ranks wrongly without any error. A binding refuses to mix them ([binding.md](binding.md)); where vectors lie in a database of your own, embed everything
once more before the first query. Each section says how large the difference is.
"""
