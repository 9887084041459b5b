"""What a folder of the user's own is called, and what `NAME=MODEL` means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from likewise.models import shelf
from likewise.models.locate import locate, named
from likewise.models.own import folder_at, name_of, split_name, told_apart, ways_to


def model(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("asked", "called", "source"),
    [
        ("fast=./m", "fast", "./m"),
        ("acme/fast:v1=BAAI/bge-m3", "acme/fast:v1", "BAAI/bge-m3"),
        ("a=b=c", "a", "b=c"),
        ("./m", None, "./m"),
        ("BAAI/bge-m3", None, "BAAI/bge-m3"),
        ("=x", None, "=x"),
        ("x=", None, "x="),
        ("/data/a=b", None, "/data/a=b"),
        ("./a=b", None, "./a=b"),
        ("openai:m@https://host/v1?dimensions=256", None, "openai:m@https://host/v1?dimensions=256"),
        ("", None, ""),
    ],
)  # fmt: skip
def test_a_name_of_its_own(asked: str, called: str | None, source: str) -> None:
    assert split_name(asked) == (called, source)


def test_a_folder_with_such_a_sign_in_its_name_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path / "lr=1e-5")
    monkeypatch.chdir(tmp_path)
    assert split_name("lr=1e-5") == (None, "lr=1e-5")
    assert locate("lr=1e-5", cache=tmp_path / "cache").name == "lr=1e-5"


def test_a_link_keeps_its_name_and_the_facts_say_where_it_leads(tmp_path: Path) -> None:
    one, two = model(tmp_path / "v1" / "model"), model(tmp_path / "v2" / "model")
    link = tmp_path / "current"
    link.symlink_to(one)
    found = locate(str(link), cache=tmp_path / "cache")
    assert (found.name, found.folder) == ("current", one)
    link.unlink()
    link.symlink_to(two)
    found = locate(str(link), cache=tmp_path / "cache")
    assert (found.name, found.folder) == ("current", two)
    assert named(str(link)) == "current"
    # One above it: the folder keeps its own name.
    (tmp_path / "above").symlink_to(tmp_path / "v2")
    assert name_of(tmp_path / "above" / "model") == "model"


def test_a_relative_path_is_called_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model(tmp_path / "mine"))
    for written in (".", "./", "../mine", "../mine/."):
        assert locate(written, cache=tmp_path / "cache").name == "mine"


@pytest.mark.parametrize("written", ["snapshots/abc123", "snapshots/abc123/", ""])
def test_a_snapshot_of_the_hub_is_called_by_its_repository(tmp_path: Path, written: str) -> None:
    root = tmp_path / "models--acme--tiny"
    snapshot = model(root / "snapshots" / "abc123")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")
    found = locate(str(root / written), cache=tmp_path / "cache")
    assert (found.name, found.folder) == ("acme/tiny", snapshot)
    # A link of the user's own to it is called as the user called it.
    (tmp_path / "mine").symlink_to(snapshot)
    assert name_of(tmp_path / "mine") == "mine"


def test_a_folder_of_our_own_cache_is_called_by_its_record(tmp_path: Path) -> None:
    def recorded(path: Path) -> Path:
        facts: dict[str, object] = {
            "name": "acme/tiny", "origin": "hub", "revision": "c0ffee", "asked": None,
            "licence": None, "fetched_at": 0.0, "files": {},
        }  # fmt: skip
        (model(path) / shelf.RECORD).write_text(json.dumps(facts), encoding="utf-8")
        return path

    assert name_of(recorded(tmp_path / "models" / "acme--tiny" / "c0ffee")) == "acme/tiny"
    # A copy that somebody works on has a name of its own.
    assert name_of(recorded(tmp_path / "my-copy")) == "my-copy"


def test_a_name_given_goes_before_every_other(tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    found = locate(f"fast={folder}", cache=tmp_path / "cache")
    assert (found.name, found.folder) == ("fast", folder)
    assert named(f"fast={folder}") == "fast"
    assert named("fast=bge-m3") == "fast"


def test_folders_of_one_last_name_are_told_apart(tmp_path: Path) -> None:
    paths = [
        model(tmp_path / path) for path in ("a/v1/model", "b/v1/model", "a/v2/model", "a/other")
    ]
    assert list(told_apart(paths).values()) == ["a/v1/model", "b/v1/model", "v2/model", "other"]
    assert told_apart([]) == {}
    assert told_apart(paths[:1]) == {paths[0]: "model"}


def test_what_is_no_folder_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for written in ("", str(tmp_path / "empty"), str(tmp_path / "none"), "org/name"):
        assert folder_at(written) is None


def test_a_path_is_asked_for_as_it_was_written_and_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ways_to("./v1/model") == ("./v1/model", str(tmp_path / "v1" / "model"))
    assert ways_to("fast=./m/") == ("./m/", str(tmp_path / "m"))
    assert ways_to("fast=acme/tiny") == ("acme/tiny",)
