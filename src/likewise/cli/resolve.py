"""Settings as meant: flags, likewise.toml and the environment become one set of values."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.durations import seconds
from likewise.base.errors import SettingsError
from likewise.base.locks import LOCK_SECONDS
from likewise.base.spec import STORES, BindingSpec, scheme_of
from likewise.cli import overriding, settings
from likewise.engines.names import AUTO
from likewise.models.overrides import OverrideTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from likewise.base.precision import Precision
    from likewise.cli.settings import ModelSettings, ServerSettings, Settings

ENVIRONMENT: dict[str, str] = {
    "LIKEWISE_HOME": "Folder for downloaded models and caches.",
    "XDG_CACHE_HOME": "Where LIKEWISE_HOME isn't set: models go into its folder 'likewise'.",
    "LIKEWISE_OFFLINE": "1 downloads nothing, ever.",
    "HF_HUB_OFFLINE": "1 means the same as LIKEWISE_OFFLINE=1.",
    "TRANSFORMERS_OFFLINE": "1 means the same.",
    "HF_HUB_CACHE": "The Hugging Face cache, which is looked into before anything is downloaded.",
    "HF_HOME": "Where HF_HUB_CACHE isn't set: the cache is its folder 'hub'; without both, "
    "`~/.cache/huggingface/hub`.",
    "HF_ENDPOINT": "Another hub than https://huggingface.co, such as a mirror.",
    "HF_TOKEN": "A token for gated and private models; also HUGGING_FACE_HUB_TOKEN, or the file "
    "that HF_TOKEN_PATH names.",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1 sends that token with no download.",
    "HF_HUB_ETAG_TIMEOUT": "Seconds within which the hub must begin to answer; 3 when not set.",
    "HF_HUB_DOWNLOAD_TIMEOUT": "Seconds within which each part of a download must come; 10 when "
    "not set.",
    "LIKEWISE_API_KEY": "A key that servers let in and that `likewise search --url` sends.",
    "LIKEWISE_API_KEY_FILE": "The file that holds it, as secrets of containers do.",
    "LIKEWISE_ADMIN_KEY": "A key that may also load, unload and delete models; with it "
    "`likewise models load` and its like ask.",
    "LIKEWISE_ADMIN_KEY_FILE": "The file that holds it.",
    "OPENAI_API_KEY": "The key for remote models at https://api.openai.com, and nowhere else.",
    "OPENAI_API_KEY_FILE": "The file that holds it.",
    "LIKEWISE_REMOTE_KEY": "The key for remote models everywhere else.",
    "LIKEWISE_REMOTE_KEY_FILE": "The file that holds it; looked into again for each request.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Where traces are sent, where likewise.toml doesn't say; see "
    "`otlp_endpoint` there.",
    "LIKEWISE_LOCK_TIMEOUT": "Seconds that a command waits for a SQLite or DuckDB file that "
    "another program has locked; 30 when not set. Servers and workers wait at most 5 at a time, "
    "and try again.",
    "LIKEWISE_ENGINE": "What computes, where likewise.toml doesn't say; see `engine` there.",
}
"""Every environment variable that Likewise reads."""

_OFFLINE = ("LIKEWISE_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True)
class Place:
    """Where models are kept, how they are found, and how they are run."""

    cache: Path
    offline: bool
    precision: Precision = "auto"
    threads: int | None = None
    engine: str = AUTO
    overrides: OverrideTable = OverrideTable()
    """What holds for models whatever their own files say."""
    hub_answer_s: float | None = None
    """Seconds within which the hub must begin to answer; as is usual when None."""


_DUCKDB = (".duckdb", ".ddb")


def place(
    written: ModelSettings | None = None,
    *,
    offline: bool | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    engine: str | None = None,
    overrides: OverrideTable | None = None,
    environment: Mapping[str, str] | None = None,
) -> Place:
    """What is in force: a flag goes before likewise.toml, which goes before the environment.

    Without `overrides`, those of the command's flags and of a likewise.toml in the working
    directory.

    Raises:
        SettingsError: a variable holds neither yes nor no, or names no engine; or an override
            makes no sense.
    """
    env = os.environ if environment is None else environment
    in_file = written.offline if written is not None else None
    if offline is None:
        offline = in_file
    if offline is None:
        offline = any(_truth(env, name) for name in _OFFLINE)
    return Place(
        cache=_cache(written, env),
        offline=offline,
        precision=precision or (written.precision if written is not None else "auto"),
        threads=threads or (written.threads if written is not None else None),
        engine=engine or _engine(written, env),
        overrides=overriding.table() if overrides is None else overrides,
        hub_answer_s=_hub_answer_s(env),
    )


def not_followed(environment: Mapping[str, str] | None = None) -> list[str]:
    """What is to be said of variables that other servers follow and this one doesn't."""
    from likewise.cli import other_servers

    return list(other_servers.not_followed(os.environ if environment is None else environment))


@dataclass(frozen=True)
class Keeping:
    """How a server's models are kept, and what else it is to know about them."""

    is_lazy: bool = False
    """Whether models are loaded at their first use."""
    keep_alive_s: float = math.inf
    memory_budget: int | None = None
    """Bytes."""
    default_model: str | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    """Each with the name of the model that it stands for."""
    models_dir: Path | None = None
    models_dir_every_s: float = 2.0
    vector_cache: str = "off"
    """`off`, `memory`, or a path."""
    vector_cache_bytes: int = 256 * 2**20
    timeout_s: float | None = None


def keeping(written: ServerSettings, *, folder: Path) -> Keeping:
    """How likewise.toml wants models kept; paths in it are relative to its `folder`.

    Raises:
        SettingsError: a length of time isn't one.
    """
    budget, timeout_ms = written.memory_budget_mib, written.queue_timeout_ms
    cache = written.vector_cache
    return Keeping(
        is_lazy=written.load == "first-use",
        keep_alive_s=seconds(written.keep_alive, what="keep_alive"),
        memory_budget=None if budget is None else budget * 2**20,
        default_model=written.default_model,
        aliases=tuple(written.aliases.items()),
        models_dir=None if written.models_dir is None else _below(folder, written.models_dir),
        models_dir_every_s=written.models_dir_every_s,
        vector_cache=cache if cache in ("off", "memory") else str(_below(folder, cache)),
        vector_cache_bytes=written.vector_cache_mib * 2**20,
        timeout_s=None if timeout_ms is None else timeout_ms / 1000,
    )


def server_url(given: str | None, config: Path) -> str:
    """Where the server is that a command means: as given, as in likewise.toml, or as usual.

    Raises:
        SettingsError: likewise.toml isn't right.
    """
    if given is not None:
        return given
    written = settings.read(config).server if config.is_file() else settings.ServerSettings()
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = everywhere.get(written.host, written.host)
    return f"http://[{host}]:{written.port}" if ":" in host else f"http://{host}:{written.port}"


def admin_key(file: Path | None, environment: Mapping[str, str] | None = None) -> str | None:
    """The key to ask a server with: the first line of `file`, or LIKEWISE_ADMIN_KEY; or none.

    Raises:
        SettingsError: the file can't be read, or has no key.
    """
    env = os.environ if environment is None else environment
    if file is None:
        return _secret(env, "LIKEWISE_ADMIN_KEY")
    try:
        key = file.read_text(encoding="utf-8").strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as refused:
        raise SettingsError(f"{file}: the key can't be read: {refused}", param="key_file") from None
    if not key:
        raise SettingsError(f"{file} has no key", param="key_file")
    return key


def given_keys(environment: Mapping[str, str] | None = None) -> dict[str, tuple[str, bool]]:
    """Keys that the environment holds, or names files of: by variable, and whether it is admin's.

    Raises:
        SettingsError: a key and its file are given, or the file can't be read.
    """
    env = os.environ if environment is None else environment
    found = {}
    for name, is_admin in (("LIKEWISE_API_KEY", False), ("LIKEWISE_ADMIN_KEY", True)):
        key = _secret(env, name)
        if key is not None:
            found[name] = (key, is_admin)
    return found


def remote_key(
    variable: str, environment: Mapping[str, str] | None = None
) -> Callable[[], str | None]:
    """What gives the key in `variable`, or in the file that `variable`_FILE names, as it is then.

    It raises `SettingsError` where both are set, or the file can't be read.
    """
    env = os.environ if environment is None else environment
    return lambda: _secret(env, variable)


def _secret(env: Mapping[str, str], name: str) -> str | None:
    key, path = env.get(name), env.get(f"{name}_FILE")
    if not path:
        return key or None
    if key:
        raise SettingsError(f"{name} and {name}_FILE are both set; one of them is enough")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as refused:
        # What a file that isn't text holds may be the secret all the same: its path is enough.
        reason = getattr(refused, "strerror", None) or "it isn't text"
        raise SettingsError(f"{name}_FILE: {path} can't be read: {reason}") from None


def specs(written: Settings, *, folder: Path) -> tuple[BindingSpec, ...]:
    """The bindings of likewise.toml; paths in it are relative to its `folder`.

    Raises:
        SettingsError: a name, source or table can't be right.
    """
    return tuple(
        BindingSpec(
            name=each.name,
            source=source(each.source, folder),
            table=each.table,
            text=each.text,
            key=each.key,
            model=each.model,
            chunk=each.chunk,
            store=source(each.store, folder),
            query=each.query,
            glob=each.glob,
            wake=each.wake,
            dtype=each.dtype,
            every=each.every,
        ).as_typed()
        for each in written.binding
    )


def lock_seconds(environment: Mapping[str, str] | None = None) -> float:
    """How long a locked database file is waited for.

    Raises:
        SettingsError: the variable holds no number of seconds.
    """
    env = os.environ if environment is None else environment
    written = env.get("LIKEWISE_LOCK_TIMEOUT")
    if not written:
        return LOCK_SECONDS
    try:
        found = float(written)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise SettingsError(
            f"LIKEWISE_LOCK_TIMEOUT is {written!r}: it must be a number of seconds, such as 30"
        )
    return found


def otlp_endpoint(
    written: ServerSettings | None = None, *, environment: Mapping[str, str] | None = None
) -> str | None:
    """Where traces are sent; None, and nothing is, unless the file or the environment says so.

    Raises:
        SettingsError: it isn't an HTTP address.
    """
    env = os.environ if environment is None else environment
    endpoint = (written.otlp_endpoint if written is not None else None) or env.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise SettingsError(
            f"traces can't be sent to {endpoint!r}: it must begin with http:// or https://",
            param="otlp_endpoint",
        )
    return endpoint


def source(written: str, folder: Path) -> str:
    """An address such as `sqlite:PATH`, with a path that doesn't depend on where commands run."""
    scheme, colon, path = written.partition(":")
    if scheme not in ("sqlite", "duckdb", "files") or not path:
        return written
    return f"{scheme}{colon}{_below(folder, path)}"


def address(given: str, folder: Path) -> str:
    """What `--db` names: an address, or a path; DuckDB's by its ending, else it is SQLite's."""
    if scheme_of(given) in STORES and ":" in given:
        return source(given, folder)
    scheme = "duckdb" if Path(given).suffix in _DUCKDB else "sqlite"
    return source(f"{scheme}:{given}", folder)


def _below(folder: Path, path: str) -> Path:
    return (folder / Path(path).expanduser()).resolve()


def databases(given: str | None, config: Path) -> list[str]:
    """Addresses of the stores that are said: by `--db`, else by likewise.toml; perhaps none.

    Raises:
        SettingsError: likewise.toml isn't right.
    """
    if given is not None:
        return [address(given, Path())]
    if config.is_file():
        written = specs(settings.read(config), folder=config.parent)
        found = {spec.store_address: None for spec in written}
        return list(found)
    return []


def _engine(written: ModelSettings | None, env: Mapping[str, str]) -> str:
    if written is not None and written.engine:
        return written.engine
    name = env.get("LIKEWISE_ENGINE") or AUTO
    settings.require_engine(name, "LIKEWISE_ENGINE")
    return name


def _hub_answer_s(env: Mapping[str, str]) -> float | None:
    """As set; the hub's own client reads both, and ends in a traceback where one is no number."""
    found: dict[str, int] = {}
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        if value := env.get(name):
            if not (value.isascii() and value.isdecimal()) or not 0 < int(value[:9]):
                raise SettingsError(f"{name} is {value!r}; write whole seconds", param=name)
            found[name] = int(value)
    return found.get("HF_HUB_ETAG_TIMEOUT")


def _cache(written: ModelSettings | None, env: Mapping[str, str]) -> Path:
    if written is not None and written.cache:
        return Path(written.cache).expanduser()
    if home := env.get("LIKEWISE_HOME"):
        return Path(home).expanduser()
    if xdg := env.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "likewise"
    try:
        return Path.home() / ".cache" / "likewise"
    except RuntimeError as homeless:
        raise SettingsError(
            "this user has no home folder; set LIKEWISE_HOME to a folder for models"
        ) from homeless


def _truth(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "").strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise SettingsError(f"{name} is {env[name]!r}; write 1 or 0", param=name)
