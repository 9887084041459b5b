"""Settings as written: what `likewise.toml` says, checked for shape and not yet made real."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from likewise.base.chunking import DEFAULT_CHUNK
from likewise.base.durations import FOREVER, seconds
from likewise.base.errors import SettingsError
from likewise.base.names import nearest
from likewise.base.precision import Precision
from likewise.base.spec import DEFAULT_MODEL
from likewise.engines.names import AUTO, ENGINES

FILE_NAME = "likewise.toml"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7997


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[server]`."""

    host: str = DEFAULT_HOST
    """Address to listen on. Beyond loopback the server wants `keys`, or `insecure`."""
    port: int = DEFAULT_PORT
    """Port to listen on; 0 takes a free one."""
    uds: str | None = None
    """A Unix socket to listen on instead of `host` and `port`."""
    uds_mode: str = "660"
    """Who may open the Unix socket, as `chmod` takes it."""
    root_path: str = ""
    """Path that a reverse proxy serves this server below, such as `/likewise`. Requests may come
    with it or without."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose `X-Forwarded-Prefix` is believed, such as `10.0.0.0/8`; `unix`
    for who comes over the Unix socket."""
    models: tuple[str, ...] = ()
    """Models to serve beside those that bindings use; `NAME=MODEL` calls one NAME."""
    allowed_hosts: tuple[str, ...] = ()
    """More names that requests may call the server by, as behind a reverse proxy."""
    max_body_mib: int = 32
    """Largest request body, in MiB."""
    drain_s: float = 0.0
    """Seconds to go on taking connections after a signal to stop, while `/ready` says no."""
    otlp_endpoint: str | None = None
    """Where traces are sent, as OTLP over HTTP, such as `http://127.0.0.1:4318`; nowhere when not
    given."""
    grpc_port: int | None = None
    """Port on which Text Embeddings Inference's gRPC interface is served too; not served when not
    given. Needs the extra `grpc`."""
    queue_timeout_ms: int | None = None
    """How long a request may wait and be computed, in milliseconds, where it doesn't say itself
    (`X-Likewise-Timeout-Ms`); without limit when not given."""
    load: Literal["start", "first-use"] = "start"
    """When the models named here are loaded: before the first request is answered, or by it. Those
    that bindings use are always loaded at the start."""
    keep_alive: str = FOREVER
    """How long a model stays in memory when nobody asks for it: `5m`, `1h30m`, `0`, `forever`."""
    memory_budget_mib: int | None = None
    """MiB that the weights of all loaded models may take; the one used longest ago makes room for
    another. No limit when not given."""
    default_model: str | None = None
    """The model of requests that name none, where several can do what is asked; without it, the
    only one that can."""
    aliases: dict[str, str] = {}
    """More names for models: `[server.aliases]`, a line such as
    `"text-embedding-3-small" = "all-MiniLM-L6-v2"`; `"*"` stands for every name that isn't
    known."""
    models_dir: str | None = None
    """A folder of model folders, which is watched: what lies in it is served under the folder's
    name, loaded at its first use, and loaded anew when its files change."""
    models_dir_every_s: float = 2.0
    """Seconds between two looks at `models_dir`."""
    vector_cache: str = "off"
    """Whether vectors of texts are kept: `off`, `memory`, or the path of a SQLite file."""
    vector_cache_mib: int = 256
    """MiB that kept vectors may take."""
    keys: str | None = None
    """File of the keys that are let in, made by `likewise keys add`; see docs/security.md."""
    insecure: bool = False
    """`true` lets everybody in, also beyond loopback."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the server from a browser, such as `https://app.example`,
    `http://localhost:*` or `app://*`; `*` means every one."""
    tls_cert: str | None = None
    """PEM file of the certificate to speak https with, followed by those between it and its
    root."""
    tls_key: str | None = None
    """PEM file of the certificate's private key, without a passphrase."""
    max_batch_inputs: int = 2048
    """Most inputs in one request; OpenAI's dialect never takes more than 2,048."""
    strict: bool = False
    """`true` refuses request fields that a dialect doesn't know. Else they are ignored and named in
    the header `X-Likewise-Ignored`."""
    default_prompt: str | None = None
    """A prompt that is put before each text of a request that names none, in place of the model's
    own default one. Bindings don't get it."""
    default_prompt_name: str | None = None
    """The same, as the name of one of the model's prompts."""
    auto_truncate: bool = True
    """`false` refuses texts that are longer than the model reads where a request doesn't ask for
    them to be cut."""
    token_ids: Literal["warn", "refuse"] = "warn"
    """What becomes of inputs that are token ids, which may be another tokenizer's: `warn` computes
    them and says so in a header and the log; `refuse` doesn't."""
    max_connections: int = 1000
    """Most connections at a time."""
    body_timeout_s: float = 60
    """How long a request's body may take to come, in seconds."""
    connection_idle_s: float = 75
    """How long a connection without a request is kept, in seconds."""


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[model]`: how models are run."""

    precision: Precision = "auto"
    """`exact` (float32), `fast` (bf16), `small` (int8 weights), or `auto`: `fast` where the CPU has
    bf16, else `exact`. `f32` and `bf16` mean `exact` and `fast`."""
    engine: str | None = None
    """What computes: `openvino`, `torch`, `torch_any`, `static` or `onnx_file`; when not given,
    `auto`: the fastest that the model and this machine allow."""
    threads: int | None = None
    """Threads that compute; every core when not given."""
    cache: str | None = None
    """Folder for models; the user's cache folder when not given."""
    offline: bool | None = None
    """Whether nothing may be downloaded."""


class OverrideSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[models."NAME"]`: what holds for one model, whatever its own files say."""

    pooling: str | None = None
    """How tokens become a vector: `cls`, `mean`, `max`, `mean_sqrt_len_tokens`, `weightedmean`,
    `lasttoken`, or several joined by `+`."""
    prompts: dict[str, str] = {}
    """Prompts by name, beside those of the model's files and instead of those of the same name;
    `query` and `document` are for the texts of that kind."""
    default_prompt_name: str | None = None
    """The name of the prompt for texts that ask for none; empty: no prompt."""
    max_length: int | None = None
    """Most tokens read of one text, special ones included."""
    matryoshka: tuple[int, ...] | str | None = None
    """Smaller widths that requests may ask for with `dimensions`, such as `[128, 256]`; or
    `"any"`."""
    truncate_dim: int | None = None
    """The width that all vectors are cut to; they aren't scaled to length 1 again, as in
    sentence-transformers."""
    similarity: str | None = None
    """How vectors are to be compared: `cosine`, `dot`, `euclidean` or `manhattan`. It is shown, and
    changes no vector; searches here compare by cosine."""


class BindingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `[[binding]]`."""

    name: str
    """What the binding is called in commands, answers and the database."""
    source: str
    """Where the rows are: `sqlite:app.db`, `postgresql://…`, `files:FOLDER`; a
    path is relative to likewise.toml."""
    text: str
    """The text that stands for a row, such as `{title}\\n{body}`; `\\n` is a line end also in a
    literal string, see docs/binding.md."""
    table: str = ""
    """The table or view whose rows are embedded."""
    query: str = ""
    """A SELECT whose rows are embedded, in place of a table; `key` names columns of its result."""
    glob: str = ""
    """Which files of a folder, such as `**/*.md, !drafts/`; every known kind when not given."""
    store: str = ""
    """Where vectors are kept: `sqlite:` or `postgresql://`; the source's own database when
    not given."""
    dtype: str = "float32"
    """As what numbers vectors are kept: `float32`, or in Postgres also `float16` (halfvec)."""
    wake: str = "poll"
    """How changes in Postgres are noticed: `poll`, or `notify`."""
    every: float = 0.0
    """Seconds between two looks at a source that can't say whether it changed; 0: the default."""
    key: tuple[str, ...] = ()
    """Columns that name a row for good; the table's primary key when not given."""
    model: str = DEFAULT_MODEL
    """The model that embeds it: a name, a folder, or the address of a remote one."""
    chunk: str = DEFAULT_CHUNK
    """How long texts are cut into passages, counted in the model's tokens: `WAY:SIZE/OVERLAP`,
    where WAY is `tokens`, `sentences`, `headings` or `code`."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    models: dict[str, OverrideSettings] = {}
    binding: tuple[BindingSettings, ...] = ()


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "model": ModelSettings,
    "models": OverrideSettings,
    "binding": BindingSettings,
}


def read(path: Path) -> Settings:
    """The settings in the file at `path`.

    Raises:
        SettingsError: no such file, not TOML, an unknown key (the nearest known one is named), a
            value of the wrong type, or two bindings of one name.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as missing:
        raise SettingsError(
            f"{path}: no such file; write one (docs/settings.md shows how) or give its path "
            f"with --config"
        ) from missing
    except UnicodeDecodeError as wrong:
        raise SettingsError(f"{path}: isn't valid UTF-8 (byte {wrong.start})") from wrong
    except OSError as refused:
        raise SettingsError(f"{path}: can't be read: {refused.strerror}") from refused
    return parse(text, where=str(path))


def parse(text: str, *, where: str = FILE_NAME) -> Settings:
    """The settings in `text`; `where` names it in errors. Raises as `read` does."""
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise SettingsError(f"{where}: {wrong}") from wrong
    _check_names(written, where)
    try:
        settings = msgspec.convert(written, Settings)
    except msgspec.ValidationError as wrong:
        raise SettingsError(f"{where}: {_plain(str(wrong))}") from wrong
    _check_values(settings, where)
    return settings


def _check_names(written: dict[str, Any], where: str) -> None:
    _known(written, SECTIONS, where, "")
    for section, shape in SECTIONS.items():
        value = written.get(section, {})
        if section == "models" and isinstance(value, dict):
            value = list(value.values())
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                _known(entry, shape.__struct_fields__, where, f" in [{section}]")


def _known(written: dict[str, Any], known: Any, where: str, place: str) -> None:
    for name in written:
        if name not in known:
            raise SettingsError(
                f"{where}: unknown key {name!r}{place}{nearest(name, known)}; "
                f"known: {', '.join(known)}",
                param=name,
            )


def _check_values(settings: Settings, where: str) -> None:
    if not 0 <= settings.server.port <= 65535:
        raise SettingsError(f"{where}: server.port must be 0 to 65535", param="port")
    if settings.server.max_body_mib < 1:
        raise SettingsError(f"{where}: server.max_body_mib must be at least 1")
    for name in ("max_batch_inputs", "max_connections", "body_timeout_s", "connection_idle_s"):
        if getattr(settings.server, name) < 1:
            raise SettingsError(f"{where}: server.{name} must be at least 1", param=name)
    if settings.server.drain_s < 0:
        raise SettingsError(f"{where}: server.drain_s can't be less than 0", param="drain_s")
    _check_keeping(settings.server, where)
    if settings.model.threads is not None and settings.model.threads < 1:
        raise SettingsError(f"{where}: model.threads must be at least 1", param="threads")
    require_engine(settings.model.engine, where)
    names: set[str] = set()
    for binding in settings.binding:
        if binding.name in names:
            raise SettingsError(f"{where}: two bindings are called {binding.name!r}", param="name")
        names.add(binding.name)


def _check_keeping(server: ServerSettings, where: str) -> None:
    seconds(server.keep_alive, what=f"{where}: server.keep_alive")
    least = {
        "queue_timeout_ms": (server.queue_timeout_ms, 1),
        "memory_budget_mib": (server.memory_budget_mib, 1),
        "models_dir_every_s": (server.models_dir_every_s, 0.1),
        "vector_cache_mib": (server.vector_cache_mib, 1),
    }
    for name, (value, bound) in least.items():
        if value is not None and not value >= bound:
            raise SettingsError(f"{where}: server.{name} must be at least {bound}", param=name)


def require_engine(name: str | None, where: str) -> None:
    """Raises `SettingsError` unless there is an engine called `name`, or none was named."""
    known = (AUTO, *ENGINES)
    if name is not None and name not in known:
        raise SettingsError(
            f"{where}: unknown engine {name!r}{nearest(name, known)}; known: {', '.join(known)}",
            param="engine",
        )


def _plain(message: str) -> str:
    problem, _, place = message.partition(" - at ")
    place = place.replace("`", "").removeprefix("$.")
    problem = problem.replace("`", "")
    return f"{place}: {problem[:1].lower()}{problem[1:]}" if place else problem
