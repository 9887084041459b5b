"""Keys: what the file may be like, how it is changed, and which keys are in force."""

import hmac
import logging
import os
from pathlib import Path

import pytest

from likewise.base.errors import SettingsError
from likewise.server import keys
from likewise.server.keys import Bucket, Key, KeyFile, KeyRing, change, hash_of, moment, read

NOW = 1_800_000_000.0


def put(path: Path, *pairs: tuple[str, str]) -> None:
    """The file at `path` gets keys: names and keys."""

    def edit(content: KeyFile) -> KeyFile:
        made = [Key(name, hash_of(key, content.salt).hex(), moment(NOW)) for name, key in pairs]
        return KeyFile(content.salt, (*content.keys, *made))

    change(path, edit)


def dropped(path: Path, name: str) -> None:
    change(path, lambda old: KeyFile(old.salt, tuple(k for k in old.keys if k.name != name)))


def test_a_key_is_new_long_and_known_by_its_beginning() -> None:
    made = {keys.new_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert key.startswith("lw_")
        assert len(key) == 3 + 43
        assert keys.checked(key, "x") == key


def test_the_file_holds_no_key_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    key = keys.new_key()
    before = os.umask(0)
    try:
        put(path, ("me", key))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key not in path.read_text() and key[3:] not in path.read_text()
    assert [one.name for one in read(path).keys] == ["me"]
    assert not list(tmp_path.glob("*.new"))


def test_two_files_hash_one_key_differently() -> None:
    one, other = KeyFile(), KeyFile()
    assert hash_of("k" * 40, one.salt) != hash_of("k" * 40, other.salt)
    assert hash_of("k" * 40, one.salt) == hash_of("k" * 40, one.salt)


def test_all_of_a_key_comes_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    whole = Key("a@b", "00" * 32, moment(NOW), True, "bulk", 5, 600, moment(NOW + 60))
    change(path, lambda old: KeyFile(old.salt, (whole,)))
    assert read(path).keys == (whole,)
    assert not whole.is_expired(NOW + 59)
    assert whole.is_expired(NOW + 60)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666])
def test_a_file_open_to_others_is_refused_with_what_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.jsonl"
    put(path, ("me", keys.new_key()))
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"open to other users.*chmod 600 {path}"):
        read(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    put(path, ("me", keys.new_key()))
    os.chown(path, 4242, 4242)
    with pytest.raises(SettingsError, match="belongs to another user.*chown"):
        read(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_root_changes_stays_its_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.jsonl"
    put(path, ("me", keys.new_key()))
    os.chown(path, 4242, 4242)
    monkeypatch.setattr(keys, "_require_private", lambda *_: None)
    put(path, ("you", keys.new_key()))
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (4242, 0o600)


HEAD = '{"likewise_keys":1,"salt":"' + "00" * 16 + '"}\n'
LINE = '{"name":"a","hash":"' + "00" * 32 + '","created_at":"2026-01-01T00:00:00Z"'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: isn't the head of a file of keys"),
        ("[server]\n", "line 1: isn't the head of a file of keys"),
        ('{"likewise_keys":2,"salt":"00"}', "line 1"),
        ('{"likewise_keys":1,"salt":"zz"}', "line 1"),
        ('{"likewise_keys":1,"salt":"00"}', "the salt must have 16 bytes"),
        (HEAD + LINE, "line 2"),
        (HEAD + LINE + "}\n\n" + LINE + ', "admn": true}', "line 4.*admn"),
        (HEAD + LINE + "}\n" + LINE + "}", "two keys are called 'a'"),
        (HEAD + LINE.replace("00" * 32, "00" * 31) + "}", "the hash must have 32 bytes"),
        (HEAD + LINE.replace('"a"', '"a b"') + "}", "can't be a key's name"),
        (HEAD + LINE.replace("00Z", "00") + "}", "a time must say its zone"),
        (HEAD + LINE + ',"requests_per_minute":0}', "a limit must be at least 1"),
        (HEAD + LINE + ',"lane":"fast"}', "line 2"),
    ],
)
def test_a_damaged_file_is_refused_where_it_is_damaged(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=words):
        read(path)


def test_what_isnt_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file; make it with 'likewise keys add"):
        read(tmp_path / "none")
    with pytest.raises(SettingsError, match="can't be read"):
        read(tmp_path)
    with pytest.raises(SettingsError, match="can't be written"):
        put(tmp_path / "none" / "keys.jsonl")


def test_two_that_change_it_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"

    def edit(old: KeyFile) -> KeyFile:
        with pytest.raises(SettingsError, match="another command is changing"):
            put(path, ("other", keys.new_key()))
        return KeyFile(old.salt, (Key("mine", "00" * 32, moment(NOW)),))

    change(path, edit)
    assert [key.name for key in read(path).keys] == ["mine"]


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    put(path, ("me", keys.new_key()))
    before = path.read_bytes()

    def edit(old: KeyFile) -> KeyFile:
        raise SettingsError("no")

    with pytest.raises(SettingsError, match="no"):
        change(path, edit)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["keys.jsonl"]


def test_the_ring_finds_keys_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    mine, other = keys.new_key(), keys.new_key()
    put(path, ("mine", mine), ("other", other))
    ring = KeyRing(path, {"LIKEWISE_ADMIN_KEY": ("a" * 40, True)})
    for key, name, is_admin in (
        (mine, "mine", False),
        (other, "other", False),
        ("a" * 40, "LIKEWISE_ADMIN_KEY", True),
    ):
        found = ring.find(key)
        assert found is not None
        assert (found.name, found.admin) == (name, is_admin)
    wrong = ("", mine[:-1], mine + "x", mine.upper(), "a" * 39, "\ud800", "é" * 40, mine * 100)
    for presented in wrong:
        assert ring.find(presented) is None, presented


def test_every_key_is_compared_whatever_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.jsonl"
    made = [keys.new_key() for _ in range(5)]
    put(path, *((f"k{at}", key) for at, key in enumerate(made)))
    ring = KeyRing(path)
    compared: list[int] = []
    real = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for presented in (made[0], made[4], "none of them, surely"):
        compared.clear()
        ring.find(presented)
        assert compared == [32] * 5


def test_a_revoked_key_is_unknown_and_a_new_one_known_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    one, other = keys.new_key(), keys.new_key()
    put(path, ("one", one))
    ring = KeyRing(path)
    put(path, ("other", other))
    assert ring.find(other) is not None
    dropped(path, "one")
    assert ring.find(one) is None
    dropped(path, "other")
    # The last one too: a ring without keys lets nobody in.
    assert ring.find(other) is None


@pytest.mark.parametrize("damage", ["text", "mode", "gone"])
def test_a_damaged_new_version_changes_nothing_and_is_said_once(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.jsonl"
    key = keys.new_key()
    put(path, ("me", key))
    ring = KeyRing(path)
    if damage == "text":
        path.write_text("{")
    elif damage == "mode":
        path.chmod(0o644)
    else:
        path.unlink()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert ring.find(key) is not None
    assert len(caplog.records) == 1
    assert "keys kept as they were" in caplog.text
    path.unlink(missing_ok=True)
    put(path, ("other", keys.new_key()))
    assert ring.find(key) is None


def test_reading_again_says_what_is_wrong_and_keeps_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    key = keys.new_key()
    put(path, ("one", key))
    ring = KeyRing(path)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        ring.read_again()
    assert ring.find(key) is not None
    path.chmod(0o600)
    ring.read_again()


def test_a_ring_without_keys_isnt_made(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    change(path, lambda old: old)
    with pytest.raises(SettingsError, match="has no key; make one"):
        KeyRing(path)
    assert KeyRing(path, {"given": ("k" * 20, False)}).find("k" * 20) is not None


@pytest.mark.parametrize("key", ["short", "k" * 513, "with spaces in it, long", "ключ" * 10])
def test_a_given_key_that_cant_be_right_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError, match="LIKEWISE_API_KEY") as refused:
        KeyRing(None, {"LIKEWISE_API_KEY": (key, False)})
    assert key not in str(refused.value)


def test_a_bucket_fills_evenly_and_may_be_overdrawn() -> None:
    now = [0.0]
    bucket = Bucket(60, lambda: now[0])
    for _ in range(60):
        assert bucket.wait_s(1) == 0
        bucket.take(1)
    assert bucket.wait_s(1) == pytest.approx(1)
    now[0] = 0.5
    assert bucket.wait_s(1) == pytest.approx(0.5)
    now[0] = 1.0
    assert bucket.wait_s(1) == pytest.approx(0)
    bucket.take(121)
    assert bucket.wait_s(1) == pytest.approx(121)
    now[0] = 1e6
    assert bucket.wait_s(60) == 0
    assert bucket.wait_s(61) == pytest.approx(1)
