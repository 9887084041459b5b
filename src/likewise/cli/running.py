"""Servers of this user that run here: each writes down where it listens and what it follows.

The files lie in the folder `run` of the cache, readable by their user alone. `likewise search` asks
such a server, once it has shown that it is the one (`server.proof`), in place of loading the model.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import stat
from collections.abc import Collection, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from likewise.base.errors import LikewiseError
from likewise.base.log import fields, logger
from likewise.server.proof import CHALLENGE, PROOF, proof

_log = logger("cli")
_FOLDER = "run"
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""By which address this machine reaches what listens on every one."""
_ANSWER_S = 5.0
"""How long a server may take to show that it is the one."""
_SEARCH_S = 90.0
"""How long it may take to answer a search; one that waits for changes may wait for 60 s."""


class Followed(msgspec.Struct, frozen=True):
    """A binding that a server keeps in step."""

    name: str
    database: str
    """Its store's address, without a password."""


class Record(msgspec.Struct, frozen=True):
    """What a running server wrote down."""

    url: str
    pid: int
    secret: str
    bindings: tuple[Followed, ...]


class NotAnswered(LikewiseError):
    """A server that runs here didn't answer; the search has to be done without it."""

    code = "not_answered"


@contextlib.contextmanager
def written_down(cache: Path, url: str, bindings: Sequence[Followed]) -> Iterator[str]:
    """Have others of this user find the server at `url` while the block runs; gives the secret.

    A server without bindings, or that speaks https, isn't written down. Where the file can't be
    written the log says so, and searches load the model themselves.
    """
    secret = secrets.token_hex(32)
    if not bindings or not url.startswith("http://"):
        yield secret
        return
    path = cache / _FOLDER / f"{os.getpid()}.json"
    for everywhere, here in _LOOPBACK.items():
        url = url.replace(f"//{everywhere}:", f"//{here}:")
    record = Record(url, os.getpid(), secret, tuple(bindings))
    try:
        _write(path, msgspec.json.encode(record))
    except OSError as refused:
        _log.warning(fields("searches won't find this server", path=path, why=refused.strerror))
    try:
        yield secret
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    part.replace(path)


def found(cache: Path, name: str, databases: Collection[str]) -> Record | None:
    """A server of this user that keeps the binding `name` of one of the `databases` in step.

    What a server left that was killed is taken away.
    """
    wanted = {Followed(name, database) for database in databases}
    for path in sorted((cache / _FOLDER).glob("*.json")):
        record = _read(path)
        if record is None:
            continue
        if not _is_alive(record.pid):
            with contextlib.suppress(OSError):
                path.unlink()
        elif wanted & set(record.bindings):
            return record
    return None


def _read(path: Path) -> Record | None:
    """What the file says; None where anybody but this user could have written it."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
                return None
            return msgspec.json.decode(file.read(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def search(record: Record, asked: dict[str, Any], key: str | None) -> dict[str, Any]:
    """The answer of `POST /search`; nothing is sent before the server has shown that it is the one.

    The connection is made directly, whatever proxies the environment names, and it is one: who
    showed it gets the key, and nobody else.

    Raises:
        NotAnswered: it isn't that server, or it refuses; the message says why.
    """
    at = urlsplit(record.url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=_ANSWER_S)
    try:
        _require_proof(connection, record.secret)
        # Never connect again: that could be another.
        connection.auto_open = 0
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        if connection.sock is not None:
            connection.sock.settimeout(_SEARCH_S)
        connection.request("POST", "/search", json.dumps(asked), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as failed:
        raise NotAnswered(f"it doesn't answer ({failed or type(failed).__name__})") from failed
    finally:
        connection.close()
    if response.status != HTTPStatus.OK or "results" not in answer:
        raise NotAnswered(f"it refuses ({_words(answer, response.status)})")
    return dict(answer)


def _require_proof(connection: http.client.HTTPConnection, secret: str) -> None:
    challenge = secrets.token_hex(32)
    connection.request("GET", "/health", headers={CHALLENGE: challenge})
    response = connection.getresponse()
    shown = response.headers.get(PROOF, "")
    response.read()
    if not secrets.compare_digest(shown.encode(), proof(secret, challenge).encode()):
        raise NotAnswered("another program listens there")


def _words(answer: Any, status: int) -> str:
    try:
        return str(answer["error"]["message"])
    except (KeyError, TypeError):
        return str(status)
