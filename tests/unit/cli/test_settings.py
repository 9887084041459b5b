"""likewise.toml as written: shapes, unknown keys, and values that can't be."""

from pathlib import Path

import pytest

from likewise.base.errors import SettingsError
from likewise.cli import resolve, settings

WHOLE = r"""
[server]
host = "0.0.0.0"
port = 8000
models = ["a/b"]
allowed_hosts = ["search.example"]
max_body_mib = 4
drain_s = 5
otlp_endpoint = "http://127.0.0.1:4318"

[model]
precision = "exact"
engine = "openvino"
threads = 2
cache = "/models"
offline = true

[[binding]]
name = "docs"
source = "sqlite:app.db"
table = "pages"
text = "{title}\n{body}"
key = ["slug"]
model = "a/b"
chunk = "tokens:64/8"
"""


def test_everything_that_can_be_written() -> None:
    read = settings.parse(WHOLE)
    assert read.server == settings.ServerSettings(
        host="0.0.0.0",
        port=8000,
        models=("a/b",),
        allowed_hosts=("search.example",),
        max_body_mib=4,
        drain_s=5.0,
        otlp_endpoint="http://127.0.0.1:4318",
    )
    assert read.model == settings.ModelSettings("exact", "openvino", 2, "/models", True)
    assert read.binding == (
        settings.BindingSettings(
            name="docs",
            source="sqlite:app.db",
            table="pages",
            text="{title}\n{body}",
            key=("slug",),
            model="a/b",
            chunk="tokens:64/8",
        ),
    )


def test_an_empty_file_means_the_defaults() -> None:
    read = settings.parse("")
    assert read == settings.Settings()
    assert (read.server.host, read.server.port) == ("127.0.0.1", 7997)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sever]\nport = 1", "unknown key 'sever' (did you mean 'server'?); known: server, model"),
        ("[server]\nprot = 1", "unknown key 'prot' in [server] (did you mean 'port'?)"),
        ("[model]\nprecison = 'f32'", "in [model] (did you mean 'precision'?)"),
        ("[[binding]]\nname = 'a'\ntabel = 'b'", "in [binding] (did you mean 'table'?)"),
        ("[server]\nport = '80'", "server.port: expected int, got str"),
        ("[server]\nport = 70000", "server.port must be 0 to 65535"),
        ("[server]\nmax_body_mib = 0", "server.max_body_mib must be at least 1"),
        ("[server]\ndrain_s = -1", "server.drain_s can't be less than 0"),
        ("[model]\nthreads = 0", "model.threads must be at least 1"),
        ("[model]\nprecision = 'int8'", "model.precision: invalid enum value 'int8'"),
        ("[model]\nengine = 'openvno'", "unknown engine 'openvno' (did you mean 'openvino'?)"),
        ("server = 3", "server: expected object, got int"),
        ("[binding]\nname = 'a'", "binding: expected array, got object"),
        ("[[binding]]\nname = 'a'", "binding[0]: object missing required field source"),
        ("[server]\nport = 1\nport = 2", "Cannot overwrite a value"),
        ("port = ", "Invalid value"),
        (
            2 * "[[binding]]\nname='a'\nsource='sqlite:x'\ntable='t'\ntext='{a}'\n",
            "two bindings are called 'a'",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings.parse(text, where="here.toml")
    assert str(refused.value).startswith("here.toml: ")
    assert words in str(refused.value)


def test_files_that_cant_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file.*docs/settings.md"):
        settings.read(tmp_path / "likewise.toml")
    with pytest.raises(SettingsError, match="can't be read"):
        settings.read(tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"[server]\nhost = '\xff'")
    with pytest.raises(SettingsError, match=r"isn't valid UTF-8 \(byte 17\)"):
        settings.read(bad)


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"LIKEWISE_HOME": "/home/l", "XDG_CACHE_HOME": "/x"}, "/home/l"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/likewise"),
        ({}, str(Path.home() / ".cache" / "likewise")),
    ],
)
def test_where_models_are_kept(environment: dict[str, str], cache: str) -> None:
    assert resolve.place(environment=environment).cache == Path(cache)
    written = settings.ModelSettings(cache="/from/file")
    assert resolve.place(written, environment=environment).cache == Path("/from/file")


@pytest.mark.parametrize(
    ("flag", "in_file", "environment", "offline"),
    [
        (None, None, {}, False),
        (None, None, {"LIKEWISE_OFFLINE": "1"}, True),
        (None, None, {"HF_HUB_OFFLINE": "yes"}, True),
        (None, None, {"LIKEWISE_OFFLINE": "0", "HF_HUB_OFFLINE": ""}, False),
        (None, False, {"LIKEWISE_OFFLINE": "1"}, False),
        (True, False, {}, True),
    ],
)
def test_a_flag_goes_before_the_file_before_the_environment(
    flag: bool | None, in_file: bool | None, environment: dict[str, str], offline: bool
) -> None:
    written = settings.ModelSettings(offline=in_file)
    assert resolve.place(written, offline=flag, environment=environment).offline is offline


def test_the_engine_by_flag_file_and_environment() -> None:
    named = {"LIKEWISE_ENGINE": "torch"}
    written = settings.ModelSettings(engine="static")
    assert resolve.place(environment={}).engine == "auto"
    assert resolve.place(environment=named).engine == "torch"
    assert resolve.place(settings.ModelSettings(), environment=named).engine == "torch"
    assert resolve.place(written, environment=named).engine == "static"
    assert resolve.place(written, engine="openvino", environment=named).engine == "openvino"
    with pytest.raises(SettingsError, match="LIKEWISE_ENGINE: unknown engine 'gpu'; known: auto"):
        resolve.place(environment={"LIKEWISE_ENGINE": "gpu"})


def test_how_long_a_locked_file_is_waited_for() -> None:
    name = "LIKEWISE_LOCK_TIMEOUT"
    assert resolve.lock_seconds({}) == resolve.lock_seconds({name: ""}) == 30
    assert resolve.lock_seconds({name: "0"}) == 0
    assert resolve.lock_seconds({name: "2.5"}) == 2.5
    for wrong in ("soon", "-1", "nan", "inf"):
        with pytest.raises(SettingsError, match=f"{name} is '{wrong}': it must be a number"):
            resolve.lock_seconds({name: wrong})


def test_old_names_of_precisions_are_kept() -> None:
    assert settings.parse("[model]\nprecision = 'bf16'").model.precision == "bf16"


def test_a_variable_that_is_neither_yes_nor_no() -> None:
    with pytest.raises(SettingsError, match="LIKEWISE_OFFLINE is 'maybe'; write 1 or 0"):
        resolve.place(environment={"LIKEWISE_OFFLINE": "maybe"})


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    read = settings.parse(WHOLE)
    (spec,) = resolve.specs(read, folder=tmp_path)
    assert spec.path == tmp_path / "app.db"
    assert resolve.source("sqlite:/abs.db", tmp_path) == "sqlite:/abs.db"


def test_which_database_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "likewise.toml"
    assert resolve.databases(None, config) == []
    config.write_text(WHOLE, encoding="utf-8")
    assert resolve.databases(None, config) == [f"sqlite:{tmp_path}/app.db"]
    assert resolve.databases("/given.db", config) == ["sqlite:/given.db"]
    assert resolve.databases("sqlite:/a", config) == ["sqlite:/a"]
