"""Settings of other servers: what is named here exists, and what isn't followed is said."""

import re

import pytest

from likewise.cli import settings
from likewise.cli.main import cli
from likewise.cli.other_servers import SERVERS, not_followed
from likewise.cli.serve import serve

OPTIONS = {name for command in (serve, cli) for each in command.params for name in each.opts}
KEYS = {
    name
    for kind in (settings.ServerSettings, settings.OverrideSettings)
    for name in kind.__struct_fields__
}


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_what_is_named_here_exists(server) -> None:
    for each in server.settings:
        for code in re.findall(r"`([^`]+)`", each.here):
            for flag in re.findall(r"--[a-z-]+", code):
                assert flag in OPTIONS | {"--revision"}, (each, flag)
        for key in re.findall(r"`([a-z_]+)` under `\[", each.here):
            assert key in KEYS, (each, key)


def said(**environment: str) -> str:
    return "; ".join(not_followed(environment))


def test_variables_that_are_not_followed_are_named_and_what_to_say() -> None:
    told = said(OLLAMA_KEEP_ALIVE="5m", OLLAMA_FLASH_ATTENTION="1", HOME="/root")
    assert "Ollama" in told
    assert "OLLAMA_KEEP_ALIVE (here: --keep-alive" in told
    assert "OLLAMA_FLASH_ATTENTION" in told
    assert "HOME" not in told
    assert "MAX_CLIENT_BATCH_SIZE" in said(MAX_CLIENT_BATCH_SIZE="4")
    assert "INFINITY_MODEL_ID" in said(INFINITY_MODEL_ID="a;b")


def test_values_are_never_shown() -> None:
    assert "secret" not in said(VLLM_API_KEY="secret", API_KEY="secret", MODEL_ID="secret")


def test_what_every_container_sets_is_named_only_beside_another_servers_own() -> None:
    assert not said(HOSTNAME="pod", PORT="8080", API_KEY="k", LOG_LEVEL="info")
    told = said(HOSTNAME="pod", PORT="80", API_KEY="k", MODEL_ID="m")
    assert all(name in told for name in ("HOSTNAME", "PORT", "API_KEY", "MODEL_ID"))


def test_what_is_followed_is_not_named() -> None:
    assert not said(HF_TOKEN="t", HF_HUB_CACHE="/data")
