"""A Hugging Face hub on the loopback that serves one repository; the real client talks to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40
REPOSITORY = {
    "modules.json": json.dumps(
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "x.Pooling"},
        ]
    ).encode(),
    "config.json": b'{"model_type": "bert"}',
    "1_Pooling/config.json": b'{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 400,
    "pytorch_model.bin": b"not taken",
    "onnx/model.onnx": b"not taken",
    "openvino/config.json": b"not taken",
    "README.md": b"not taken",
}
TAKEN = {
    "README.md",
    "modules.json",
    "config.json",
    "1_Pooling/config.json",
    "tokenizer.json",
    "model.safetensors",
}


@dataclass
class Hub:
    """What the server serves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(REPOSITORY))
    claimed: dict[str, bytes] = field(default_factory=dict)
    """Contents that the listing describes, where they differ from what is sent."""
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    """The values of `Authorization` that came; empty where none did."""
    refusal: tuple[int, str, str] | None = None
    """Status, code and message that everything is refused with."""
    refuses_files: bool = False
    """Whether only files are refused, as the hub does with those of gated repositories."""
    answers: threading.Event | None = None
    """Nothing is answered until it is set."""
    endpoint: str = ""

    def meet(self, headers: Message) -> None:
        if "authorization" in headers:
            self.tokens.add(headers["authorization"])
        if self.answers is not None:
            self.answers.wait(60)

    def answered(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of what is answered at `path`."""
        if self.refusal is not None and ("/resolve/" in path or not self.refuses_files):
            status, code, message = self.refusal
            return status, {"X-Error-Code": code, "X-Error-Message": message}, b""
        if path.startswith("/api/models/some/model"):
            return 200, {}, json.dumps(self.listing()).encode()
        if path.startswith("/some/model/resolve/"):
            content = self.files[path.split("/", 5)[5]]
            digest = hashlib.sha256(content).hexdigest()
            return 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, content
        return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "Repository not found"}'

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, sent in self.files.items():
            content = self.claimed.get(name, sent)
            sibling: dict[str, object] = {"rfilename": name, "size": len(content)}
            if name.endswith((".safetensors", ".bin", ".onnx")):
                digest = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
                sibling["blobId"] = "0" * 40
            else:
                git = hashlib.sha1(b"blob %d\0" % len(content) + content)
                sibling["blobId"] = git.hexdigest()
            siblings.append(sibling)
        return {
            "id": "some/model", "modelId": "some/model", "sha": COMMIT, "private": False,
            "tags": [], "downloads": 0, "likes": 0, "siblings": siblings,
            "cardData": {"license": "mit"},
        }  # fmt: skip


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A running hub; `hub.endpoint` is its address."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            hub.meet(self.headers)
            status, headers, content = hub.answered(path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
