"""The unit: systemd takes it, it starts a command that is one, and it may do little."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from likewise.cli.resolve import ENVIRONMENT
from likewise.server.run import GRACE_S
from tests.deploy.commands import parsed

HARDENED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "SystemCallFilter": "@system-service",
}


@pytest.fixture(scope="module")
def unit(repo: Path) -> Path:
    return repo / "deploy" / "likewise.service"


@pytest.fixture(scope="module")
def service(unit: Path) -> dict[str, list[str]]:
    """The section [Service]: each key with all its values."""

    found: dict[str, dict[str, list[str]]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(key, []).append(value)
    assert set(found) == {"Unit", "Service", "Install"}
    return found["Service"]


def test_it_starts_a_command_that_is_one(service: dict[str, list[str]]) -> None:
    (line,) = service["ExecStart"]
    program, *argv = shlex.split(line)
    assert Path(program).is_absolute()
    values = parsed(argv)
    assert (values["command"], values["log_format"]) == ("serve", "json")


def test_a_reload_is_the_signal_that_the_server_takes(service: dict[str, list[str]]) -> None:
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_its_environment_is_read(service: dict[str, list[str]]) -> None:
    named = dict(each.split("=", 1) for each in service["Environment"])
    assert set(named) <= set(ENVIRONMENT)
    assert named["LIKEWISE_HOME"] == f"%C/{service['CacheDirectory'][0]}"
    (credential,) = service["LoadCredential"]
    assert named["LIKEWISE_API_KEY_FILE"] == f"%d/{credential.partition(':')[0]}"


def test_it_may_do_little(service: dict[str, list[str]]) -> None:
    for key, value in HARDENED.items():
        assert service[key] == [value], key
    assert int(service["TimeoutStopSec"][0]) > GRACE_S
    assert service["KillSignal"] == ["SIGTERM"]
    # The engine compiles code while it runs.
    assert "MemoryDenyWriteExecute" not in service


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("broken", [False, True])
def test_systemd_takes_it(unit: Path, tmp_path: Path, broken: bool) -> None:
    text = unit.read_text(encoding="utf-8")
    # systemd wants the program to be there.
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text)
    if broken:
        text = text.replace("ProtectSystem=strict", "ProtectSystem=strictly")
    copy = tmp_path / "likewise.service"
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "likewise.service" in line]
    assert bool(ours) == broken, done.stderr
