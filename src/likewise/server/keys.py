"""API keys: a file of salted hashes, the keys that are in force now, and who a key belongs to."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

import msgspec

from likewise.base.clock import Clock, wall
from likewise.base.errors import SettingsError
from likewise.base.log import fields, logger
from likewise.base.names import nearest

_log = logger("keys")

PREFIX = "lw_"
"""What our keys begin with, so that scanners for leaked secrets can tell them."""
SHORTEST_KEY = 16
LONGEST_KEY = 512

_KEY_BYTES = 32
_SALT_BYTES = 16
_LARGEST_FILE = 4 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the file: whose key, its hash, and what it may do."""

    name: str
    hash: str
    """BLAKE2b of the key with the file's salt, 32 bytes in hexadecimal."""
    created_at: datetime
    admin: bool = False
    lane: Literal["interactive", "bulk"] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: datetime | None = None

    def is_expired(self, now: float) -> bool:
        """Whether it counts no more at `now`, seconds since 1970."""
        return self.expires_at is not None and now >= self.expires_at.timestamp()


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of the file."""

    likewise_keys: Literal[1]
    salt: str


@dataclass(frozen=True)
class KeyFile:
    """What a file of keys says."""

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(_SALT_BYTES))
    keys: tuple[Key, ...] = ()

    def find(self, name: str) -> Key:
        """The key called `name`.

        Raises:
            SettingsError: there is none; the message lists those there are.
        """
        names = [key.name for key in self.keys]
        for key in self.keys:
            if key.name == name:
                return key
        raise SettingsError(
            f"no key is called {name!r}{nearest(name, names)}; there are: "
            f"{', '.join(names) or 'none'}",
            param="name",
        )


def new_key() -> str:
    """A key that nobody has yet."""
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_of(key: str, salt: bytes) -> bytes:
    """What is kept of a key.

    One pass of a fast hash is enough: a key holds 256 random bits, which nobody can search through
    however fast the hash. Slow hashes are for passwords, which people choose.
    """
    return hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=32, salt=salt).digest()


def require_name(name: str) -> None:
    """Raises `SettingsError` unless `name` can be a key's: it stands in metrics and logs."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} can't be a key's name: up to 64 letters, digits and . _ @ -, a letter or "
            f"digit first",
            param="name",
        )


def read(path: Path) -> KeyFile:
    """What the file at `path` says.

    Raises:
        SettingsError: it can't be read, others may read it, or it isn't such a file.
    """
    return _parse(_private_bytes(path), path)


def change(path: Path, edit: Callable[[KeyFile], KeyFile]) -> None:
    """Put what `edit` makes of the file in its place, whole or not at all.

    A file that isn't there is a new one without keys. Its owner alone can read the result. Others
    who want to change it meanwhile are refused, so that no change is lost.

    Raises:
        SettingsError: it can't be read or written, or another program is changing it.
        LikewiseError: whatever `edit` raises; nothing is changed then.
    """
    new = path.with_name(f"{path.name}.new")
    with _created(new, path) as file:
        is_there = path.exists()
        content = edit(read(path) if is_there else KeyFile())
        head = msgspec.json.encode(_Head(1, content.salt.hex()))
        file.write(b"\n".join([head, *map(msgspec.json.encode, content.keys), b""]))
        file.flush()
        os.fsync(file.fileno())
        if is_there:
            _keep_owner(path, file)
        new.replace(path)


@contextlib.contextmanager
def _created(new: Path, path: Path) -> Iterator[IO[bytes]]:
    """A new file at `new`, which nobody else has; taken away again when its use fails."""
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as taken:
        raise SettingsError(
            f"{new} is there: another command is changing {path}, or one was killed; delete it if "
            f"none is running"
        ) from taken
    except OSError as refused:
        raise SettingsError(f"{path}: can't be written: {refused.strerror}") from refused
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException as failed:
        new.unlink(missing_ok=True)
        if isinstance(failed, OSError):
            raise SettingsError(f"{path}: can't be written: {failed.strerror}") from failed
        raise


def _keep_owner(path: Path, file: IO[bytes]) -> None:
    """Where root writes another user's file, it stays that user's."""
    owner = path.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)


def _private_bytes(path: Path) -> bytes:
    """The file's bytes, once it is sure that nobody else can read or write them."""
    try:
        with path.open("rb") as file:
            _require_private(path, os.fstat(file.fileno()))
            return file.read(_LARGEST_FILE + 1)
    except FileNotFoundError as missing:
        raise SettingsError(
            f"{path}: no such file; make it with 'likewise keys add NAME --keys {path}'",
            param="keys",
        ) from missing
    except OSError as refused:
        raise SettingsError(f"{path}: can't be read: {refused.strerror}", param="keys") from refused


def _require_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SettingsError(f"{path} isn't a file", param="keys")
    if found.st_uid not in (os.geteuid(), 0):
        raise SettingsError(
            f"{path} belongs to another user, who could put a key of theirs into it; mend it with: "
            f"chown {os.geteuid()} {path}",
            param="keys",
        )
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        raise SettingsError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):03o}, of which "
            f"{mode:03o} is too much); mend it with: chmod 600 {path}",
            param="keys",
        )


def _parse(raw: bytes, path: Path) -> KeyFile:
    if len(raw) > _LARGEST_FILE:
        raise SettingsError(f"{path} is too large for a file of keys", param="keys")
    first, *rest = raw.splitlines() or [b""]
    try:
        head = msgspec.json.decode(first, type=_Head)
        salt = bytes.fromhex(head.salt)
    except ValueError as wrong:
        raise SettingsError(
            f"{path} line 1: isn't the head of a file of keys: {wrong}", param="keys"
        ) from wrong
    if len(salt) != _SALT_BYTES:
        raise SettingsError(f"{path} line 1: the salt must have {_SALT_BYTES} bytes", param="keys")
    lines = [(at, line) for at, line in enumerate(rest, 2) if line.strip()]
    keys = tuple(_key(line, f"{path} line {at}") for at, line in lines)
    names = [key.name for key in keys]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingsError(f"{path}: two keys are called {twice[0]!r}", param="keys")
    return KeyFile(salt, keys)


def _key(line: bytes, where: str) -> Key:
    try:
        key = msgspec.json.decode(line, type=Key)
        is_whole = len(bytes.fromhex(key.hash)) == 32
    except ValueError as wrong:
        raise SettingsError(f"{where}: {wrong}", param="keys") from wrong
    if not is_whole:
        raise SettingsError(f"{where}: the hash must have 32 bytes", param="keys")
    require_name(key.name)
    for at in (key.created_at, key.expires_at):
        if at is not None and at.tzinfo is None:
            raise SettingsError(f"{where}: a time must say its zone, as in Z", param="keys")
    for most in (key.requests_per_minute, key.tokens_per_minute):
        if most is not None and most < 1:
            raise SettingsError(f"{where}: a limit must be at least 1", param="keys")
    return key


class KeyRing:
    """The keys in force: those of a file, read again when it changes, and some that are given."""

    def __init__(
        self, path: Path | None = None, given: Mapping[str, tuple[str, bool]] | None = None
    ) -> None:
        """Keys of the file at `path`, and `given` ones: name to the key and whether it is admin's.

        Raises:
            SettingsError: the file can't be used, a given key is too short to be safe, or there is
                no key at all.
        """
        self._path = path
        own = KeyFile()
        now = moment(wall())
        keys = (
            Key(name, hash_of(checked(key, name), own.salt).hex(), now, admin=is_admin)
            for name, (key, is_admin) in (given or {}).items()
        )
        self._given = _hashed(own.salt, keys)
        self._read: Sequence[_Hashed] = ()
        self._seen: tuple[int, ...] | None = None
        if path is not None:
            self._seen = _signature(path)
            content = read(path)
            self._read = _hashed(content.salt, content.keys)
        if not self._given and not self._read:
            raise SettingsError(
                f"{path} has no key; make one with 'likewise keys add NAME --keys {path}'",
                param="keys",
            )

    def find(self, presented: str) -> Key | None:
        """The key that was presented, expired or not; None when it isn't known.

        The time this takes says nothing about how near a guess was: every known hash is compared,
        each in constant time.
        """
        self._follow()
        if len(presented) > LONGEST_KEY:
            return None
        found: Key | None = None
        hashes: dict[bytes, bytes] = {}
        for each in (*self._given, *self._read):
            if each.salt not in hashes:
                hashes[each.salt] = hash_of(presented, each.salt)
            if hmac.compare_digest(hashes[each.salt], each.hash):
                found = each.key
        return found

    def read_again(self) -> None:
        """Read the file again, changed or not.

        Raises:
            SettingsError: it can't be used; the keys stay what they were.
        """
        if self._path is not None:
            self._seen = _signature(self._path)
            self._take(self._path)

    def _follow(self) -> None:
        """Read the file again if it is another one than before; a damaged one changes nothing."""
        if self._path is None or (now := _signature(self._path)) == self._seen:
            return
        self._seen = now
        try:
            self._take(self._path)
        except SettingsError as wrong:
            _log.error(fields("keys kept as they were", why=wrong))

    def _take(self, path: Path) -> None:
        content = read(path)
        self._read = _hashed(content.salt, content.keys)
        _log.info(fields("keys read", count=len(content.keys)))


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A key, ready to be compared with."""

    key: Key
    salt: bytes
    hash: bytes


def _hashed(salt: bytes, keys: Iterable[Key]) -> list[_Hashed]:
    return [_Hashed(key, salt, bytes.fromhex(key.hash)) for key in keys]


def _signature(path: Path) -> tuple[int, ...] | None:
    """What differs when the file was changed or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode, found.st_uid


def checked(key: str, where: str) -> str:
    """`key`, given as text.

    Raises:
        SettingsError: it could be guessed, or no header can carry it. It is never repeated.
    """
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise SettingsError(
            f"{where}: a key has {SHORTEST_KEY} to {LONGEST_KEY} characters, this one {len(key)}; "
            f"'openssl rand -hex 32' makes a good one",
            param=where,
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(
            f"{where}: a key is made of ASCII letters, digits and signs, without spaces",
            param=where,
        )
    return key


def moment(seconds: float) -> datetime:
    """A time that can be written down, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC)


class Bucket:
    """So much a minute: full at first, filled evenly; it may be overdrawn by what came last."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there; 0 when it is."""
        now = self._clock()
        filled = self._level + (now - self._at) * self.per_minute / 60
        self._level, self._at = min(float(self.per_minute), filled), now
        return max(0.0, (amount - self._level) * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        """Take `amount` out, whether or not it is there."""
        self._level -= amount
