"""Several workers on one Postgres binding, in every order of claim, read and publication."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest

from likewise.base.bound import BindingRecord
from likewise.base.errors import LeaseLost
from likewise.base.spec import BindingSpec
from likewise.base.types import Action, Applied, Chunk, Delete, Keep, Key, Put
from likewise.server import databases
from likewise.stores.postgres import PostgresTable
from likewise.stores.postgres_publish import Publisher
from tests.binding_kit import SPACE, fake_vector
from tests.postgres_kit import PgApp
from tests.support import LIMIT

K: Key = (1,)


class Bench:
    """A binding whose log tests write themselves, and handles on it as workers have them."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.app = PgApp(address, "CREATE TABLE docs (id int PRIMARY KEY, body text)")
        spec = BindingSpec("docs", address, "docs", "{body}")
        self.record: BindingRecord = databases.create(spec, SPACE)
        self.handles: list[PostgresTable] = []

    def worker(self, name: str = "") -> PostgresTable:
        made = PostgresTable(self.record, self.address)
        self.handles.append(made)
        if name:
            made.take_lease(name, seconds=30, is_dead=lambda holder: False)
        return made

    def expire(self, name: str) -> None:
        self.app(
            "UPDATE likewise.worker SET until = now() - interval '1 s' WHERE holder = %s", [name]
        )

    def stored(self) -> dict[Key, bytes]:
        return dict(self.worker().fingerprints())

    def close(self) -> None:
        for each in self.handles:
            each.close()
        self.app.close()


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    made = Bench(database)
    yield made
    made.close()


def put(ticket: int, text: str, key: Key = K) -> Put:
    vectors = fake_vector(text)[None].astype(np.float32)
    return Put(key, ticket, text.encode().ljust(32), (Chunk(0, 0, len(text)),), vectors, (text,))


def claimed(worker: PostgresTable) -> int:
    (change,) = worker.claim(0, limit=10)
    return change.seq


def two_claims(bench: Bench) -> tuple[PostgresTable, int, PostgresTable, int]:
    """The row changes twice; each change is claimed by another worker."""
    one, two = bench.worker("one"), bench.worker("two")
    one.enqueue([K])
    first = claimed(one)
    one.enqueue([K])
    second = claimed(two)
    assert second > first
    return one, first, two, second


def test_what_one_has_claimed_no_other_is_given(bench: Bench) -> None:
    one, two = bench.worker("one"), bench.worker("two")
    one.enqueue([(number,) for number in range(10)])
    mine = {change.key for change in one.claim(0, limit=5)}
    theirs = {change.key for change in two.claim(0, limit=50)}
    assert len(mine) == len(theirs) == 5
    assert not mine & theirs
    assert one.claim(0, limit=5) == []


def test_the_later_claim_first(bench: Bench) -> None:
    one, first, two, second = two_claims(bench)
    assert two.apply([put(second, "new")], cursor=0) == Applied(put=1)
    assert one.apply([put(first, "old")], cursor=0) == Applied(superseded=1)
    assert one.pending() == set()
    assert bench.stored() == {K: b"new".ljust(32)}


def test_the_earlier_claim_first(bench: Bench) -> None:
    """It knows that something came later, and leaves publishing to that."""
    one, first, two, second = two_claims(bench)
    assert one.apply([put(first, "old")], cursor=0) == Applied(superseded=1)
    assert two.apply([put(second, "new")], cursor=0) == Applied(put=1)
    assert one.pending() == set()
    assert bench.stored() == {K: b"new".ljust(32)}


def test_a_deleted_row_stays_deleted(bench: Bench) -> None:
    one, first, two, second = two_claims(bench)
    assert two.apply([Delete(K, second)], cursor=0) == Applied(deleted=1)
    assert one.apply([put(first, "old")], cursor=0) == Applied(superseded=1)
    assert bench.stored() == {}
    assert list(one.scan()) == []


def test_a_claim_that_was_taken_over(bench: Bench) -> None:
    """The first worker lives, but its lease has run out: what it made isn't published."""
    one, two = bench.worker("one"), bench.worker("two")
    one.enqueue([K])
    first = claimed(one)
    assert two.claim(0, limit=10) == []
    bench.expire("one")
    second = claimed(two)
    assert one.apply([put(first, "old")], cursor=0) == Applied(superseded=1)
    assert two.pending() == {K}
    assert two.apply([put(second, "new")], cursor=0) == Applied(put=1)
    assert bench.stored() == {K: b"new".ljust(32)}


def test_a_worker_that_was_declared_dead_publishes_nothing(bench: Bench) -> None:
    one = bench.worker("one")
    one.enqueue([K])
    first = claimed(one)
    bench.worker().take_lease("two", seconds=30, is_dead=lambda holder: holder == "one")
    with pytest.raises(LeaseLost):
        one.apply([put(first, "old")], cursor=0)
    with pytest.raises(LeaseLost):
        one.renew_lease()


def test_a_keep_that_no_longer_holds_leaves_the_entry_to_others(bench: Bench) -> None:
    one, two = bench.worker("one"), bench.worker("two")
    one.enqueue([K])
    first = claimed(one)
    assert one.apply([Keep(K, first, b"x" * 32)], cursor=0) == Applied(superseded=1)
    assert claimed(two) > first


def test_an_entry_that_becomes_visible_late_is_not_answered(bench: Bench) -> None:
    """Its number is lower than the one that is being answered, and nobody has seen it."""
    one = bench.worker("one")
    with psycopg.connect(bench.address) as late:
        late.execute("INSERT INTO likewise.docs_log (key_id) VALUES (1)")
        one.enqueue([K])
        ticket = claimed(one)
        late.commit()
    one.apply([put(ticket, "before it")], cursor=0)
    assert one.pending() == {K}


def test_an_outbox_row_that_commits_late(bench: Bench) -> None:
    """A takes the first number and waits, B commits the second, a worker runs, A commits."""
    from likewise.sources.postgres import PostgresSource

    source = PostgresSource(bench.record.spec)
    source.attach()
    table = bench.worker("one")
    with psycopg.connect(bench.address) as late:
        late.execute("INSERT INTO docs VALUES (1, 'late')")
        bench.app("INSERT INTO docs VALUES (2, 'early')")
        with source.captured(limit=100) as captured:
            table.relay(captured)
        assert table.pending() == {(2,)}
        late.commit()
    with source.captured(limit=100) as captured:
        table.relay(captured)
    assert table.pending() == {(1,), (2,)}
    assert source.waiting() == (0, None)
    source.close()


def test_versions_of_the_feed_are_in_the_order_of_commits(bench: Bench) -> None:
    """A publication waits for one that has its versions already and hasn't committed."""
    one = bench.worker("one")
    one.enqueue([K])
    ticket = claimed(one)
    with psycopg.connect(bench.address) as open_transaction:
        open_transaction.execute("UPDATE likewise.binding SET version = version + 1")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(one.apply, [put(ticket, "x")], cursor=0)
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not bench.app(waiting)[0][0]:
                assert not done.done()
            open_transaction.commit()
            assert done.result(LIMIT) == Applied(put=1)
    feed = bench.worker().published(0)
    assert (feed.version, feed.keys) == (2, (K,)) or feed.reset


def test_an_index_that_follows_from_two_publishers_misses_nothing(bench: Bench) -> None:
    """Read while others publish as fast as they can: every key comes once its version is passed."""
    count = 60
    done = threading.Event()
    seen: set[Key] = set()

    def publish(number: int) -> None:
        worker = bench.worker(f"w{number}")
        for at in range(count):
            key: Key = (1000 * number + at,)
            worker.enqueue([key])
            for change in worker.claim(0, limit=10):
                worker.apply([put(change.seq, "x", change.key)], cursor=0)

    def follow() -> None:
        reader = bench.worker()
        version = 0
        while True:
            last = done.is_set()
            feed = reader.published(version)
            assert not feed.reset
            version = feed.version
            seen.update(feed.keys)
            if last and not feed.keys:
                return

    with ThreadPoolExecutor(4) as pool:
        following = pool.submit(follow)
        for each in [pool.submit(publish, number) for number in range(3)]:
            each.result(LIMIT)
        done.set()
        following.result(LIMIT)
    assert seen == set(bench.stored())
    assert len(seen) == 3 * count


class Mix:
    """Writes, claims, publications and expiries of four workers in a random order, then rest."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.rng = random.Random(seed)
        self.truth: dict[Key, str] = {}
        self.writer = bench.worker()
        self.workers = {f"w{number}": bench.worker(f"w{number}") for number in range(4)}
        self.in_hand: dict[str, list[Action]] = {name: [] for name in self.workers}

    def write(self, name: str) -> None:
        key: Key = (self.rng.randrange(3),)
        if key in self.truth and self.rng.random() < 0.3:
            del self.truth[key]
        else:
            self.truth[key] = f"text {self.rng.randrange(1000)}"
        self.writer.enqueue([key])

    def claim(self, name: str, limit: int = 2) -> None:
        newest = {c.key: c.seq for c in self.workers[name].claim(0, limit=limit)}
        stored = self.workers[name].fingerprints(list(newest))
        for key, ticket in newest.items():
            text = self.truth.get(key)
            if text is None:
                self.in_hand[name].append(Delete(key, ticket))
            elif stored.get(key) == text.encode().ljust(32) and self.rng.random() < 0.5:
                self.in_hand[name].append(Keep(key, ticket, text.encode().ljust(32)))
            else:
                self.in_hand[name].append(put(ticket, text, key))

    def publish(self, name: str) -> None:
        actions = self.in_hand[name]
        if actions:
            action = actions.pop(self.rng.randrange(len(actions)))
            try:
                self.workers[name].apply([action], cursor=0)
            except LeaseLost:
                actions.clear()

    def expire(self, name: str) -> None:
        self.bench.expire(name)

    def come_back(self, name: str) -> None:
        self.in_hand[name].clear()
        self.workers[name].take_lease(name, seconds=30, is_dead=lambda holder: False)
        self.workers[name].unclaim()

    def run(self, steps: int = 120) -> None:
        likely = [self.write, self.claim, self.publish]
        moves = [*likely, *likely, self.publish, self.expire, self.come_back]
        for _ in range(steps):
            self.rng.choice(moves)(self.rng.choice(list(self.workers)))

    def rest(self) -> None:
        for name in self.workers:
            while self.in_hand[name]:
                self.publish(name)
            self.come_back(name)
        while self.writer.pending():
            self.claim("w0", limit=100)
            while self.in_hand["w0"]:
                self.publish("w0")


def mixed(bench: Bench, seed: int) -> None:
    mix = Mix(bench, seed)
    mix.run()
    mix.rest()
    stored = bench.stored()
    assert stored == {key: text.encode().ljust(32) for key, text in mix.truth.items()}


@pytest.mark.parametrize("seed", range(8))
def test_any_mix_comes_to_rest_with_the_truth(bench: Bench, seed: int) -> None:
    mixed(bench, seed)


def answer_whatever_waits(self: Publisher, seqs: dict[Key, int]) -> dict[Key, list[int]]:
    """The fence taken out: entries of the key are answered whoever has claimed them."""
    sql = "SELECT seq FROM likewise.docs_log WHERE key_id = %s"
    return {key: [row[0] for row in self._db.execute(sql, (key[0],))] for key in seqs}


def test_without_the_fence_it_does_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Publisher, "_lock_mine", answer_whatever_waits)
    with pytest.raises(AssertionError):
        for seed in range(100, 130):
            mixed(bench, seed)
            bench.app("TRUNCATE likewise.docs_log, likewise.docs_row, likewise.docs_chunk")


def test_without_the_look_at_later_entries_what_is_superseded_is_published(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "_superseded", lambda self, seqs: set())
    with pytest.raises(AssertionError):
        test_the_earlier_claim_first(bench)
