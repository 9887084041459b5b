"""What Ollama's command line sends and reads: its client's bodies, answers decoded as Go does.

A field of another type fails, a field that Go's type hasn't got fails (clients for the JVM are as
strict), and so does what the command line would do with an answer next.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
ZERO = datetime.fromisoformat("0001-01-01T00:00:00+00:00")
RFC3339 = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$"


class Struct(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A type of Go's client: what is missing in JSON keeps its zero."""


class Details(Struct):
    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = ""


class Listed(Struct):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Listing(Struct):
    models: list[Listed]


class Process(Struct):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class Processes(Struct):
    models: list[Process]


class Tensor(Struct):
    name: str
    type: str
    shape: list[int]


class Shown(Struct):
    modelfile: str = ""
    template: str = ""
    license: str = ""
    parameters: str = ""
    system: str = ""
    details: Details = msgspec.field(default_factory=Details)
    model_info: dict[str, Any] = {}
    tensors: list[Tensor] = []
    capabilities: list[str] = []
    modified_at: str = ""


class Embedded(Struct):
    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class Older(Struct):
    embedding: list[float]


class Generated(Struct):
    model: str
    created_at: str
    response: str
    done: bool
    done_reason: str


class Message(Struct):
    role: str
    content: str


class Chatted(Struct):
    model: str
    created_at: str
    message: Message
    done: bool
    done_reason: str


class Progress(Struct):
    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Version(Struct):
    version: str


class Failed(Exception):
    """What the command line prints of a refusal, before it ends with 1."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def time_of(text: str) -> datetime:
    """As Go reads a time: RFC 3339 and nothing else."""
    import re

    assert re.match(RFC3339, text), text
    return datetime.fromisoformat(text)


class CommandLine:
    """The commands, each with what it sends in that order."""

    def __init__(self, client: Any) -> None:
        """`client` has httpx's methods: of an application, or of a server that runs."""
        self._client = client

    def _send(self, method: str, path: str, body: object = None) -> Any:
        """One request; Go's client reads `status` alone at 401, and `error` otherwise."""
        content = None if body is None else json.dumps(body).encode()
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": "ollama/0.24.0 (amd64 linux) Go/go1.24.1",
        }
        answer = self._client.request(method, path, content=content, headers=headers)
        if answer.status_code == 401:
            status = answer.json().get("status", "")
            raise Failed(401, status or "something went wrong, please see the server logs")
        if answer.status_code >= 400 and method != "HEAD":
            raise Failed(answer.status_code, answer.json()["error"])
        assert answer.status_code == 200
        return answer

    def _do(self, into: type[T], method: str, path: str, body: object = None) -> T:
        return msgspec.json.decode(self._send(method, path, body).content, type=into)

    def heartbeat(self) -> None:
        """Each command but the last two begins so; the client sets no Accept for HTML."""
        self._send("HEAD", "/")

    def version(self) -> str:
        return self._do(Version, "GET", "/api/version").version

    def list_models(self) -> list[tuple[str, str, int]]:
        """NAME, ID and SIZE; the ID is the first twelve digits, whose lack is a panic in Go."""
        self.heartbeat()
        rows = self._do(Listing, "GET", "/api/tags").models
        for one in rows:
            assert time_of(one.modified_at) > ZERO
            assert len(one.digest) >= 12, one
        return [(one.name, one.digest[:12], one.size) for one in rows]

    def ps(self) -> list[tuple[str, str]]:
        self.heartbeat()
        rows = self._do(Processes, "GET", "/api/ps").models
        for one in rows:
            assert time_of(one.expires_at) > ZERO
            assert len(one.digest) >= 12, one
            assert one.size >= one.size_vram
        return [(one.name, one.digest[:12]) for one in rows]

    def show(self, name: str, *, verbose: bool = False) -> Shown:
        self.heartbeat()
        return self._show({"model": "", "name": name, "verbose": verbose})

    def _show(self, named: dict[str, object]) -> Shown:
        asked = {"model": "", "system": "", "template": "", "verbose": False, "options": None}
        shown = self._do(Shown, "POST", "/api/show", asked | {"name": ""} | named)
        time_of(shown.modified_at)
        family = shown.details.family
        # It prints these as numbers.
        for key in ("context_length", "embedding_length"):
            assert isinstance(shown.model_info.get(f"{family}.{key}", 0), int)
        assert isinstance(shown.model_info.get("general.parameter_count", 0), int)
        return shown

    def run(self, name: str, text: str) -> list[float]:
        """`ollama run MODEL TEXT`: of an embedding model it prints the vector."""
        self.heartbeat()
        assert "embedding" in self._show({"model": name}).capabilities
        sent = {"model": name, "input": text, "options": {}}
        found = self._do(Embedded, "POST", "/api/embed", sent)
        assert found.model == name
        (vector,) = found.embeddings
        return vector

    def pull(self, name: str) -> list[Progress]:
        self.heartbeat()
        asked = {"model": "", "username": "", "password": "", "name": name}
        lines = self._send("POST", "/api/pull", asked).content.splitlines()
        for line in lines:
            if error := json.loads(line).get("error"):
                raise Failed(200, error)
        steps = [msgspec.json.decode(line, type=Progress) for line in lines]
        assert all(0 <= step.completed <= (step.total or step.completed) for step in steps)
        return steps

    def stop(self, name: str) -> Generated:
        self._show({"model": name})
        return self._unload(name)

    def _unload(self, name: str) -> Generated:
        asked = {
            "model": name, "prompt": "", "suffix": "", "system": "", "template": "",
            "keep_alive": "0s", "options": None,
        }  # fmt: skip
        found = self._do(Generated, "POST", "/api/generate", asked)
        time_of(found.created_at)
        return found

    def rm(self, name: str) -> None:
        self.heartbeat()
        try:
            self.stop(name)
        except Failed as failed:
            assert "not found" in str(failed).lower()
        self._send("DELETE", "/api/delete", {"model": "", "name": name})
