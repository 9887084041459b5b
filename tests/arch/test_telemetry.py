"""Nothing is ever sent: loading, embedding and serving open no connection to anywhere.

openvino installs `openvino-telemetry`, which can report usage. Here each job runs in a process that
the kernel kills at the first attempt to connect, whoever makes it: Python, a library in C++, a
child process. Python's own audit events say in addition that nothing even looked up a name.
"""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support import LIMIT, free_port, started

# A seccomp filter: the system calls named in `fatal` end the process. It stays in force for every
# thread started later and every child. Numbers are those of x86-64.
FILTER = """
import ctypes, struct, sys
def forbid(*fatal):
    libc = ctypes.CDLL(None, use_errno=True)
    load, equal, give = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0)]
    for at, number in enumerate(fatal):
        program.append((equal, len(fatal) - at, 0, number))
    program += [(give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x80000000)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code)
    head = struct.pack("HL", len(program), ctypes.addressof(kept))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(head), 0, 0):
        sys.exit(77)
CONNECT, SENDTO, SENDMSG, SENDMMSG = 42, 44, 46, 307
"""
NOT_ALLOWED = 77

EMBED = """
import json
from pathlib import Path
seen = []
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        seen.append(event)
sys.addaudithook(hook)
forbid(CONNECT, SENDTO, SENDMSG, SENDMMSG)
from likewise.runtime.service import load
service = load(Path(sys.argv[1]), cache=Path(sys.argv[2]))
vectors = service.embed(["one text", "another text"])
service.close()
names = sorted(name for name in sys.modules if "telemetry" in name)
print(json.dumps({"shape": vectors.shape, "seen": seen, "modules": names}))
"""

SERVE = """
forbid(CONNECT, SENDMMSG)
from likewise.cli.main import main
main(["serve", sys.argv[1], "--port", sys.argv[2]])
"""

needs_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="the system call filter is written for Linux on x86-64",
)


def run(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", FILTER + code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NOT_ALLOWED:
        pytest.skip("this machine doesn't let a process filter its system calls")
    return done


@needs_seccomp
def test_loading_and_embedding_connect_to_nothing(model_folder: Path, tmp_path: Path) -> None:
    done = run(EMBED, model_folder, tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == {"shape": [2, 384], "seen": [], "modules": []}


@needs_seccomp
def test_serving_connects_to_nothing(model_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", FILTER + SERVE, str(model_folder), str(port)]
    with started(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if "listening" in line:
                break
        if server.poll() == NOT_ALLOWED:
            pytest.skip("this machine doesn't let a process filter its system calls")
        body = json.dumps({"model": str(model_folder), "input": "a text"}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/embeddings",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                assert len(json.load(answer)["data"][0]["embedding"]) == 384
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(LIMIT)
    assert code == 0, said


def test_serving_loads_nothing_that_could_send_traces() -> None:
    code = (
        "import sys, likewise.cli.launch, likewise.server.app, likewise.server.run\n"
        "import likewise.server.tracing\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_seccomp
@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import subprocess; sys.exit(subprocess.run([sys.executable, '-c', "
        "'import socket; socket.create_connection((\"127.0.0.1\", 9))']).returncode)",
    ],
    ids=["itself", "a child"],
)
def test_the_filter_catches_an_attempt(attempt: str) -> None:
    assert run(f"forbid(CONNECT)\n{attempt}").returncode in (-signal.SIGSYS, 256 - signal.SIGSYS)
