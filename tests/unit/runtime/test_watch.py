"""The watched folder: models come, change and go while the server runs; trouble is shown."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.runtime import metrics
from likewise.runtime.making import Options, Wanted
from likewise.runtime.registry import Registry
from likewise.runtime.watch import Watch
from tests.conformance.tiny import write_bert, write_json
from tests.support import LIMIT, wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(Options(tmp_path / "cache", offline=True, precision="exact", threads=1))
    yield registry
    registry.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def names(registry: Registry) -> list[str]:
    return [view.name for view in registry.models()]


def embed(registry: Registry, name: str) -> Any:
    with registry.lease(name).result(LIMIT) as model:
        return model.embed(["w1 w2 w3"])


def generation(registry: Registry, name: str) -> int:
    number: int = registry.model(name).facts()["generation"]
    return number


def test_it_takes_what_has_settled(registry: Registry, folder: Path) -> None:
    clock = Clock()
    watch = Watch(registry, folder, settle_s=2.0, clock=clock)
    write_bert(folder / "one")
    write_json(folder / "notes" / "readme.json", {})
    (folder / "file").write_text("no folder", encoding="utf-8")
    write_bert(folder / ".hidden")
    watch.look()
    assert names(registry) == []
    clock.now = 1.9
    watch.look()
    (folder / "one" / "config.json").touch()
    clock.now = 2.1
    watch.look()
    assert names(registry) == []
    clock.now = 4.2
    watch.look()
    assert names(registry) == ["one"]
    assert registry.model("one").state == "unloaded"
    first = embed(registry, "one")

    write_bert(folder / "one", pooling="cls")
    watch.look()
    assert generation(registry, "one") == 1
    assert np.array_equal(embed(registry, "one"), first)
    clock.now = 6.3
    watch.look()
    assert generation(registry, "one") == 2
    assert not np.allclose(embed(registry, "one"), first)
    clock.now = 20
    watch.look()
    assert generation(registry, "one") == 2


def test_a_folder_put_in_place_of_another(registry: Registry, folder: Path, tmp_path: Path) -> None:
    clock = Clock()
    watch = Watch(registry, folder, settle_s=0.0, clock=clock)
    write_bert(folder / "one")
    watch.look()
    first = embed(registry, "one")
    new = write_bert(tmp_path / "new", pooling="cls")
    (folder / "one").rename(tmp_path / "old")
    new.rename(folder / "one")
    watch.look()
    assert generation(registry, "one") == 2
    assert not np.allclose(embed(registry, "one"), first)


def test_a_bad_change_leaves_the_old_one_and_isnt_tried_again(
    registry: Registry, folder: Path
) -> None:
    watch = Watch(registry, folder, settle_s=0.0, clock=Clock())
    write_bert(folder / "one")
    watch.look()
    first = embed(registry, "one")
    good = (folder / "one" / "model.safetensors").read_bytes()
    (folder / "one" / "model.safetensors").write_bytes(good[:1000])
    failed = metrics.MODEL_LOADS.labels("one", "failed")
    before = failed._value.get()
    for _ in range(3):
        watch.look()
    assert failed._value.get() == before + 1
    facts = registry.model("one").facts()
    assert (facts["generation"], facts["loads"]) == (1, 1)
    assert f"{folder}/one/model.safetensors" in facts["error"]
    assert np.array_equal(embed(registry, "one"), first)
    (folder / "one" / "model.safetensors").write_bytes(good)
    watch.look()
    assert generation(registry, "one") == 2
    assert registry.model("one").facts()["error"] is None


def test_one_that_failed_is_tried_when_it_changes(registry: Registry, folder: Path) -> None:
    watch = Watch(registry, folder, settle_s=0.0, clock=Clock())
    write_json(folder / "one" / "config.json", {"model_type": "made up"})
    watch.look()
    with pytest.raises(Exception, match="one/config.json"):
        embed(registry, "one")
    assert registry.model("one").state == "failed"
    write_bert(folder / "one")
    watch.look()
    assert registry.model("one").state == "unloaded"
    assert embed(registry, "one").shape == (1, 32)


def test_what_vanishes_is_served_no_more(registry: Registry, folder: Path) -> None:
    watch = Watch(registry, folder, settle_s=0.0, clock=Clock())
    for name in ("one", "two", "bound"):
        write_bert(folder / name)
    watch.look()
    hold = registry.lease("one").result(LIMIT)
    registry.pin("bound", "pages")
    for name in ("one", "two", "bound"):
        shutil.rmtree(folder / name)
    watch.look()
    assert names(registry) == ["bound"]
    assert "pinned by the binding pages" in registry.troubles[str(folder / "bound")]
    with hold as model:
        assert model.embed(["w1"]).shape == (1, 32)
    wait_until(lambda: registry.resident_bytes == 0)


def test_a_name_that_is_taken_is_shown(registry: Registry, folder: Path, tmp_path: Path) -> None:
    own = write_bert(tmp_path / "own" / "one")
    registry.add("one", Wanted(str(own)))
    watch = Watch(registry, folder, settle_s=0.0, clock=Clock())
    write_bert(folder / "one")
    for _ in range(2):
        watch.look()
    assert "served already" in registry.troubles[str(folder / "one")]
    shutil.rmtree(folder / "one")
    watch.look()
    assert registry.troubles == {}
    assert names(registry) == ["one"]


def test_a_folder_that_is_away_unloads_nothing(registry: Registry, folder: Path) -> None:
    watch = Watch(registry, folder, settle_s=0.0, clock=Clock())
    write_bert(folder / "one")
    watch.look()
    folder.rename(folder.parent / "away")
    watch.look()
    assert names(registry) == ["one"]
    assert "can't be read" in registry.troubles[str(folder)]
    (folder.parent / "away").rename(folder)
    watch.look()
    assert registry.troubles == {}


def test_the_thread_sees_changes_and_stops(registry: Registry, folder: Path) -> None:
    write_bert(folder / "one")
    watch = Watch(registry, folder, every_s=0.02, settle_s=0.1)
    watch.start()
    assert names(registry) == ["one"]
    embed(registry, "one")
    write_bert(folder / "two")
    wait_until(lambda: names(registry) == ["one", "two"])
    write_bert(folder / "one", pooling="cls")
    wait_until(lambda: generation(registry, "one") == 2)
    watch.stop()
    assert not watch._thread.is_alive()


def test_a_hugging_face_cache_is_served_by_its_repositories(
    registry: Registry, folder: Path
) -> None:
    """Whoever comes from a server that keeps its models in such a cache names that folder."""

    def fetched(name: str) -> Path:
        root = folder / f"models--{name.replace('/', '--')}"
        snapshot = write_bert(root / "snapshots" / "abc123")
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("abc123")
        return snapshot

    fetched("acme/tiny")
    (fetched("acme/half") / "model.safetensors").unlink()
    watch = Watch(registry, folder)
    watch.look(settle_s=0)
    assert names(registry) == ["acme/tiny"]
    assert embed(registry, registry.resolve("tiny")).shape[0] == 1
    half = str(folder / "models--acme--half")
    assert "model.safetensors isn't in it" in registry.troubles[half]
    shutil.rmtree(half)
    watch.look(settle_s=0)
    assert half not in registry.troubles
    shutil.rmtree(folder / "models--acme--tiny")
    watch.look(settle_s=0)
    assert names(registry) == []
