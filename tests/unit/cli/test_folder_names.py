"""Folders that are served: called as their owner calls them, and told of whether loaded or not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import AdminError, ModelNotFound, SettingsError
from likewise.cli import catalogue
from likewise.cli.catalogue import Catalogued
from likewise.cli.resolve import Keeping, Place
from likewise.cli.served import _row, _sent
from likewise.runtime.making import Wanted
from likewise.server.app import build
from tests.conformance.tiny import SMALL, write_bert, write_weights


@contextlib.contextmanager
def serving(
    tmp_path: Path, *names: str, aliases: tuple[tuple[str, str], ...] = (), **keeping: Any
) -> Iterator[Catalogued]:
    place = Place(cache=tmp_path / "home", offline=True, precision="exact", threads=1)
    with catalogue.opened(place, Keeping(aliases=aliases, **keeping)) as models:
        models.expect(names)
        for name in names:
            models.serve(name)
        models.start()
        yield models


def full_names(models: Catalogued) -> list[str]:
    return [view.name for view in models.registry.models()]


def vector(client: TestClient, model: str) -> list[float]:
    answer = client.post("/v1/embeddings", json={"model": model, "input": "w1 w2"})
    assert answer.status_code == 200, answer.text
    found: list[float] = answer.json()["data"][0]["embedding"]
    return found


def tag(client: TestClient, name: str) -> dict[str, Any]:
    found = [one for one in client.get("/api/tags").json()["models"] if one["name"] == name]
    assert len(found) == 1
    return dict(found[0])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1/model and v2/model, of other weights."""
    root = tmp_path_factory.mktemp("two")
    write_bert(root / "v1" / "model")
    write_weights(write_bert(root / "v2" / "model"), SMALL, seed=2)
    return root


def test_after_a_link_is_flipped_and_reloaded_the_facts_say_which_weights_answer(
    tmp_path: Path, two: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(two / "v1" / "model")
    with serving(tmp_path, str(link)) as models, TestClient(build(models.registry)) as client:
        assert full_names(models) == ["current"]

        def told() -> tuple[Any, ...]:
            here = tag(client, "current:latest")
            info = client.get("/info").json()
            facts = models.registry.model("current").facts()
            assert here["digest"] == info["model_sha"] == facts["weights"]
            return here["digest"], facts["folder"], vector(client, "current")

        first = told()
        assert first[1] == str(two / "v1" / "model")
        link.unlink()
        link.symlink_to(two / "v2" / "model")
        assert told() == first, "nothing changes before it is loaded anew"
        models.registry.reload("current").result(60)
        second = told()
        assert second[1] == str(two / "v2" / "model")
        assert second[0] != first[0]
        assert second[2] != first[2]


def test_two_folders_of_one_last_name_are_served_together(tmp_path: Path, two: Path) -> None:
    one, other = str(two / "v1" / "model"), str(two / "v2" / "model")
    aliases = (("first", one), ("second", other + "/"))
    with (
        serving(tmp_path, one, other, aliases=aliases) as models,
        TestClient(build(models.registry)) as client,
    ):
        assert full_names(models) == ["v1/model", "v2/model"]
        unclear = client.post("/v1/embeddings", json={"model": "model", "input": "w1"})
        assert "(several end so: v1/model, v2/model)" in unclear.json()["error"]["message"]
        assert vector(client, "first") == vector(client, "v1/model") == vector(client, one)
        assert vector(client, "second") == vector(client, "v2/model") == vector(client, other)
        assert vector(client, "first") != vector(client, "second")
        # Which of them 'model' is can't be told.
        with pytest.raises(ModelNotFound) as refused:
            models.registry.resolve("model")
        # Whoever doesn't know a path isn't told it.
        assert str(two) not in str(refused.value)


def test_names_are_given_with_a_sign(tmp_path: Path, two: Path) -> None:
    names = (f"old={two / 'v1' / 'model'}", f"new={two / 'v2' / 'model'}")
    with serving(tmp_path, *names, default_model="new") as models:
        assert full_names(models) == ["old", "new"]
        assert models.registry.resolve(None) == "new"
        facts = models.registry.model("old").facts()
        assert facts["folder"] == str(two / "v1" / "model")
        with pytest.raises(AdminError, match="lies in a folder of your own"):
            models.registry.remove("old")
        with pytest.raises(AdminError, match="NAME=elsewhere"):
            models.registry.add("old", Wanted("elsewhere"))


def test_one_name_for_two_models_is_refused(tmp_path: Path, two: Path) -> None:
    names = (f"same={two / 'v1' / 'model'}", f"same={two / 'v2' / 'model'}")
    with pytest.raises(SettingsError, match="two models are called 'same'.*NAME="):
        with serving(tmp_path, *names):
            pass


def test_a_folder_that_comes_later_gets_the_longer_name(tmp_path: Path, two: Path) -> None:
    with serving(tmp_path, str(two / "v1" / "model")) as models:
        models.serve(str(two / "v2" / "model"))
        assert full_names(models) == ["model", "v2/model"]


@pytest.mark.parametrize("how", ["lazy", "unloaded", "models-dir", "link"])
def test_one_that_isnt_loaded_is_told_of_as_it_would_be(
    tmp_path: Path, two: Path, how: str
) -> None:
    folder = two / "v1" / "model"
    if how == "link":
        (tmp_path / "model").symlink_to(folder)
        folder = tmp_path / "model"
    keeping: dict[str, Any] = {"is_lazy": how in ("lazy", "link")}
    names: tuple[str, ...] = (str(folder),)
    if how == "models-dir":
        keeping, names = {"models_dir": two / "v1"}, ()
    with (
        serving(tmp_path, *names, **keeping) as models,
        TestClient(build(models.registry)) as client,
    ):
        if how == "unloaded":
            answer = client.post(
                "/api/embed", json={"model": "model", "input": "a", "keep_alive": 0}
            )
            assert answer.status_code == 200
            models.registry.unload("model").result(60)
        before = tag(client, "model:latest")
        listed = client.get("/v1/models").json()["data"][0]
        shown = client.post("/api/show", json={"model": "model"}).json()
        assert models.registry.model("model").state == "unloaded", "nothing is loaded by looking"
        vector(client, "model")
        after = tag(client, "model:latest")
    assert re.fullmatch(r"[0-9a-f]{64}", before["digest"])
    assert before["size"] > 0
    assert shown["capabilities"] == ["embedding"]
    assert before["details"]["family"] == "bert"
    assert {**before, "details": None} == {**after, "details": None}
    assert listed["dimensions"] == SMALL["hidden_size"]
    assert listed["capabilities"] == ["embed"]


@pytest.mark.parametrize("asked", ["acme/nobody-has-it", "mine=acme/nobody-has-it", "bge-m3"])
def test_one_that_isnt_here_yet_has_a_digest_too(tmp_path: Path, asked: str) -> None:
    place = Place(cache=tmp_path / "home", offline=False, precision="exact", threads=1)
    with catalogue.opened(place, Keeping(is_lazy=True)) as models:
        models.serve(asked)
        models.start()
        with TestClient(build(models.registry)) as client:
            (here, *_) = client.get("/api/tags").json()["models"]
    names = {"mine=acme/nobody-has-it": "mine", "bge-m3": "BAAI/bge-m3"}
    assert here["name"] == f"{names.get(asked, asked)}:latest"
    assert re.fullmatch(r"[0-9a-f]{64}", here["digest"])


def test_a_path_that_is_sent_to_a_server_keeps_its_links(
    tmp_path: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "current").symlink_to(two / "v1" / "model")
    assert _sent("./current") == str(tmp_path / "current")
    assert _sent("mine=./current") == f"mine={tmp_path / 'current'}"
    assert _sent("acme/tiny") == "acme/tiny"


def test_ps_tells_of_weights_and_folder_of_each(tmp_path: Path, two: Path) -> None:
    one, other = str(two / "v1" / "model"), str(two / "v2" / "model")
    with (
        serving(tmp_path, one, other, is_lazy=True) as models,
        TestClient(build(models.registry), client=("127.0.0.1", 1)) as client,
    ):
        unloaded = client.get("/admin/models").json()["models"]
        vector(client, "v1/model")
        loaded = client.get("/admin/models").json()["models"]
    rows = [_row(each) for each in unloaded]
    assert [row["folder"] for row in rows] == [one, other]
    assert [each["state"] for each in unloaded] == ["unloaded", "unloaded"]
    assert [each["weights"] for each in unloaded] == [each["weights"] for each in loaded]
    assert rows[0]["weights"] == unloaded[0]["weights"][:12] != rows[1]["weights"]
