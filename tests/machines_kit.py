"""Machines for tests: each with a clock and a way to the server of its own, which can be cut.

Everywhere, a machine is a process behind a TCP relay. Where Linux lets us, it has its own network,
process numbers and monotonic clock, and is plugged into a switch, from which it can be pulled.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg

from likewise.base.spec import BindingSpec
from tests.acceptance.applications import open_application
from tests.acceptance.rigs import NAME, Rig
from tests.postgres_kit import new_folder, patient
from tests.relay import Relay
from tests.support import LIMIT, free_port, wait_until

REPO = Path(__file__).resolve().parents[1]
ROLE = "binder"
LOOPBACK = "127.0.0.1"

CLOCK = """
# A wall clock that is `shift` seconds wrong and a monotonic one of its own, before anything else.
import json, sys, time
ARGS = json.loads(sys.argv[1])
wall, monotonic = time.time, time.monotonic
time.time = lambda: wall() + ARGS["shift"]
time.time_ns = lambda: int(time.time() * 1e9)
time.monotonic = lambda: monotonic() + ARGS["beat"]
"""


class Server:
    """A Postgres on TCP that lets nobody in from there without a password.

    `inside` is put before the command that starts it, such as one that enters a network.
    """

    def __init__(self, host: str, inside: Sequence[str] = ()) -> None:
        self.host, self.port, self.password = host, free_port(), secrets.token_hex(8)
        self.numbers = itertools.count(1)
        self.folder = new_folder()
        with patient() as package:
            made = package.get_server(self.folder / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(made.get_uri(), autocommit=True) as db:
                for setting in ("fsync = off", "synchronous_commit = off"):
                    db.execute(f"ALTER SYSTEM SET {setting}")
                db.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.password}'")
        finally:
            made.stop()
        (self.folder / "data" / "pg_hba.conf").write_text(
            f"local all all trust\nhost all {ROLE} all scram-sha-256\n", encoding="ascii"
        )
        self._as = () if made.system_user is None else ("setpriv", *_as_user(made.system_user))
        self._ctl = (str(made.bin_path / "pg_ctl"), "-w", "-D", str(self.folder / "data"))
        options = f"-h {host} -p {self.port} -k {self.folder / 'data'}"
        self._run(*inside, *self._as, *self._ctl, "-l", f"{made.log}", "-o", options, "start")

    def database(self) -> str:
        """A new database of our role."""
        name = f"t{next(self.numbers)}"
        with closing(psycopg.connect(self.here("postgres", "postgres"), autocommit=True)) as db:
            db.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        with closing(psycopg.connect(self.here(name, "postgres"), autocommit=True)) as db:
            db.execute("CREATE EXTENSION vector")
        return name

    def here(self, database: str, user: str = ROLE) -> str:
        """The address by the Unix socket, for whoever isn't on a machine."""
        return f"postgresql://{user}@/{database}?host={self.folder / 'data'}&port={self.port}"

    def there(self, host: str, port: int, database: str, **parameters: str) -> str:
        """The address over TCP."""
        more = urlencode(parameters, quote_via=quote)
        return f"postgresql://{ROLE}:{self.password}@{host}:{port}/{database}?{more}"

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._run(*self._as, *self._ctl, "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: str) -> None:
        # A file, as the server inherits what it is given and would keep a pipe open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
            said.seek(0)
            if done.returncode:
                raise RuntimeError(said.read().decode())


def _as_user(name: str) -> tuple[str, ...]:
    import pwd

    found = pwd.getpwnam(name)
    return f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups", "--"


class Machine:
    """One machine behind a relay; programs that run on it read `ARGS`."""

    def __init__(self, server: Server, number: int, shift: float) -> None:
        self.server, self.number, self.shift = server, number, shift
        self.relay = Relay((server.host, server.port))
        self.processes: list[subprocess.Popen[str]] = []

    def address(self, database: str, **parameters: str) -> str:
        """Of the server, as it is reached from here."""
        return self.server.there(LOOPBACK, self.relay.port, database, **parameters)

    def run(self, program: str, **arguments: Any) -> subprocess.Popen[str]:
        """Start `program` here."""
        values = {"shift": self.shift, "beat": 1e6 * self.number, **arguments}
        made = subprocess.Popen(
            [*self._inside(), sys.executable, "-c", CLOCK + program, json.dumps(values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPO,
        )
        self.processes.append(made)
        return made

    def cut(self) -> None:
        """The network is gone, and nobody is told."""
        self.relay.cut()

    def mend(self) -> None:
        """It is back."""
        self.relay.mend()

    def power_off(self) -> None:
        """Everything on it ends, and nobody is told."""
        self.cut()
        for each in self.processes:
            each.kill()
            each.communicate()

    def close(self) -> None:
        self.power_off()
        self.relay.close()

    def _inside(self) -> Sequence[str]:
        return ()


class Site:
    """A server and machines that reach it."""

    kind = "relay"

    def __init__(self) -> None:
        self.server = self._serve()
        self.machines: list[Machine] = []
        self._numbers = itertools.count(1)

    def machine(self, shift: float = 0.0) -> Machine:
        """Another machine; its wall clock is `shift` seconds ahead."""
        made = self._plug(next(self._numbers), shift)
        self.machines.append(made)
        return made

    @contextmanager
    def rig(self) -> Iterator[Rig]:
        """A bound table of a new database, as its application sees it; then machines go."""
        where = self.server.here(self.server.database())
        open_application("postgres", where).close()
        made = Rig("postgres", where, BindingSpec(NAME, where, "docs", "{body}"))
        try:
            made.source.attach()
            yield made
        finally:
            for machine in self.machines:
                machine.close()
            self.machines.clear()
            made.close()

    def close(self) -> None:
        self.server.stop()

    def _serve(self) -> Server:
        return Server(LOOPBACK)

    def _plug(self, number: int, shift: float) -> Machine:
        return Machine(self.server, number, shift)


class NamespacedMachine(Machine):
    """One machine on a cable; its host name and its process numbers are those of every other."""

    def __init__(self, server: Server, number: int, shift: float, site: NamespacedSite) -> None:
        self.server, self.number, self.shift = server, number, shift
        self.processes = []
        self.name, self.port = f"{site.name}-{number}", f"port{number}"
        self._hub = site.name
        ip("netns", "add", self.name)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("-n", self._hub, "link", "add", "name", self.port, *cable)
        ip("-n", self._hub, "link", "set", self.port, "master", "switch", "up")
        self.host = f"10.77.0.{100 + number}"
        ip("-n", self.name, "address", "add", f"{self.host}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")

    def address(self, database: str, **parameters: str) -> str:
        return self.server.there(self.server.host, self.server.port, database, **parameters)

    def cut(self) -> None:
        """Pulled out at the switch: the card sees a link still."""
        ip("-n", self._hub, "link", "set", self.port, "nomaster")

    def mend(self) -> None:
        ip("-n", self._hub, "link", "set", self.port, "master", "switch")

    def close(self) -> None:
        self.power_off()
        ip("-n", self._hub, "link", "delete", self.port)
        ip("netns", "delete", self.name)

    def _inside(self) -> Sequence[str]:
        beat = ("--time", "--monotonic", str(1_000_000 * self.number))
        spaces = ("--pid", "--fork", "--kill-child", "--mount-proc", "--uts", *beat)
        named = ("sh", "-c", 'hostname machine && exec "$@"', "sh")
        return ("ip", "netns", "exec", self.name, "unshare", *spaces, *named)


class NamespacedSite(Site):
    """A switch that the server is at, and machines with their own networks."""

    kind = "namespaces"
    ADDRESS = "10.77.0.1"

    def __init__(self) -> None:
        _remove_orphans()
        self.name = f"lw{os.getpid()}"
        ip("netns", "add", self.name)
        try:
            # Of its own accord it takes a port's address, and would hear what arrives at that port
            # when it is pulled.
            hears = ("name", "switch", "address", "02:00:00:77:00:01")
            ip("-n", self.name, "link", "add", *hears, "type", "bridge")
            ip("-n", self.name, "address", "add", f"{self.ADDRESS}/24", "dev", "switch")
            ip("-n", self.name, "link", "set", "switch", "up")
            super().__init__()
        except BaseException:
            ip("netns", "delete", self.name)
            raise

    def close(self) -> None:
        super().close()
        ip("netns", "delete", self.name)

    def _serve(self) -> Server:
        return Server(self.ADDRESS, inside=("ip", "netns", "exec", self.name))

    def _plug(self, number: int, shift: float) -> Machine:
        return NamespacedMachine(self.server, number, shift, self)


def _remove_orphans() -> None:
    """Networks of tests that were killed."""
    for each in Path("/run/netns").glob("lw*"):
        number = each.name.removeprefix("lw").partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            with suppress(RuntimeError):  # others may clean up as well
                ip("netns", "delete", each.name)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def why_no_namespaces() -> str | None:
    """Why machines can't have namespaces here; None: they can."""
    for tool in ("ip", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            return f"there is no program {tool}"
    name = f"lw{os.getpid()}-try"
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "add", "name", "switch", "type", "bridge")
            ip("-n", name, "link", "add", "name", "a", "type", "veth", "peer", "name", "b")
            spaces = ("--pid", "--fork", "--mount-proc", "--uts", "--time", "--monotonic", "9")
            ip("netns", "exec", name, "unshare", *spaces, "true")
        finally:
            ip("netns", "delete", name)
    except RuntimeError as refused:
        return str(refused)
    return None


def said(process: subprocess.Popen[str], word: str, seconds: float = LIMIT) -> str:
    """Read what the process prints until a line begins with `word`; gives the rest of that."""
    assert process.stdout is not None
    late = threading.Timer(seconds, process.kill)
    late.start()
    try:
        for line in process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
    finally:
        late.cancel()
    raise AssertionError(f"it ended without saying {word!r}: {process.communicate()[1]}")


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on that waits for it."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


__all__ = ["Machine", "NamespacedSite", "Site", "said", "tell", "wait_until", "why_no_namespaces"]
