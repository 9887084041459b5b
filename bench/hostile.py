"""Does one hostile request hold up others, and does its memory come back?

    python bench/hostile.py [MODEL_FOLDER] [--only PATH]... [--likewise COMMAND]

A process asks `/health` of `likewise serve` 50 times a second on one connection, and in between
that of a second server that is asked for nothing else, which shows what the machine adds. Beside
it every POST route that the server's own description lists is sent megabytes of text of several
kinds, many texts, many token ids, and JSON made to harm. For each route the worst wait of both is
stated. At last: resident memory before and after. The last line is the ratio of both. Wanted: a
worst wait of 20 ms, memory back within 10 %.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from _report import write
from engine import default_folder
from serve import free_port

EVERY_S = 0.02
SETTLE_S = 6.0
WANTED_MS = 20.0
MEGABYTES = 3_000_000

TEXTS: dict[str, str] = {
    "words": "the cat sat on the mat " * (MEGABYTES // 23),
    "spaces": " " * MEGABYTES,
    "one word": "a" * MEGABYTES,
    "ideographs": "\u7684" * (MEGABYTES // 3),
    "emoji": "\U0001f600" * (MEGABYTES // 4),
    "marks": "e" + "\u0301" * (MEGABYTES // 2),
    "lines of numbers": "1,22,333,4444\n" * (MEGABYTES // 14),
    "20 MB of words": "river stone light moon sun " * 750_000,
}
IDS = {"100,000 ids": [1000 + at % 5000 for at in range(100_000)]}
LISTS: dict[str, list[str]] = {
    "2,048 texts": ["the cat sat on the mat"] * 2048,
    "2,048 long texts": ["the cat sat on the mat " * 400] * 2048,
    "100,000 tiny texts": ["a"] * 100_000,
}
RAW: dict[str, bytes] = {
    "nested": b'{"input":' + b"[" * 5_000_000 + b"]" * 5_000_000 + b"}",
    "empty lists": b'{"input":[' + b"[]," * 3_000_000 + b"[]]}",
    "tiny texts": b'{"input":[' + b'"a",' * 3_000_000 + b'"a"]}',
    "escapes": b'{"input":"' + b"\\u7684" * 500_000 + b'"}',
    "white space": b" " * 20_000_000,
    "no end": b'{"input":"' + b"a" * 10_000_000,
}

Make = Callable[[Any], dict[str, Any]]
_MANY: dict[str, Make] = {
    "/v1/embeddings": lambda given: {"input": given},
    "/embed": lambda given: {"inputs": given},
    "/embed_all": lambda given: {"inputs": given},
    "/api/embed": lambda given: {"model": "", "input": given},
    "/v2/embed": lambda given: {
        "texts": given if isinstance(given, list) else [given],
        "input_type": "search_document",
        "embedding_types": ["float"],
    },
    "/tokenize": lambda given: {"inputs": given},
    "/similarity": lambda given: {
        "inputs": {
            "source_sentence": "a cat",
            "sentences": given if isinstance(given, list) else [given],
        }
    },
    "/rerank": lambda given: {
        "query": "a cat",
        "documents": given if isinstance(given, list) else [given],
    },
    "/score": lambda given: {"text_1": "a cat", "text_2": given},
    "/pooling": lambda given: {"input": given},
}
_ONE: dict[str, Make] = {
    "/api/embeddings": lambda text: {"model": "", "prompt": text},
    "/tokenize": lambda text: {"prompt": text},
}
_IDS: dict[str, Make] = {
    "/v1/embeddings": lambda ids: {"input": ids},
    "/decode": lambda ids: {"ids": ids},
    "/detokenize": lambda ids: {"tokens": ids},
}


def bodies(path: str) -> Iterator[tuple[str, bytes]]:
    """What a route is sent, by name; those of no table get what any body is decoded from."""
    for name, text in TEXTS.items():
        for table in (_MANY, _ONE):
            if path in table:
                yield name, json.dumps(table[path](text), ensure_ascii=False).encode()
    for name, texts in LISTS.items():
        if path in _MANY:
            yield name, json.dumps(_MANY[path](texts)).encode()
    for name, ids in IDS.items():
        if path in _IDS:
            yield name, json.dumps(_IDS[path](ids)).encode()
    yield from RAW.items()


def probe(ports: tuple[int, int], pipe: Connection) -> None:
    """Ask `/health` of two servers at a fixed rate until told to stop.

    Each message is answered with the worst waits since the last one, in ms.
    """
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=120) for port in ports]
    worst = [0.0, 0.0]
    while True:
        began = time.perf_counter()
        for at, connection in enumerate(connections):
            asked = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            worst[at] = max(worst[at], 1000 * (time.perf_counter() - asked))
        if pipe.poll(max(0.0, EVERY_S - (time.perf_counter() - began))):
            if pipe.recv() == "stop":
                return
            pipe.send(worst)
            worst = [0.0, 0.0]


def send(port: int, path: str, body: bytes) -> int:
    """The status of the answer; all of it is read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        connection.close()


def resident_mib(pid: int) -> float:
    """What the process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@contextmanager
def served(command: str, folder: Path) -> Iterator[tuple[int, int]]:
    """A server of its own: port and process id."""
    port = free_port()
    running = subprocess.Popen(
        [command, "serve", str(folder), "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, running.pid
    finally:
        running.terminate()
        running.wait(90)


def routes(port: int) -> list[str]:
    """POST routes of the server's own description."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/openapi.json")
    paths = json.loads(connection.getresponse().read())["paths"]
    connection.close()
    return sorted(path for path, known in paths.items() if "post" in known and "{" not in path)


def measured(port: int, pid: int, pipe: Connection, paths: list[str]) -> dict[str, Any]:
    """The worst wait of each route in ms, with what was sent; and of none."""
    found: dict[str, Any] = {}
    for path in paths:
        worst, beside = (0.0, ""), 0.0
        for name, body in bodies(path):
            pipe.send("waits")
            pipe.recv()
            status = send(port, path, body)
            pipe.send("waits")
            waited, idle = pipe.recv()
            print(f"  {path:24} {name:20} {status} {waited:7.1f} ms, idle {idle:.1f}", flush=True)
            worst, beside = max(worst, (waited, name)), max(beside, idle)
        found[path] = {
            "worst_ms": round(worst[0], 1),
            "with": worst[1],
            "idle_ms": round(beside, 1),
        }
        print(
            f"{path:30} worst {worst[0]:7.1f} ms ({worst[1]}), idle server {beside:.1f} ms, "
            f"{resident_mib(pid):.0f} MiB"
        )
    return found


def main() -> int:
    """Measure, print, write the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", action="append", help="a path")
    parser.add_argument("--likewise", default=str(Path(sys.executable).with_name("likewise")))
    asked = parser.parse_args()
    folder = asked.folder or default_folder()
    with served(asked.likewise, folder) as (port, pid), served(asked.likewise, folder) as (idle, _):
        for number in range(3):
            texts = [f"an ordinary text, number {number} {at}" for at in range(2000)]
            send(port, "/v1/embeddings", json.dumps({"input": texts}).encode())
        ours, theirs = multiprocessing.Pipe()
        prober = multiprocessing.get_context("spawn").Process(
            target=probe, args=((port, idle), theirs)
        )
        prober.start()
        try:
            time.sleep(SETTLE_S)
            before = resident_mib(pid)
            paths = asked.only or routes(port)
            found = measured(port, pid, ours, paths)
            time.sleep(SETTLE_S)
            after = resident_mib(pid)
        finally:
            ours.send("stop")
            prober.join()
    worst = max(found.values(), key=lambda one: one["worst_ms"])
    row = {
        "idle_worst_ms": max(one["idle_ms"] for one in found.values()),
        "worst_ms": worst["worst_ms"],
        "worst_with": worst["with"],
        "routes": found,
        "before_mib": round(before),
        "after_mib": round(after),
        "ratio": round(after / before, 3),
    }
    write("hostile", row)
    print(
        f"worst wait {row['worst_ms']} ms (idle server {row['idle_worst_ms']} ms, "
        f"wanted {WANTED_MS:g})"
    )
    print(f"resident {before:.0f} MiB before, {after:.0f} MiB after: {row['ratio']:.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
