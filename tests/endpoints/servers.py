"""Servers that others wrote, started here on the loopback with the real all-MiniLM-L6-v2."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support import LIMIT, free_port, wait_until

REPO = Path(__file__).resolve().parents[2]
OTHERS = REPO / ".venv-endpoints" / "bin"
INFINITY = REPO / ".venv-infinity" / "bin"
HERE = Path(__file__).parent
KEY = "sk-sesame"
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1"}
START_S = 120.0


@dataclass
class Server:
    """One server, which is started, killed and started again at the same address."""

    name: str
    command: Sequence[str]
    ready: str
    """What it answers with success once it serves."""
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it serves."""
        assert Path(self.command[0]).exists(), f"{self.name}: run 'make test-endpoints'"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **OFFLINE, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
            )
        wait_until(self.is_ready, START_S, what=f"{self.name} serves, as {self.log} tells,")

    def is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
        try:
            return httpx.get(f"{self.url}{self.ready}", trust_env=False, timeout=LIMIT).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """As a machine does that loses its power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass(frozen=True)
class Kind:
    """What is known of one server beforehand: how it differs from others is declared here."""

    address: str
    """Of a model, with `{}` for the server's URL."""
    key: str | None = KEY
    """None: it checks none."""
    least_cosine: float = 0.99999
    """To the vectors that are computed here in float32."""
    too_long: str = "refused"
    """What becomes of a text that is longer than it reads: `refused` in words that say why,
    `cut` as sentence-transformers cuts it, or `failed` without a reason."""
    checks_names: bool = False
    """Whether it refuses a model that it doesn't have."""
    behind: str | None = None
    """The server that it passes texts on to."""


KINDS: Mapping[str, Kind] = {
    "llama.cpp": Kind("openai:minilm@{}/v1"),
    "infinity": Kind("openai:minilm@{}/v1", too_long="cut"),
    "litellm": Kind("openai:minilm@{}/v1", checks_names=True, behind="llama.cpp"),
    "ollama-proxy": Kind("ollama:local/minilm@{}", key=None, too_long="failed", behind="llama.cpp"),
}


class Servers:
    """Those that are running, each started when first asked for; `close` ends them."""

    def __init__(self, model: Path, work: Path) -> None:
        self.model = model
        self.work = work
        self._made: dict[str, Server] = {}
        self._makers: Mapping[str, Callable[[], Server]] = {
            "llama.cpp": self._llama_cpp,
            "infinity": self._infinity,
            "litellm": self._litellm,
            "ollama-proxy": self._ollama_proxy,
        }

    def __getitem__(self, name: str) -> Server:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        made = self._made[name]
        if made.process is None:
            made.start()
        return made

    def close(self) -> None:
        for each in self._made.values():
            each.kill()

    def _server(self, name: str, command: Sequence[str], ready: str, port: int) -> Server:
        return Server(name, command, ready, port, self.work / f"{name}.log")

    def _llama_cpp(self) -> Server:
        file = self.work / "minilm.gguf"
        python = str(OTHERS / "python")
        subprocess.run([python, HERE / "write_gguf.py", self.model, file], check=True)
        port = free_port()
        command = [python, str(HERE / "serve_gguf.py"), str(file), str(port), KEY]
        return self._server("llama.cpp", command, "/health", port)

    def _infinity(self) -> Server:
        port = free_port()
        options = {
            "model-id": str(self.model),
            "served-model-name": "minilm",
            "engine": "torch",
            "device": "cpu",
            "dtype": "float32",
            "host": "127.0.0.1",
            "port": str(port),
            "url-prefix": "/v1",
            "api-key": KEY,
        }
        given = [part for name, value in options.items() for part in (f"--{name}", value)]
        switches = ["--no-bettertransformer", "--no-model-warmup"]
        command = [str(INFINITY / "infinity_emb"), "v2", *given, *switches]
        return self._server("infinity", command, "/health", port)

    def _litellm(self) -> Server:
        port = free_port()
        passed_on = {
            "model": "openai/minilm",
            "api_base": f"{self['llama.cpp'].url}/v1",
            "api_key": KEY,
            # Its own tries, 9 s of them, are many where ours follow.
            "max_retries": 0,
        }
        config = self.work / "litellm.json"
        config.write_text(
            json.dumps(
                {
                    "model_list": [{"model_name": "minilm", "litellm_params": passed_on}],
                    "general_settings": {"master_key": KEY},
                    "router_settings": {"num_retries": 0},
                }
            )
        )
        command = [str(OTHERS / "litellm"), "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
        made = self._server("litellm", command, "/health/liveliness", port)
        made.environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return made

    def _ollama_proxy(self) -> Server:
        port = free_port()
        command = [str(OTHERS / "ollama-proxy"), "serve", "--host", "127.0.0.1"]
        made = self._server("ollama-proxy", [*command, "--port", str(port)], "/api/tags", port)
        made.environment = {
            "PROVIDERS_LOCAL_BASE_URL": f"{self['llama.cpp'].url}/v1",
            "PROVIDERS_LOCAL_API_KEY": KEY,
            "EXTRA_MODELS": "local/minilm",
            # The digests that it tells of models are Python's hashes of their names.
            "PYTHONHASHSEED": "0",
        }
        return made
