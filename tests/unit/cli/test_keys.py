"""`likewise keys`: made once and shown once, listed without secrets, revoked."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from likewise.cli import main
from likewise.server.keys import KeyRing, read

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder: the exit code, what it said, what it noted."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = main.run([str(each) for each in argv])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_key_is_printed_once_and_opens_the_server(run: Run, tmp_path: Path) -> None:
    code, out, err = run("keys", "add", "me")
    key = out.strip()
    assert code == 0
    assert key.startswith("lw_")
    assert key not in err
    assert "likewise serve --keys keys.jsonl" in err
    found = KeyRing(tmp_path / "keys.jsonl").find(key)
    assert found is not None and found.name == "me"
    _, out, err = run("keys", "list")
    assert "me" in out
    assert key not in out + err
    assert found.hash not in out + err


def test_what_a_key_may_do(run: Run, tmp_path: Path) -> None:
    code, *_ = run(
        "keys", "add", "ci", "--admin", "--lane", "bulk", "--requests-per-minute", "60",
        "--tokens-per-minute", "1000", "--expires", "90d",
    )  # fmt: skip
    assert code == 0
    (key,) = read(tmp_path / "keys.jsonl").keys
    assert (key.admin, key.lane, key.requests_per_minute, key.tokens_per_minute) == (
        True, "bulk", 60, 1000,
    )  # fmt: skip
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days == 90
    (row,) = json.loads(run("keys", "list", "--json")[1])
    assert (row["name"], row["admin"], row["lane"], row["requests/min"]) == (
        "ci",
        "yes",
        "bulk",
        60,
    )


def test_a_revoked_key_is_gone(run: Run, tmp_path: Path) -> None:
    key = run("keys", "add", "me")[1].strip()
    run("keys", "add", "you")
    ring = KeyRing(tmp_path / "keys.jsonl")
    assert run("keys", "revoke", "me")[0] == 0
    assert ring.find(key) is None
    assert [one.name for one in read(tmp_path / "keys.jsonl").keys] == ["you"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("add", "me"), "a key is called 'me' already"),
        (("add", "a b"), "can't be a key's name"),
        (("add", "x", "--expires", "soon"), "--expires is 'soon'"),
        (("add", "x", "--expires", "0d"), "--expires is '0d'"),
        (("revoke", "mee"), "no key is called 'mee' (did you mean 'me'?)"),
        (("revoke", "me", "--keys", "none.jsonl"), "none.jsonl: no such file"),
        (("list", "--keys", "none.jsonl"), "none.jsonl: no such file"),
    ],
)
def test_what_cant_be_done_changes_nothing(
    run: Run, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    run("keys", "add", "me")
    before = (tmp_path / "keys.jsonl").read_bytes()
    code, out, err = run("keys", *argv)
    assert (code, out) == (2, "")
    assert words in err
    assert (tmp_path / "keys.jsonl").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["keys.jsonl"]


def test_the_file_of_likewise_toml_is_meant(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "likewise.toml").write_text("[server]\nkeys = 'mine.jsonl'\n")
    assert run("keys", "add", "me", "--config", "conf/likewise.toml")[0] == 0
    assert [one.name for one in read(tmp_path / "conf" / "mine.jsonl").keys] == ["me"]
