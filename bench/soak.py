"""Does the server hold under ten minutes of mixed load, and does it stop without losing anything?

    python bench/soak.py [MODEL_FOLDER] [--seconds 600] [--clients 12] [--drain 2]

Clients of every dialect ask `likewise serve` at once, short and long, one text and many; one
request in twenty is bad (broken JSON, a model that isn't there, a wrong field, a body that never
ends, a client that hangs up). Wanted: no error but those provoked, memory flat, and after SIGTERM
readiness goes down first, what was accepted is answered, and the exit code is 0. The p99 of each
kind is stated. The last lines are the checks; exit code 1 when one fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _texts
from _report import write
from engine import default_folder
from serve import free_port

BAD_SHARE = 0.05
SETTLED = 0.3
"""Share of the time after which memory counts as settled."""
GROWTH = 1.03
STEP_S = 2.0
IN_FLIGHT = 24

Ask = tuple[str, str, dict[str, Any]]


@dataclass
class Tally:
    """What happened."""

    times: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hung_up: int = 0


def good(texts: Sequence[str], model: str, pick: random.Random) -> Ask:
    """A request that must be answered 200: its kind, path and body."""
    some = pick.sample(texts, pick.choice((1, 1, 1, 2, 8, 40)))
    one = pick.choice(texts)
    asks: list[Ask] = [
        ("openai", "/v1/embeddings", {"model": model, "input": some}),
        ("openai", "/v1/embeddings", {"input": one, "encoding_format": "base64"}),
        ("tei", "/embed", {"inputs": some}),
        ("tei", "/embed", {"inputs": one, "truncate": True}),
        ("tei", "/tokenize", {"inputs": one}),
        ("tei", "/similarity", {"inputs": {"source_sentence": one, "sentences": some}}),
        ("ollama", "/api/embed", {"model": model, "input": some}),
        # It has no room to say that a text was cut, and refuses those that are too long.
        ("ollama", "/api/embeddings", {"model": model, "prompt": one[:300]}),
        (
            "cohere",
            "/v2/embed",
            {
                "model": model,
                "input_type": "search_query",
                "texts": some,
                "embedding_types": ["float", "binary"],
            },
        ),
        (
            "rerank",
            "/v1/rerank",
            {"model": model, "query": one, "documents": some, "by": "cosine"},
        ),
        (
            "score",
            "/score",
            {"model": model, "text_1": one, "text_2": some, "truncate_prompt_tokens": -1},
        ),
    ]
    return pick.choice(asks)


def bad(model: str, pick: random.Random) -> tuple[str, bytes]:
    """A request that must be answered 4xx: its path and body."""
    wrong: list[tuple[str, bytes]] = [
        ("/v1/embeddings", b'{"input": "a",}'),
        ("/v1/embeddings", b'{"input": "a", "model": "no/such-model"}'),
        ("/v1/embeddings", b'{"input": "a", "dimensions": -3}'),
        ("/v1/embeddings", b'{"input": ["", "a"]}'),
        ("/v1/embeddings", b'{"input": "\xff\xfe"}'),
        ("/embed", b'{"inputs": 1.5}'),
        ("/rerank", b'{"query": "a"}'),
        ("/api/embed", b'{"model": "nothing-here", "input": "a"}'),
        ("/api/embed", json.dumps({"model": model, "input": {"a": 1}}).encode()),
        ("/v2/embed", b"[" * 5000),
        ("/nothing/here", b"{}"),
    ]
    return pick.choice(wrong)


def framed(path: str, body: bytes, port: int, length: int | None = None) -> bytes:
    """The bytes of a request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One client, which connects again where it hung up."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port, self._tally = port, tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """The status of the answer to `request`, once its last byte is here."""
        reader, writer = await self._connected()
        writer.write(request)
        status, length, closes = await head_of(reader)
        await reader.readexactly(length)
        if closes:
            self.close()
        return status

    async def hang_up(self, request: bytes) -> None:
        """Send some of `request` and go."""
        _, writer = await self._connected()
        writer.write(request)
        await writer.drain()
        self.close()
        self._tally.hung_up += 1

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams


async def head_of(reader: asyncio.StreamReader) -> tuple[int, int, bool]:
    """Status, length and whether the server closes, of an answer's head."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    closes = fields.get(b"connection") == b"close"
    return int(lines[0].split()[1]), int(fields.get(b"content-length", b"0")), closes


async def load(
    port: int, model: str, texts: Sequence[str], seed: int, until: float, tally: Tally
) -> None:
    """One client's requests."""
    pick, client = random.Random(seed), Client(port, tally)
    while time.monotonic() < until:
        if pick.random() < BAD_SHARE:
            await misbehave(client, port, model, texts, pick, tally)
            continue
        kind, path, body = good(texts, model, pick)
        began = time.perf_counter()
        status = await client.ask(framed(path, json.dumps(body).encode(), port))
        tally.times.setdefault(kind, []).append(time.perf_counter() - began)
        tally.statuses[f"good {status}"] += 1
        if status != 200:
            tally.wrong.append(f"{path} answered {status} to {str(body)[:200]}")
    client.close()


async def misbehave(
    client: Client, port: int, model: str, texts: Sequence[str], pick: random.Random, tally: Tally
) -> None:
    """One bad request."""
    way = pick.random()
    whole = framed("/v1/embeddings", json.dumps({"input": pick.sample(texts, 60)}).encode(), port)
    if way < 0.2:
        await client.hang_up(whole[: len(whole) // 2])
    elif way < 0.4:
        await client.hang_up(whole)
    else:
        path, body = bad(model, pick)
        status = await client.ask(framed(path, body, port))
        tally.statuses[f"bad {status}"] += 1
        if not 400 <= status < 500:
            tally.wrong.append(f"{path} answered {status} to the bad {body[:100]!r}")


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmRSS")


async def watch(pid: int, until: float, marks: list[float]) -> None:
    """Note the memory of `pid` every few seconds."""
    while time.monotonic() < until:
        marks.append(resident_mb(pid))
        await asyncio.sleep(STEP_S)


async def soak(
    port: int, pid: int, model: str, seconds: float, clients: int, tally: Tally
) -> list[float]:
    """All clients for so long; the memory over time."""
    texts, _ = _texts.mixed(3000)
    until = time.monotonic() + seconds
    marks: list[float] = []
    work = [load(port, model, texts, seed, until, tally) for seed in range(clients)]
    await asyncio.gather(*work, watch(pid, until, marks))
    return marks


async def stop(process: subprocess.Popen[bytes], port: int, texts: Sequence[str]) -> dict[str, Any]:
    """SIGTERM with requests in flight: what became of them, and of readiness."""
    body = json.dumps({"input": list(texts[:200])}).encode()
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IN_FLIGHT)]
    watcher = await asyncio.open_connection("127.0.0.1", port)
    for _, writer in streams:
        writer.write(framed("/v1/embeddings", body, port))
        await writer.drain()
    await ready(watcher, port)
    process.send_signal(signal.SIGTERM)
    went_down = False
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        for _ in range(200):
            if went_down := await ready(watcher, port) == 503:
                break
    answered = []
    for reader, _ in streams:
        try:
            status, length, _ = await head_of(reader)
            await reader.readexactly(length)
            answered.append(status)
        except (asyncio.IncompleteReadError, OSError):
            answered.append(0)
    for _, writer in [*streams, watcher]:
        writer.close()
    code = await asyncio.to_thread(process.wait, 120)
    return {"went_down": went_down, "answered": answered, "exit": code}


async def ready(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int) -> int:
    """The status of `/ready`."""
    reader, writer = streams
    writer.write(f"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    status, length, _ = await head_of(reader)
    await reader.readexactly(length)
    return status


def start(folder: Path, port: int, drain_s: float) -> subprocess.Popen[bytes]:
    """The server, once it is ready."""
    argv = [sys.executable, "-m", "likewise", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen([*argv, "--drain", str(drain_s)])
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            if asyncio.run(_ready_once(port)) == 200:
                return process
        except (OSError, asyncio.IncompleteReadError):
            time.sleep(0.1)
    process.kill()
    raise SystemExit("the server didn't start")


async def _ready_once(port: int) -> int:
    streams = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ready(streams, port)
    finally:
        streams[1].close()


def main() -> None:
    """Soak, stop, check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--drain", type=float, default=2.0)
    asked = parser.parse_args()
    folder = asked.folder or default_folder()
    port, tally = free_port(), Tally()
    process = start(folder, port, asked.drain)
    try:
        marks = asyncio.run(
            soak(port, process.pid, folder.name, asked.seconds, asked.clients, tally)
        )
        texts, _ = _texts.mixed(300, seed=5)
        stopped = asyncio.run(stop(process, port, texts))
    finally:
        if process.poll() is None:
            process.kill()
    sys.exit(0 if report(tally, marks, stopped, asked.seconds) else 1)


def report(tally: Tally, marks: list[float], stopped: dict[str, Any], seconds: float) -> bool:
    """Print what happened; whether all is as wanted."""
    latencies = {}
    for kind, times in sorted(tally.times.items()):
        ordered = sorted(times)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        latencies[kind] = {"p50": statistics.median(ordered), "p99": p99}
        print(
            f"{kind:8} {len(times):7} requests  p50 {statistics.median(ordered) * 1000:7.1f} ms  "
            f"p99 {p99 * 1000:7.1f} ms"
        )
    print(f"statuses {dict(tally.statuses)}, {tally.hung_up} clients hung up")
    settled = marks[int(len(marks) * SETTLED) :]
    third = max(1, len(settled) // 3)
    growth = statistics.median(settled[-third:]) / statistics.median(settled[:third])
    checks = {
        "no error but those provoked": not tally.wrong,
        f"memory flat ({growth:.3f} <= {GROWTH}, at most {max(marks):.0f} MB)": growth <= GROWTH,
        "readiness went down first": stopped["went_down"],
        "what was accepted was answered": set(stopped["answered"]) == {200},
        "exit code 0": stopped["exit"] == 0,
    }
    for line in tally.wrong[:10]:
        print(f"wrong: {line}")
    row = {"seconds": seconds, "latency_s": latencies, "resident_mb": marks, "growth": growth}
    write("soak", {**row, "statuses": dict(tally.statuses), "checks": checks})
    for what, holds in checks.items():
        print(f"{'yes' if holds else 'NO '} {what}")
    return all(checks.values())


if __name__ == "__main__":
    main()
