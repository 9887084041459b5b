"""The Dockerfile and the compose file agree with each other, with the command and with the port."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from likewise.cli.resolve import ENVIRONMENT
from likewise.cli.settings import DEFAULT_PORT
from likewise.server.app import build
from likewise.server.run import GRACE_S
from tests.deploy.commands import parsed
from tests.unit.server.fakes import FakeModel

KNOWN = {
    "FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "VOLUME", "EXPOSE", "USER", "STOPSIGNAL",
    "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip
Line = tuple[str, str]


def instructions(text: str) -> list[Line]:
    """Each instruction and what follows it, continued lines joined."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(kept))
    lines = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in lines]


@pytest.fixture(scope="module")
def dockerfile(repo: Path) -> list[Line]:
    return instructions((repo / "deploy" / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def final(dockerfile: list[Line]) -> dict[str, str]:
    """The last of each instruction in the last stage."""
    last = max(at for at, (word, _) in enumerate(dockerfile) if word == "FROM")
    return dict(dockerfile[last:])


@pytest.fixture(scope="module")
def compose(repo: Path) -> dict[str, Any]:
    text = (repo / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def copied(dockerfile: list[Line]) -> list[str]:
    """What is copied out of the checkout."""
    found: list[str] = []
    for word, rest in dockerfile:
        parts = shlex.split(rest)
        if word == "COPY" and not any(part.startswith("--from=") for part in parts):
            found += [part for part in parts[:-1] if not part.startswith("--")]
    return found


def test_every_instruction_is_known_and_nothing_floats(dockerfile: list[Line]) -> None:
    assert {word for word, _ in dockerfile} <= KNOWN
    images = [rest.split()[0] for word, rest in dockerfile if word == "FROM"]
    assert images
    for image in images:
        _, colon, tag = image.partition(":")
        assert colon, image
        assert tag != "latest"
        assert re.match(r"3\.1[1-9]-slim$", tag), "the Python must be one that the package takes"
    stages = {rest.split()[-1] for word, rest in dockerfile if word == "FROM" and " AS " in rest}
    for word, rest in dockerfile:
        if word == "COPY" and "--from=" in rest:
            assert re.search(r"--from=(\S+)", rest)[1] in stages  # type: ignore[index]


def test_what_is_copied_is_there_and_not_ignored(dockerfile: list[Line], repo: Path) -> None:
    ignore = (repo / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert set(copied(dockerfile)) == kept
    for path in kept:
        assert (repo / path).exists(), path


def test_it_runs_as_nobody_and_stops_as_the_server_does(final: dict[str, str]) -> None:
    user, _, group = final["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert final["EXPOSE"] == str(DEFAULT_PORT)
    home = re.search(r"LIKEWISE_HOME=(\S+)", final["ENV"])
    assert home
    assert home[1] == final["VOLUME"] == "/models"
    for name in re.findall(r"\b(LIKEWISE_\w+)=", final["ENV"]):
        assert name in ENVIRONMENT


def test_the_health_check_asks_what_is_there(final: dict[str, str]) -> None:
    command = json.loads(final["HEALTHCHECK"].partition("CMD ")[2])
    compile(command[2], "health", "exec")
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", command[2])
    assert asked
    assert int(asked[1]) == DEFAULT_PORT
    assert asked[2] in {getattr(route, "path", "") for route in build({"m": FakeModel()}).routes}


def test_the_command_is_one(final: dict[str, str]) -> None:
    entry, rest = json.loads(final["ENTRYPOINT"]), json.loads(final["CMD"])
    assert entry[0] == "likewise"
    values = parsed([*entry[1:], *rest])
    assert (values["command"], values["host"], values["port"]) == ("serve", "0.0.0.0", DEFAULT_PORT)
    assert (values["log_format"], values["drain_s"]) == ("json", 5.0)


def test_a_model_is_baked_in_by_a_command_that_is_one(dockerfile: list[Line]) -> None:
    bakes = next(rest for word, rest in dockerfile if word == "RUN" and "models pull" in rest)
    argv = re.search(r"/bin/likewise (models pull \"\$MODEL\")", bakes)
    assert argv
    assert parsed(shlex.split(argv[1]))["command"] == "pull"
    assert ("ARG", 'MODEL=""') in dockerfile


def test_compose(compose: dict[str, Any], repo: Path, final: dict[str, str]) -> None:
    (service,) = compose["services"].values()
    build_ = service["build"]
    assert (repo / "deploy" / build_["context"] / build_["dockerfile"]).resolve().is_file()
    assert not service["image"].endswith(":latest")
    entry = json.loads(final["ENTRYPOINT"])
    assert parsed([*entry[1:], *service["command"]])["host"] == "0.0.0.0"
    # Docker's ports go round a firewall: only this machine may come in unless somebody says so.
    assert service["ports"] == [f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"]
    for name, value in service["environment"].items():
        assert name in ENVIRONMENT
        assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert set(service["secrets"]) <= set(compose["secrets"])
    mounts = dict(volume.split(":") for volume in service["volumes"])
    assert set(mounts) == set(compose["volumes"])
    assert final["VOLUME"] in mounts.values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE_S + 5


@pytest.mark.install
def test_what_is_copied_is_enough_to_build(
    dockerfile: list[Line], repo: Path, tmp_path: Path
) -> None:
    """A file that the build needs and the Dockerfile leaves out is found here."""
    for name in copied(dockerfile):
        source, target = repo / name, tmp_path / "build" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, tmp_path / "build"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("likewise-*.whl"))
