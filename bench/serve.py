"""P2, P3, P4: what does HTTP cost, how soon is a query answered, and does bulk hold it up?

    python bench/serve.py [MODEL_FOLDER] [--rounds 5] [--seconds 4] [--skip SIDE] [--url NAME=BASE]

Servers run side by side on this machine and are asked in turn, one right after the other in each
round: `likewise serve`; sentence-transformers behind a minimal server; infinity (its torch engine,
from .venv-infinity, `make bench-serve` installs it); any other OpenAI-compatible base URL given
with --url. The same texts go to all. Ours is compared with the engine alone, in this process, in
the same rounds:

    P2  texts/s of 16 clients with one text a request, of 8 clients with 32, against the engine
    P3  p50 of one short query on an idle server, against the engine's own single run; both with the
        same pauses, after which caches and processors are cold
    P4  p99 of that query beside 8 bulk clients, against its idle p50; and what bulk keeps

The last lines are the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _texts
from _report import write
from engine import default_folder, is_installed

HERE = Path(__file__).resolve().parent
INFINITY = HERE.parent / ".venv-infinity" / "bin" / "infinity_emb"
QUERY = "how do I reset my password"
SINGLES, BULKS, BULK = 16, 8, 32
EVERY_S = 0.02
START_S = 180.0
MODEL = "bench"


@dataclass
class Side:
    """A server: where it listens, and what asks it for texts."""

    name: str
    port: int
    path: str = "/v1/embeddings"
    model: str = MODEL
    process: subprocess.Popen[bytes] | None = None
    found: dict[str, list[float]] = field(default_factory=dict)

    def request(self, texts: Sequence[str]) -> bytes:
        """The bytes of a request for the vectors of `texts`."""
        body = json.dumps({"model": self.model, "input": list(texts), "encoding_format": "float"})
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        )
        return head.encode() + body.encode()

    def note(self, what: str, value: float) -> None:
        """Keep a figure."""
        self.found.setdefault(what, []).append(value)

    def median(self, what: str) -> float:
        """The figure over all rounds."""
        return statistics.median(self.found[what])


class Client:
    """One kept connection; it reads answers whole and looks only at their status."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> None:
        """Send `request`, and wait for the last byte of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        answer = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head[:40]!r} {answer[:300]!r}")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@contextlib.asynccontextmanager
async def clients(side: Side, count: int) -> AsyncIterator[list[Client]]:
    """`count` connections to `side`."""
    made = [Client(*await asyncio.open_connection("127.0.0.1", side.port)) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


async def throughput(
    side: Side, texts: Sequence[str], count: int, batch: int, until: float
) -> float:
    """Texts a second of `count` clients that send `batch` texts at a time until `until`."""
    blocks = itertools.cycle(
        [side.request(texts[at : at + batch]) for at in range(0, len(texts) - batch + 1, batch)]
    )
    done = 0

    async def work(client: Client) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await client.ask(next(blocks))
            done += batch

    began = time.perf_counter()
    async with clients(side, count) as made:
        await asyncio.gather(*(work(each) for each in made))
    return done / (time.perf_counter() - began)


async def latencies(side: Side, until: float, queries: Iterator[str]) -> list[float]:
    """Seconds of one query after the other, with pauses, until `until`."""
    times = []
    async with clients(side, 1) as (client,):
        while time.perf_counter() < until:
            request = side.request([next(queries)])
            began = time.perf_counter()
            await client.ask(request)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(EVERY_S)
    return times


async def measure(side: Side, texts: Sequence[str], seconds: float, queries: Iterator[str]) -> None:
    """One round of one server."""

    def until() -> float:
        return time.perf_counter() + seconds

    side.note("idle_p50", statistics.median(await latencies(side, until(), queries)))
    side.note("singles", await throughput(side, texts, SINGLES, 1, until()))
    side.note("bulk", await throughput(side, texts, BULKS, BULK, until()))
    end = until()
    busy, times = await asyncio.gather(
        throughput(side, texts, BULKS, BULK, end), latencies(side, end, queries)
    )
    side.note("bulk_beside", busy)
    for each in times:
        side.note("beside", each)


def queries_of() -> Iterator[str]:
    """Short queries, each another one, so that nothing is answered from what was computed."""
    return (f"{QUERY} {number % 97} {number % 89}" for number in itertools.count())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    name: str, argv: Sequence[str], port: int, path: str = "/v1/embeddings", model: str = MODEL
) -> Side | None:
    """A server of its own process, once it answers; None, and why, if it doesn't."""
    # A pipe that nobody reads would stop a server that logs every request.
    said = tempfile.TemporaryFile()
    process = subprocess.Popen(list(argv), stdout=subprocess.DEVNULL, stderr=said, cwd=HERE)
    side = Side(name, port, path, model, process)
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            asyncio.run(_one(side))
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            time.sleep(0.2)
        else:
            return side
    process.kill()
    said.seek(0)
    last = said.read().decode(errors="replace").strip()[-300:]
    print(f"left out: {name} (it didn't start: {last})")
    return None


async def _one(side: Side) -> None:
    async with clients(side, 1) as (client,):
        await client.ask(side.request(["is anybody there?"]))


def servers(folder: Path, skipped: Sequence[str], urls: Sequence[str]) -> list[Side]:
    """The servers that start, ours first."""
    port = free_port()
    ours = [sys.executable, "-m", "likewise", "serve", str(folder), "--port", str(port)]
    sides = [start("likewise", ours, port, model=folder.name)]
    if "sentence-transformers" not in skipped and is_installed("sentence_transformers"):
        port = free_port()
        argv = [sys.executable, str(HERE / "_st_server.py"), str(folder), str(port)]
        sides.append(start("sentence-transformers", argv, port))
    if "infinity" not in skipped and INFINITY.is_file():
        port = free_port()
        argv = [
            str(INFINITY), "v2", "--model-id", str(folder), "--served-model-name", MODEL,
            "--engine", "torch", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port),
            "--no-bettertransformer",
        ]  # fmt: skip
        sides.append(start("infinity", argv, port, path="/embeddings"))
    elif "infinity" not in skipped:
        print(f"left out: infinity (not installed: {INFINITY.name} in .venv-infinity)")
    for each in urls:
        name, _, base = each.partition("=")
        host, _, path = base.removeprefix("http://").partition("/")
        sides.append(Side(name, int(host.rpartition(":")[2]), path=f"/{path}/embeddings"))
    return [side for side in sides if side is not None]


def engine_alone(
    folder: Path, texts: Sequence[str]
) -> tuple[Callable[[], tuple[float, float]], Any]:
    """What measures texts/s and the p50 of one query of the engine in this process."""
    from likewise.runtime.service import load

    service = load(folder)
    numbers = itertools.count()

    def round_() -> tuple[float, float]:
        times = []
        for _ in range(60):
            query = f"{QUERY} {next(numbers)}"
            began = time.perf_counter()
            service.embed([query], lane="interactive")
            times.append(time.perf_counter() - began)
            time.sleep(EVERY_S)
        began = time.perf_counter()
        service.embed(texts)
        return len(texts) / (time.perf_counter() - began), statistics.median(times)

    return round_, service


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--skip", action="append", default=[], help="a side to leave out")
    parser.add_argument("--url", action="append", default=[], help="NAME=http://127.0.0.1:PORT/v1")
    asked = parser.parse_args()
    folder = asked.folder or default_folder()
    texts, origin = _texts.mixed(2048)
    print(f"{len(texts)} texts ({origin})")
    alone, service = engine_alone(folder, texts)
    sides = servers(folder, asked.skip, asked.url)
    queries = queries_of()
    engine: dict[str, list[float]] = {"texts": [], "single": []}
    try:
        alone()
        for _ in range(asked.rounds):
            rate, single = alone()
            engine["texts"].append(rate)
            engine["single"].append(single)
            for side in sides:
                asyncio.run(measure(side, texts, asked.seconds, queries))
    finally:
        for side in sides:
            if side.process is not None:
                side.process.terminate()
                side.process.wait(30)
        service.close()
    report(engine, sides)


def report(engine: dict[str, list[float]], sides: Sequence[Side]) -> None:
    """Print the figures and the ratios, and keep them."""
    rate, single = (statistics.median(engine[name]) for name in ("texts", "single"))
    print(f"engine alone: {rate:.0f} texts/s, one query {single * 1000:.2f} ms")
    rows: dict[str, dict[str, float]] = {}
    for side in sides:
        beside = sorted(side.found["beside"])
        row = {name: side.median(name) for name in ("idle_p50", "singles", "bulk", "bulk_beside")}
        row["beside_p50"] = statistics.median(beside)
        row["beside_p99"] = beside[min(len(beside) - 1, int(len(beside) * 0.99))]
        rows[side.name] = row
        print(
            f"{side.name:22} {SINGLES} x 1: {row['singles']:6.0f} texts/s   {BULKS} x {BULK}: "
            f"{row['bulk']:6.0f} texts/s   one query p50 {row['idle_p50'] * 1000:6.2f} ms, beside "
            f"bulk p50 {row['beside_p50'] * 1000:6.2f} p99 {row['beside_p99'] * 1000:6.2f} ms"
        )
    write("serve", {"engine": {"texts_per_second": rate, "single_s": single}, "sides": rows})
    ours = rows["likewise"]
    print(f"P2 16 x 1 : engine = {ours['singles'] / rate:.2f} (target >= 0.9)")
    print(f"P2 8 x 32 : engine = {ours['bulk'] / rate:.2f} (target >= 0.9)")
    print(f"P3 query - engine = {(ours['idle_p50'] - single) * 1000:.2f} ms (target <= 1 ms)")
    print(
        f"P4 p99 beside bulk : idle p50 = {ours['beside_p99'] / ours['idle_p50']:.1f} (target <= 5)"
    )
    print(f"P4 bulk beside queries : bulk = {ours['bulk_beside'] / ours['bulk']:.2f} (>= 0.85)")
    for name, row in rows.items():
        if name != "likewise":
            print(
                f"likewise : {name} = {ours['singles'] / row['singles']:.1f} (16 x 1), "
                f"{ours['bulk'] / row['bulk']:.1f} (8 x 32), query p50 "
                f"{row['idle_p50'] / ours['idle_p50']:.1f} x as soon, beside bulk p99 "
                f"{row['beside_p99'] / ours['beside_p99']:.1f} x as soon"
            )


if __name__ == "__main__":
    main()
