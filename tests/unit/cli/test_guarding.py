"""What guards a served process: keys, certificates and origins from flags, file and environment."""

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import httpx
import pytest

from likewise.base.errors import SettingsError
from likewise.cli import resolve, settings
from likewise.cli.guarding import Guarding, guard_of, of_file
from likewise.cli.request_options import Requests, request_options
from likewise.server.listen import require_certificate
from tests.support import LIMIT, wait_until

KEY = "key-of-the-environment-0123456789"
ADMIN = "admin-of-the-environment-0123456789"
TEXT = "sentinel-text-0123456789"
WRONG = "sentinel-wrong-key-0123456789"


@pytest.fixture(autouse=True)
def no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in resolve.ENVIRONMENT:
        if "_KEY" in name:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def make_certificate(folder: Path, *extra: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for 127.0.0.1, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         *(extra or ("-nodes",)), "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_keys_of_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{ADMIN}\n")
    found = resolve.given_keys(
        {"LIKEWISE_API_KEY": KEY, "LIKEWISE_ADMIN_KEY": "", "LIKEWISE_ADMIN_KEY_FILE": str(secret)}
    )
    assert found == {"LIKEWISE_API_KEY": (KEY, False), "LIKEWISE_ADMIN_KEY": (ADMIN, True)}
    assert resolve.given_keys({"LIKEWISE_API_KEY": ""}) == {}


def test_keys_of_the_environment_that_cant_be_had(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff" + KEY.encode())
    for environment, words in (
        ({"LIKEWISE_API_KEY": KEY, "LIKEWISE_API_KEY_FILE": "x"}, "are both set"),
        ({"LIKEWISE_API_KEY_FILE": str(tmp_path / "none")}, "can't be read: No such file"),
        ({"LIKEWISE_API_KEY_FILE": str(secret)}, "can't be read: it isn't text"),
    ):
        with pytest.raises(SettingsError, match=words) as refused:
            resolve.given_keys(environment)
        assert KEY not in str(refused.value)


def test_an_empty_secret_is_no_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("\n")
    monkeypatch.setenv("LIKEWISE_API_KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match="a key has 16 to 512 characters, this one 0"):
        guard_of(Guarding(), "127.0.0.1")


def test_keys_and_no_auth_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_API_KEY", KEY)
    with pytest.raises(SettingsError, match="contradict each other") as refused:
        guard_of(Guarding(insecure=True), "0.0.0.0")
    assert KEY not in str(refused.value)


def test_keys_in_the_clear_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    certificate: tuple[Path, Path],
) -> None:
    monkeypatch.setenv("LIKEWISE_API_KEY", KEY)
    for host, tls, warned in (
        ("0.0.0.0", (None, None), True),
        ("0.0.0.0", certificate, False),
        ("127.0.0.1", (None, None), False),
    ):
        guard = guard_of(Guarding(tls_cert=tls[0], tls_key=tls[1]), host)
        assert guard.keys is not None
        assert ("--tls-cert" in capsys.readouterr().err) == warned


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    written = settings.parse(
        "[server]\nkeys = 'k.jsonl'\ncors_origins = ['https://a']\ntls_cert = '/c.pem'\n"
        "tls_key = 'k.pem'\nmax_batch_inputs = 3\nmax_connections = 4\nbody_timeout_s = 5\n"
        "connection_idle_s = 6\nstrict = true\ndefault_prompt = 'p: '\nauto_truncate = false\n"
        "token_ids = 'refuse'\n"
    ).server
    expected = Guarding(
        tmp_path / "k.jsonl",
        False,
        ("https://a",),
        Path("/c.pem"),
        tmp_path / "k.pem",
        True,
        3,
        4,
        5,
        6,
        Requests("p: ", None, False, "refuse"),
    )
    assert of_file(written, tmp_path, Guarding()) == expected
    said = Requests(default_prompt_name="query", auto_truncate=True)
    flags = Guarding(keys=Path("mine"), cors_origins=("https://b",), requests=said)
    both = of_file(written, tmp_path, flags)
    assert (both.keys, both.cors_origins, both.max_connections) == (
        Path("mine"), ("https://b",), 4,
    )  # fmt: skip
    # A prompt by flag takes the file's place, whichever way either is given.
    assert both.requests == Requests(None, "query", True, "refuse")


@pytest.mark.parametrize(
    "name", ["max_batch_inputs", "max_connections", "body_timeout_s", "connection_idle_s"]
)
def test_limits_that_let_nothing_through_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"server.{name} must be at least 1"):
        settings.parse(f"[server]\n{name} = 0")


def test_certificates_that_cant_be_used(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    (tmp_path / "other").mkdir()
    (tmp_path / "locked").mkdir()
    _, other = make_certificate(tmp_path / "other")
    locked = make_certificate(tmp_path / "locked", "-passout", "pass:secret")
    noise = tmp_path / "noise.pem"
    noise.write_text("no certificate")
    assert require_certificate(cert, key) == (cert, key)
    assert require_certificate(None, None) is None
    for given, words in (
        ((cert, None), "the key.*is missing"),
        ((None, key), "the certificate.*is missing"),
        ((tmp_path / "none", key), "none: can't be read"),
        ((cert, tmp_path), "can't be read"),
        ((noise, key), "aren't a certificate in PEM and its key"),
        ((cert, noise), "aren't a certificate in PEM and its key"),
        ((cert, other), "key values mismatch"),
        (locked, "wants a passphrase"),
    ):
        with pytest.raises(SettingsError, match=words):
            require_certificate(*given)


Start = Callable[..., "Process"]


class Process:
    """A running `likewise serve` of the real model, and all that it says."""

    def __init__(self, folder: Path, environment: dict[str, str], *argv: str) -> None:
        self.log = folder / "said.txt"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "likewise", "--log-level", "debug", "serve", *argv],
                cwd=folder, env=os.environ | environment, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def url(self) -> str:
        def found() -> re.Match[str] | None:
            assert self.popen.poll() is None, self.said
            return re.search(r"listening on (\S+)", self.said)

        match = wait_until(found, what="the server's address")
        assert match is not None
        return match[1]


@pytest.fixture
def start(tmp_path: Path, model_cache: Path, model_folder: Path) -> Iterator[Start]:
    begun: list[Process] = []

    def start(*argv: str, **environment: str) -> Process:
        own = {"LIKEWISE_HOME": str(model_cache), "LIKEWISE_OFFLINE": "1"}
        begun.append(Process(tmp_path, own | environment, *argv, "--port", "0"))
        return begun[-1]

    yield start
    for each in begun:
        each.popen.terminate()
        assert each.popen.wait(LIMIT) in (0, 2)


@pytest.mark.model
def test_it_speaks_https_and_wants_the_key(start: Start, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    server = start("--tls-cert", str(cert), "--tls-key", str(key), LIKEWISE_API_KEY=KEY)
    url = server.url()
    assert url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(cert))
    body = {"input": "a"}
    with httpx.Client(verify=trusting, timeout=LIMIT) as client:
        assert client.post(f"{url}/v1/embeddings", json=body).status_code == 401
        answer = client.post(f"{url}/v1/embeddings", json=body, headers={"api-key": KEY})
        assert len(answer.json()["data"][0]["embedding"]) == 384
    with pytest.raises(httpx.HTTPError):
        httpx.get(url.replace("https", "http") + "/health", timeout=LIMIT)
    assert "Traceback" not in server.said


@pytest.mark.model
def test_what_cant_guard_is_said_before_anything_is_loaded(start: Start, tmp_path: Path) -> None:
    (tmp_path / "open.jsonl").write_text("")
    (tmp_path / "open.jsonl").chmod(0o644)
    for argv, words in (
        (("--host", "0.0.0.0"), "nothing would ask who they are"),
        (("--keys", "none.jsonl"), "none.jsonl: no such file; make it with 'likewise keys add"),
        (("--keys", "open.jsonl"), "open to other users"),
        (("--tls-cert", "none.pem", "--tls-key", "none.pem"), "none.pem: can't be read"),
        (("--cors-origin", "app.example"), "isn't an origin"),
    ):
        # A model that isn't there would be the error, were it looked for first.
        server = start("no-such-model", *argv)
        assert server.popen.wait(LIMIT) == 2
        assert words in server.said
        assert "no-such-model" not in server.said


@pytest.mark.model
def test_neither_keys_nor_texts_are_said_anywhere(start: Start) -> None:
    """Through every route, in every way that fails, with all that can be logged."""
    server = start(LIKEWISE_API_KEY=KEY, LIKEWISE_ADMIN_KEY=ADMIN)
    url = server.url()
    with httpx.Client(base_url=url, timeout=LIMIT) as client:
        routes = paths_of(client)
        assert ("POST", "/v1/embeddings") in routes
        shown = []
        for method, path in routes:
            for headers in ({"api-key": WRONG}, {"api-key": KEY}, {"api-key": ADMIN}):
                for body in BODIES:
                    client.request(method, path, content=body, params={"q": TEXT}, headers=headers)
            for path in ("/metrics", "/health", "/ready"):
                shown.append(client.get(path, headers={"api-key": ADMIN}).text)
        assert "likewise_texts_total" in shown[0]
    server.popen.terminate()
    assert server.popen.wait(LIMIT) == 0
    assert "INFO" in server.said, "nothing was logged"
    for secret in (KEY, ADMIN, WRONG, TEXT):
        assert secret not in server.said
        assert not any(secret in text for text in shown)


BODIES = [
    f'{{"input": "{TEXT}"}}'.encode(),
    f'{{"input": ["{TEXT}", ""]}}'.encode(),
    f'{{"{TEXT}": 1}}'.encode(),
    f'{{"input": "a", "model": "{TEXT}"}}'.encode(),
    f'{{"input": "a", "encoding_format": "{TEXT}"}}'.encode(),
    f'{{"inputs": "{TEXT}"}}'.encode(),
    f'{{"q": "{TEXT}"}}'.encode(),
    f'{{"input": "{TEXT}'.encode(),
    TEXT.encode("utf-16"),
]


def paths_of(client: httpx.Client) -> list[tuple[str, str]]:
    """Every route that an application has, with a made-up name where it takes one."""
    from starlette.routing import Route

    from likewise.server.app import build
    from tests.unit.server.fakes import FakeModel

    routes = [route for route in build({"m": FakeModel()}).routes if isinstance(route, Route)]
    named = [(route.methods or set(), re.sub(r"{[^}]*}", TEXT, route.path)) for route in routes]
    return [*((m, path) for methods, path in named for m in sorted(methods)), ("GET", f"/{TEXT}")]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], Requests()),
        (["--auto-truncate"], Requests(auto_truncate=True)),
        (["--auto-truncate", "false"], Requests(auto_truncate=False)),
        (["--default-prompt", "p: "], Requests(default_prompt="p: ")),
        (["--default-prompt-name", "query"], Requests(default_prompt_name="query")),
        (["--token-ids", "refuse"], Requests(token_ids="refuse")),
    ],
)
def test_flags_about_requests(flags: list[str], expected: Requests) -> None:
    seen: list[Requests] = []

    @click.command()
    @request_options
    def command(requests: Requests) -> None:
        seen.append(requests)

    assert command.main(flags, standalone_mode=False) is None
    assert seen == [expected]


@pytest.mark.parametrize("requests", [Requests(r"Find:\n"), Requests()], ids=["flag", "file"])
def test_a_line_end_may_be_typed_in_the_default_prompt(requests: Requests) -> None:
    said = requests.over(settings.ServerSettings(default_prompt=r"Find:\n"))
    assert said.defaults().prompt == "Find:\n"


def test_two_default_prompts_are_refused() -> None:
    with pytest.raises(SettingsError, match="give one of them"):
        guard_of(Guarding(requests=Requests("a", "b")), "127.0.0.1")
