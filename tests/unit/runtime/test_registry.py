"""The registry: loads once for all who wait, keeps, makes room, reloads without a gap."""

import contextlib
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import booleans, sampled_from

from likewise.base.errors import (
    AdminError,
    InputError,
    LikewiseError,
    ModelCorrupt,
    ModelNotFound,
    Overloaded,
)
from likewise.models.locate import Located
from likewise.runtime import metrics
from likewise.runtime.making import Loader, Options, Wanted
from likewise.runtime.registry import Registry
from likewise.runtime.standing import Standing
from tests.conformance.tiny import write_bert, write_json
from tests.support import LIMIT, wait_until

MIB = 2**20


class Fake:
    """A model that knows whether it was closed."""

    def __init__(self, name: str, space: str) -> None:
        self.name = name
        self.is_closed = False
        self.card = SimpleNamespace(gives=("vectors",))
        self.space = SimpleNamespace(fingerprint=space)

    def info(self) -> dict[str, Any]:
        return {"engine": "fake", "precision": "f32"}

    def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = True


@dataclass
class FakeLoader(Loader):
    """Loads at once; fails with `fails`, and waits while `held`."""

    options: Options
    fails: Exception | None = None
    unproved: LikewiseError | None = None
    held: threading.Event | None = None
    space: str = "s1"
    sizes: dict[str, int] = field(default_factory=dict)
    made: list[Any] = field(default_factory=list)
    tries: int = 0

    def locate(self, wanted: Wanted, progress: Any = None) -> Located:
        return Located(Path(wanted.source), wanted.source, "cache", None)

    def estimate(self, located: Located, wanted: Wanted) -> int:
        return self.sizes.get(wanted.source, MIB)

    def load(self, folder: Path, name: str, wanted: Wanted) -> Any:
        self.tries += 1
        if self.held is not None:
            assert self.held.wait(LIMIT)
        if self.fails is not None:
            raise self.fails
        self.made.append(Fake(name, self.space))
        return self.made[-1]

    def weigh(self, service: Any) -> int:
        return self.sizes.get(service.name, MIB)

    def prove(self, service: Any) -> None:
        if self.unproved is not None:
            raise self.unproved


Make = Callable[..., tuple[Registry, FakeLoader]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Registry] = []

    def make(*names: str, clock: Any = None, **options: Any) -> tuple[Registry, FakeLoader]:
        loader = FakeLoader(Options(tmp_path, **options))
        more = {} if clock is None else {"clock": clock}
        registry = Registry(loader.options, loader=loader, **more)
        made.append(registry)
        for name in names:
            registry.add(name, Wanted(name))
        return registry, loader

    yield make
    for registry in made:
        registry.close()


def count(metric: Any, *labels: str) -> float:
    value: float = metric.labels(*labels)._value.get()
    return value


def state(registry: Registry, name: str) -> str:
    return registry.model(name).state


def test_names(make: Make) -> None:
    registry, _ = make("org/one", "org/two", "other/two")
    assert registry.resolve("one") == "org/one"
    assert registry.resolve("other/two") == "other/two"
    with pytest.raises(ModelNotFound, match="served: org/one, org/two, other/two"):
        registry.resolve("two")
    with pytest.raises(InputError, match="'model' is missing"):
        registry.resolve(None)
    registry.alias("two", "org/two")
    assert registry.resolve("two") == "org/two"
    registry.alias("two", "one")
    assert registry.resolve("two") == "org/one"
    assert [list(view.aliases) for view in registry.models()] == [["two"], [], []]
    registry.alias("two", None)
    with pytest.raises(ModelNotFound):
        registry.resolve("two")
    with pytest.raises(ModelNotFound, match="no alias"):
        registry.alias("two", None)
    with pytest.raises(AdminError, match="own name"):
        registry.alias("org/one", "org/two")
    registry.alias("x", "org/one")
    with pytest.raises(AdminError, match="stands for org/one already"):
        registry.add("new", Wanted("new"), ["x"])


def test_the_default_is_the_model_of_requests_that_name_none(make: Make) -> None:
    registry, _ = make("a", "b", default="b")
    assert registry.resolve(None) == "b"


def test_one_load_for_all_who_wait(make: Make) -> None:
    registry, loader = make("m")
    loader.held = threading.Event()
    leases = [registry.lease("m") for _ in range(20)]
    wait_until(lambda: state(registry, "m") == "loading")
    assert leases[3].cancel()
    loader.held.set()
    granted = [lease.result(LIMIT) for lease in leases if not lease.cancelled()]
    assert loader.tries == 1
    assert registry.model("m").facts()["holders"] == 19
    for hold in granted:
        with hold as model:
            assert model is loader.made[0]
    assert registry.model("m").facts()["holders"] == 0
    hold.__exit__(None, None, None)
    assert registry.model("m").facts()["holders"] == 0


def test_a_load_that_all_gave_up_goes_on(make: Make) -> None:
    registry, loader = make("m", keep_alive_s=60.0)
    loader.held = threading.Event()
    lease = registry.lease("m")
    wait_until(lambda: loader.tries == 1)
    assert lease.cancel()
    loader.held.set()
    wait_until(lambda: state(registry, "m") == "loaded")
    assert registry.model("m").facts()["holders"] == 0


def test_a_failure_is_everybodys_and_the_next_try_waits(make: Make) -> None:
    now = [100.0]
    registry, loader = make("m", clock=lambda: now[0])
    loader.fails, loader.held = ModelCorrupt("weights are damaged"), threading.Event()
    leases = [registry.lease("m") for _ in range(3)]
    loader.held.set()
    for lease in leases:
        with pytest.raises(ModelCorrupt, match="weights are damaged"):
            lease.result(LIMIT)
    assert state(registry, "m") == "failed"
    assert "damaged" in registry.model("m").facts()["error"]
    with pytest.raises(ModelCorrupt, match=r"damaged .*tried again in 1\.0 s") as refused:
        registry.lease("m")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    assert loader.tries == 1
    now[0] += 1.1
    with pytest.raises(ModelCorrupt):
        registry.lease("m").result(LIMIT)
    with pytest.raises(ModelCorrupt, match=r"again in 2\.0 s"):
        registry.lease("m")
    loader.fails = None
    with registry.load("m").result(LIMIT):
        assert state(registry, "m") == "loaded"
    assert registry.model("m").facts()["error"] is None


def test_a_bug_while_loading_is_an_error_with_a_name(make: Make) -> None:
    registry, loader = make("m")
    loader.fails = ZeroDivisionError("oh")
    with pytest.raises(LikewiseError, match="m can't be loaded: ZeroDivisionError: oh"):
        registry.lease("m").result(LIMIT)


def test_idle_models_go_and_pinned_ones_stay(make: Make) -> None:
    registry, loader = make("a", "b", "c", keep_alive_s=0.0)
    registry.pin("b", "pages")
    before = count(metrics.MODEL_UNLOADS, "a", "idle")
    holds = [registry.lease(name).result(LIMIT) for name in ("a", "b")]
    forever = registry.lease("c", keep_alive_s=math.inf).result(LIMIT)
    assert state(registry, "a") == "loaded"
    for hold in (*holds, forever):
        hold.__exit__(None, None, None)
    wait_until(lambda: loader.made[0].is_closed)
    assert [state(registry, name) for name in "abc"] == ["unloaded", "loaded", "loaded"]
    assert count(metrics.MODEL_UNLOADS, "a", "idle") == before + 1
    with registry.lease("a").result(LIMIT):
        pass
    with pytest.raises(AdminError, match="pinned by the binding pages"):
        registry.unload("b")
    # Without a wish of one's own, what is set counts again.
    with registry.lease("c").result(LIMIT):
        pass
    wait_until(lambda: state(registry, "c") == "unloaded")


def test_unloading_waits_for_who_holds_it(make: Make) -> None:
    registry, loader = make("m")
    hold = registry.lease("m").result(LIMIT)
    going = registry.unload("m")
    assert state(registry, "m") == "unloaded"
    assert not going.done()
    with registry.lease("m").result(LIMIT) as another:
        assert another is loader.made[1]
    assert not loader.made[0].is_closed
    hold.__exit__(None, None, None)
    assert going.result(LIMIT) is True
    assert loader.made[0].is_closed
    registry.unload("m").result(LIMIT)
    assert registry.unload("m").result(LIMIT) is False


def test_the_one_used_longest_ago_makes_room(make: Make) -> None:
    registry, loader = make("a", "b", "c", "big", memory_budget=2 * MIB)
    loader.sizes["big"] = 3 * MIB
    for name in ("a", "b", "a"):
        with registry.lease(name).result(LIMIT):
            pass
    with registry.lease("c").result(LIMIT):
        assert [state(registry, name) for name in "abc"] == ["loaded", "unloaded", "loaded"]
        assert registry.resident_bytes == 2 * MIB
        with registry.lease("a").result(LIMIT):
            asked = registry.lease("b")
            with pytest.raises(Overloaded, match=r"c 1\.0 MiB \(in use by 1\)") as refused:
                asked.result(LIMIT)
            assert refused.value.retryable
            assert state(registry, "b") == "unloaded"
    # That it was refused says nothing about the model: it is tried again at once.
    with registry.lease("b").result(LIMIT):
        pass
    registry.pin("b", "pages")
    with registry.lease("a").result(LIMIT), pytest.raises(Overloaded, match="b 1.0 MiB .pinned"):
        registry.lease("c").result(LIMIT)
    with pytest.raises(AdminError, match="the whole memory budget is 2.0 MiB"):
        registry.lease("big").result(LIMIT)


def test_two_loads_at_once_share_the_budget(make: Make) -> None:
    registry, loader = make("a", "b", "c", memory_budget=2 * MIB)
    loader.held = threading.Event()
    leases = [registry.lease(name) for name in "ab"]
    wait_until(lambda: loader.tries == 2)
    third = registry.lease("c")
    loader.held.set()
    for lease in leases:
        lease.result(LIMIT)
    with pytest.raises(Overloaded):
        third.result(LIMIT)


def test_a_new_generation_takes_over_and_the_old_one_finishes(make: Make) -> None:
    registry, loader = make("m", keep_alive_s=7.0)
    old = registry.lease("m").result(LIMIT)
    loader.space = "s2"
    told = registry.reload("m").result(LIMIT)
    assert (told["generation"], told["space_changed"]) == (2, True)
    assert not loader.made[0].is_closed
    with registry.lease("m").result(LIMIT) as model:
        assert model is loader.made[1]
    old.__exit__(None, None, None)
    wait_until(lambda: loader.made[0].is_closed)
    facts = registry.model("m").facts()
    assert (facts["generation"], facts["fingerprint"]) == (2, "s2")
    assert 0 < facts["expires_in_s"] <= 7
    told = registry.reload("m").result(LIMIT)
    assert told["space_changed"] is False


@pytest.mark.parametrize("where", ["fails", "unproved"])
def test_a_bad_new_model_leaves_the_old_one(make: Make, where: str) -> None:
    registry, loader = make("m")
    with registry.lease("m").result(LIMIT):
        pass
    setattr(loader, where, ModelCorrupt("cut short"))
    with pytest.raises(ModelCorrupt, match="cut short"):
        registry.reload("m").result(LIMIT)
    assert registry.model("m").facts()["error"] == "cut short"
    assert [made.is_closed for made in loader.made] == [False, True][: len(loader.made)]
    with registry.lease("m").result(LIMIT) as model:
        assert model is loader.made[0]
    setattr(loader, where, None)
    registry.reload("m").result(LIMIT)
    assert registry.model("m").facts()["error"] is None


def test_what_bindings_hold_isnt_replaced_by_another_space(make: Make) -> None:
    registry, loader = make("m")
    with registry.lease("m").result(LIMIT):
        pass
    registry.pin("m", "pages")
    registry.reload("m").result(LIMIT)
    loader.space = "s2"
    with pytest.raises(AdminError, match="binding pages holds its vectors.*another space"):
        registry.reload("m").result(LIMIT)
    with registry.lease("m").result(LIMIT) as model:
        assert model is loader.made[1]


def test_a_reload_that_was_given_up_goes_on(make: Make) -> None:
    registry, loader = make("m")
    with registry.lease("m").result(LIMIT):
        pass
    loader.held = threading.Event()
    assert registry.reload("m").cancel()
    loader.held.set()
    wait_until(lambda: registry.model("m").facts()["generation"] == 2)


def test_what_is_being_loaded_is_left_alone(make: Make) -> None:
    registry, loader = make("m")
    loader.held = threading.Event()
    lease = registry.lease("m")
    for act in (registry.reload, registry.unload, registry.drop, registry.remove):
        with pytest.raises(AdminError, match="being loaded just now"):
            act("m")
    loader.held.set()
    lease.result(LIMIT)


def test_closing_ends_what_waits_and_what_is_held(make: Make) -> None:
    registry, loader = make("held", "loading", "queued", "queued too")
    hold = registry.lease("held").result(LIMIT)
    loader.held = threading.Event()
    waiting = [registry.lease(name) for name in ("loading", "queued", "queued too")]
    wait_until(lambda: loader.tries == 3)
    closing = threading.Thread(target=registry.close)
    closing.start()
    wait_until(registry._is_closing.is_set)
    loader.held.set()
    closing.join()
    for lease in waiting:
        with pytest.raises(Overloaded, match="stopping"):
            lease.result(0)
    assert all(made.is_closed for made in loader.made)
    hold.__exit__(None, None, None)
    with pytest.raises(Overloaded, match="stopping"):
        registry.lease("held")
    registry.close()


def test_one_that_was_only_tried_is_forgotten_when_it_fails(make: Make) -> None:
    registry, loader = make()
    loader.fails = ModelNotFound("nowhere")
    registry.add("m", Wanted("m"), ["x"], is_trial=True)
    with pytest.raises(ModelNotFound):
        registry.lease("m").result(LIMIT)
    assert registry.models() == []
    with pytest.raises(ModelNotFound):
        registry.resolve("x")


def test_another_precision_needs_another_load(make: Make) -> None:
    registry, _ = make("m", keep_alive_s=60.0)
    with registry.lease("m").result(LIMIT):
        pass
    with pytest.raises(AdminError, match="unload it first"):
        registry.want("m", Wanted("m", precision="exact"))
    registry.want("m", Wanted("m", keep_alive_s=5.0))
    assert registry.model("m").facts()["expires_in_s"] <= 5
    registry.unload("m").result(LIMIT)
    registry.want("m", Wanted("m", precision="exact"))
    assert registry.model("m").wanted.precision == "exact"


def test_loads_are_counted(make: Make) -> None:
    registry, loader = make("counted")
    with registry.lease("counted").result(LIMIT):
        pass
    registry.reload("counted").result(LIMIT)
    loader.fails = ModelCorrupt("x")
    with pytest.raises(ModelCorrupt):
        registry.reload("counted").result(LIMIT)
    for outcome in ("loaded", "reloaded", "failed"):
        assert count(metrics.MODEL_LOADS, "counted", outcome) == 1
    wait_until(lambda: count(metrics.MODEL_RESIDENT_BYTES, "counted") == MIB)
    registry.unload("counted").result(LIMIT)
    assert count(metrics.MODEL_RESIDENT_BYTES, "counted") == 0


class Leases(RuleBasedStateMachine):
    """Whatever happens in whatever order: nobody's model is closed, and nothing stays for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.loader = FakeLoader(Options(Path("/nowhere"), memory_budget=2 * MIB))
        self.registry = Registry(self.loader.options, loader=self.loader)
        for name in "abc":
            self.registry.add(name, Wanted(name))
        self.held: list[tuple[Any, Any]] = []

    @rule(name=sampled_from("ab"), keep=booleans())
    def lease(self, name: str, keep: bool) -> None:
        lease = self.registry.lease(name, keep_alive_s=math.inf if keep else 0.0)
        with contextlib.suppress(Overloaded):
            hold = lease.result(LIMIT)
            self.held.append((hold, hold.__enter__()))

    @precondition(lambda self: self.held)
    @rule(last=booleans())
    def give_back(self, last: bool) -> None:
        hold, _ = self.held.pop(-1 if last else 0)
        hold.__exit__(None, None, None)

    @rule(name=sampled_from("bc"))
    def unload(self, name: str) -> None:
        self.registry.unload(name)

    @rule(name=sampled_from("ac"))
    def reload(self, name: str) -> None:
        with contextlib.suppress(Overloaded):
            self.registry.reload(name).result(LIMIT)

    @invariant()
    def what_is_held_is_open(self) -> None:
        assert not any(model.is_closed for _, model in self.held)
        loaded = [view for view in self.registry.models() if view.state == "loaded"]
        holders = sum(view.facts().get("holders", 0) for view in loaded)
        retired = sum(one.holders for one in list(self.registry._retired))
        assert holders + retired == len(self.held)
        assert self.registry.resident_bytes <= 2 * MIB

    def teardown(self) -> None:
        for hold, _ in self.held:
            hold.__exit__(None, None, None)
        self.registry.close()
        assert all(made.is_closed for made in self.loader.made)
        assert self.registry._retired == []


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(Options(tmp_path / "cache", offline=True, precision="exact", threads=1))
    yield registry
    registry.close()


def test_a_real_model_is_reloaded_while_it_is_asked(real: Registry, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "tiny")
    other = write_bert(tmp_path / "other", pooling="cls")
    real.add("tiny", Wanted(str(folder)))
    with real.lease("tiny").result(LIMIT) as model:
        first = model.embed(["w1 w2 w3"])
    stopping, seen, failures = threading.Event(), set(), []

    def hammer() -> None:
        while not stopping.is_set():
            try:
                with real.lease("tiny").result(0) as model:
                    row = model.submit(["w1 w2 w3"]).result(LIMIT).vectors[0]
                seen.add(row.tobytes())
            except Exception as failed:  # noqa: BLE001 - any failure at all fails the test
                failures.append(failed)

    hammers = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in hammers:
        thread.start()
    try:
        for source in (other, other):
            shutil.copytree(source, folder, dirs_exist_ok=True)
            told = real.reload("tiny").result(LIMIT)
        wait_until(lambda: len(seen) > 1)
    finally:
        stopping.set()
        for thread in hammers:
            thread.join()
    assert failures == []
    assert told["generation"] == 3
    with real.lease("tiny").result(0) as model:
        last = model.embed(["w1 w2 w3"])
    assert seen == {first.tobytes(), last.tobytes()}
    assert not np.allclose(first, last)


def test_a_running_model_doesnt_see_its_files_being_overwritten(
    real: Registry, tmp_path: Path
) -> None:
    folder = write_bert(tmp_path / "tiny")
    real.add("tiny", Wanted(str(folder)))
    with real.lease("tiny").result(LIMIT) as model:
        before = model.embed(["w1 w2", "w40 w50"])
        weights = folder / "model.safetensors"
        size = weights.stat().st_size
        with weights.open("r+b") as file:
            file.write(b"\xff" * size)
            file.flush()
            assert np.array_equal(model.embed(["w1 w2", "w40 w50"]), before)
            file.truncate(0)
        assert np.array_equal(model.embed(["w3 w4", "w1 w2"])[1], before[0])
        with pytest.raises(LikewiseError):
            real.reload("tiny").result(LIMIT)
        assert np.array_equal(model.embed(["w1 w2", "w40 w50"]), before)
    assert list((tmp_path / "cache").glob(".loading-*")) == []


def test_real_weights_are_weighed(real: Registry, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    folder = write_bert(tmp_path / "tiny")
    real.add("tiny", Wanted(str(folder)))
    with real.lease("tiny").result(LIMIT):
        numbers = sum(array.size for array in load_file(folder / "model.safetensors").values())
        assert real.resident_bytes == 4 * numbers
    assert real.model("tiny").facts()["folder"] == str(folder)


def test_standing_follows_the_generations(real: Registry, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "tiny")
    real.add("tiny", Wanted(str(folder)))
    standing = Standing(real, "tiny")
    first = standing.embed(["w1 w2"])
    fingerprint = standing.space.fingerprint
    real.reload("tiny").result(LIMIT)
    assert np.array_equal(standing.embed(["w1 w2"], lane="interactive"), first)
    assert standing.space.fingerprint == fingerprint
    assert len(standing.splitter("tokens:8/2")(["w1 " * 20])[0]) > 1
    assert real.model("tiny").facts()["holders"] == 0


def test_a_folder_of_the_users_own_is_never_deleted(real: Registry, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "tiny")
    real.add("tiny", Wanted(str(folder)))
    with pytest.raises(AdminError, match="a folder of your own"):
        real.remove("tiny")
    assert (folder / "model.safetensors").is_file()
    assert real.resolve("tiny") == "tiny"


@pytest.mark.model
def test_fetching_and_removing(model_cache: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(model_cache / "models", cache / "models")
    registry = Registry(Options(cache, offline=True))
    try:
        name = registry.fetch("all-MiniLM-L6-v2")
        assert name == registry.resolve("all-MiniLM-L6-v2")
        assert registry.fetch(name) == name
        with registry.lease(name).result(LIMIT) as model:
            registry.remove("all-MiniLM-L6-v2")
            assert model.embed(["still here"]).shape == (1, 384)
        assert registry.models() == []
        with pytest.raises(ModelNotFound):
            registry.fetch("all-MiniLM-L6-v2")
    finally:
        registry.close()


def test_a_model_that_cant_be_read_fails_by_name(real: Registry, tmp_path: Path) -> None:
    write_json(tmp_path / "odd" / "config.json", {"model_type": "made up"})
    real.add("odd", Wanted(str(tmp_path / "odd")))
    lease: Future[Any] = real.lease("odd")
    with pytest.raises(LikewiseError, match=f"^{tmp_path}/odd/config.json"):
        lease.result(LIMIT)
    assert state(real, "odd") == "failed"
