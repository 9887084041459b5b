"""Every store keeps the same promises; the one in memory is the oracle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest

from likewise.base.bound import BoundTable
from likewise.base.errors import LeaseLost, NotFinite, SpaceMismatch
from likewise.base.spec import BindingSpec
from likewise.base.types import (
    Action,
    Applied,
    Captured,
    Change,
    Chunk,
    Delete,
    Difference,
    Keep,
    Key,
    Park,
    Put,
    passage_hash,
)
from likewise.binding.plan import newest
from likewise.server import databases
from likewise.stores.duckdb import DuckdbTable
from likewise.stores.memory import MemoryTable
from tests.binding_kit import DOCS, SPACE, App, Bound, fake_vector, table_of
from tests.postgres_kit import PgApp

A: Key = (1,)
B: Key = (2,)
ONE, TWO = b"1" * 32, b"2" * 32


@dataclass
class Harness:
    """A store, a second handle on it as another worker has, and its log."""

    table: BoundTable
    other: BoundTable
    log: Callable[[Key], int]
    """Logs a change, claims it, and gives the number to publish under."""
    now: list[float]
    has_many: bool = False
    """Whether several workers publish at a time, each what it has claimed. Then a publication whose
    entries are gone is superseded, where otherwise it is repeated."""

    def waiting(self) -> set[Key]:
        return self.table.pending()

    def held(self) -> dict[tuple[Key, int], list[float]]:
        return {
            (key, chunk.ordinal): vector.tolist()
            for block in self.table.scan()
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
        }


def one_lease(store: Harness) -> None:
    if store.has_many:
        pytest.skip("several workers may publish")


def postgres_store(address: str) -> Iterator[Harness]:
    app = PgApp(address, "CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
    spec = BindingSpec("docs", address, "docs", "{title}|{body}")
    record = databases.create(spec, SPACE)
    with databases.bindings_of(address) as bindings:
        tables = [bindings.table(record) for _ in range(2)]

    # What a worker that isn't alive has claimed is free.
    app("INSERT INTO likewise.worker VALUES ('docs', 1, %s, 'infinity')", [vars(tables[0])["_me"]])

    def log(key: Key) -> int:
        tables[0].enqueue([key])
        return tables[0].claim(0, limit=100)[-1].seq

    yield Harness(tables[0], tables[1], log, [0.0], has_many=True)
    for each in tables:
        each.close()
    app.close()


def duckdb_store(folder: Path, now: list[float]) -> Iterator[Harness]:
    path = folder / "app.duckdb"
    with contextlib.closing(duckdb.connect(str(path))) as app:
        app.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    spec = BindingSpec("docs", f"duckdb:{path}", "docs", "{title}|{body}")
    record = databases.create(spec, SPACE)
    tables = [DuckdbTable(record, path, clock=lambda: now[0]) for _ in range(2)]

    def log(key: Key) -> int:
        tables[0].enqueue([key])
        return tables[0].tail()

    yield Harness(tables[0], tables[1], log, now)
    for each in tables:
        each.close()


@pytest.fixture(params=["memory", "sqlite-wal", "sqlite-delete", "postgres", "duckdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    now = [1000.0]
    if request.param == "memory":
        table = MemoryTable(SPACE, clock=lambda: now[0])
        yield Harness(table, table.another(), table.log.append, now)
        return
    if request.param == "postgres":
        yield from postgres_store(request.getfixturevalue("database"))
        return
    if request.param == "duckdb":
        yield from duckdb_store(tmp_path, now)
        return
    app = App(tmp_path / "app.db", request.param.partition("-")[2], DOCS)
    bound = Bound(app)
    tables = [table_of(app.path, clock=lambda: now[0]) for _ in range(2)]

    def log(key: Key) -> int:
        app("INSERT INTO likewise_docs_log (key_id, op) VALUES (?, 'upsert')", key)
        return app.db.last_insert_rowid()

    yield Harness(tables[0], tables[1], log, now)
    for each in tables:
        each.close()
    bound.close()
    app.close()


def put(key: Key, seq: int, *texts: str, fingerprint: bytes = ONE) -> Put:
    chunks = tuple(Chunk(at, 10 * at, 10 * at + 5) for at in range(len(texts)))
    vectors = np.array([fake_vector(text) for text in texts], np.float32).reshape(-1, 8)
    return Put(key, seq, fingerprint, chunks, vectors, texts)


def test_what_has_come_since_is_answered_with_what_was_claimed(store: Harness) -> None:
    store.table.enqueue([A, B, A])
    store.table.enqueue([A])
    claimed = newest(store.table.claim(0, limit=1))
    assert set(claimed) == {A}
    seqs = store.table.gather(claimed)
    assert set(seqs) == {A}
    assert store.table.apply([put(A, seqs[A], "x")], cursor=seqs[A]) == Applied(put=1)
    assert store.waiting() == {B}
    # What comes after isn't.
    claimed = store.table.gather(newest(store.table.claim(0, limit=1)))
    store.log(B)
    assert store.table.apply([put(B, claimed[B], "y")], cursor=claimed[B]) == Applied(superseded=1)
    assert store.waiting() == {B}


def test_a_put_is_read_back_and_answers_the_log(store: Harness) -> None:
    store.log(A)
    seq = store.log(A)
    later = store.log(B)
    assert store.table.apply([put(A, seq, "x", "y")], cursor=seq) == Applied(put=1)
    assert store.waiting() == {B}
    assert store.table.fingerprints() == {A: ONE}
    assert store.table.fingerprints([B, A]) == {A: ONE}
    assert store.held() == {(A, 0): fake_vector("x").tolist(), (A, 1): fake_vector("y").tolist()}
    block = next(iter(store.table.scan()))
    assert block.chunks == (Chunk(0, 0, 5), Chunk(1, 10, 15))
    assert block.vectors.dtype == np.float32
    assert store.table.apply([put(B, later)], cursor=later) == Applied(put=1)
    assert store.table.fingerprints()[B] == ONE
    assert store.waiting() == set()


def test_a_put_replaces_all_chunks(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x", "y", "z")], cursor=1)
    store.table.apply([put(A, store.log(A), "w", fingerprint=TWO)], cursor=2)
    assert store.held() == {(A, 0): fake_vector("w").tolist()}
    assert store.table.fingerprints() == {A: TWO}
    store.table.apply([put(A, store.log(A))], cursor=3)
    assert store.held() == {}
    assert A in store.table.fingerprints()


def test_a_delete_leaves_nothing_and_may_come_twice(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x")], cursor=1)
    for _ in range(2):
        assert store.table.apply([Delete(A, store.log(A))], cursor=2) == Applied(deleted=1)
    assert store.held() == {}
    assert store.table.fingerprints() == {}
    assert store.waiting() == set()


def test_nothing_is_published_against_a_newer_entry(store: Harness) -> None:
    old = store.log(A)
    new = store.log(A)
    late: list[Action] = [put(A, old, "x"), Delete(A, old), Park(A, old, ONE, "why")]
    for action in late:
        assert store.table.apply([action], cursor=old) == Applied(superseded=1)
        assert store.held() == {}
        assert store.waiting() == {A}
    assert store.table.apply([put(A, new, "y")], cursor=new) == Applied(put=1)
    assert store.waiting() == set()


def test_a_late_result_never_replaces_a_newer_one(store: Harness) -> None:
    old, new = store.log(A), store.log(A)
    store.table.apply([put(A, new, "new")], cursor=new)
    assert store.table.apply([put(A, old, "old")], cursor=new) == Applied(superseded=1)
    assert store.held() == {(A, 0): fake_vector("new").tolist()}


def test_keep_answers_the_log_only_while_it_is_true(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x")], cursor=1)
    version = store.table.published(0).version
    assert store.table.apply([Keep(A, store.log(A), ONE)], cursor=2) == Applied(kept=1)
    assert store.waiting() == set()
    assert store.table.published(version).keys == ()
    for wrong in [Keep(A, store.log(A), TWO), Keep(B, store.log(B), ONE)]:
        assert store.table.apply([wrong], cursor=3) == Applied(superseded=1)
        assert wrong.key in store.waiting()


def test_parked_rows_keep_their_error_and_can_be_tried_again(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x")], cursor=1)
    park = Park(A, store.log(A), TWO, "invalid_input: no")
    assert store.table.apply([park], cursor=2) == Applied(parked=1)
    assert store.held() == {}
    assert store.table.fingerprints() == {A: TWO}
    (parked,) = store.table.parked()
    assert (parked.key, parked.error, parked.attempts) == (A, "invalid_input: no", 1)
    assert store.table.retry_parked() == 1
    assert store.waiting() == {A}
    assert store.table.fingerprints()[A] != TWO
    store.table.apply([Park(A, store.log(A), TWO, "again")], cursor=3)
    assert store.table.parked()[0].attempts == 2
    store.table.apply([put(A, store.log(A), "x")], cursor=4)
    assert store.table.parked() == []


def test_vectors_of_another_width_or_not_finite_change_nothing(store: Harness) -> None:
    seq = store.log(A)
    wide = Put(A, seq, ONE, (Chunk(0, 0, 1),), np.zeros((1, 9), np.float32), ("x",))
    few = Put(
        A, seq, ONE, (Chunk(0, 0, 1), Chunk(1, 1, 2)), np.zeros((1, 8), np.float32), ("x", "y")
    )
    for wrong in [wide, few]:
        with pytest.raises(SpaceMismatch):
            store.table.apply([put(B, store.log(B), "x"), wrong], cursor=seq)
    infinite = Put(A, seq, ONE, (Chunk(0, 0, 1),), np.full((1, 8), np.inf, np.float32), ("x",))
    with pytest.raises(NotFinite):
        store.table.apply([infinite], cursor=seq)
    assert store.held() == {}
    assert store.waiting() == {A, B}


def test_the_feed_tells_what_was_published(store: Harness) -> None:
    first = store.table.published(-1)
    assert first.reset
    assert store.table.published(first.version).keys == ()
    store.table.apply([put(A, store.log(A), "x"), put(B, store.log(B), "y")], cursor=2)
    feed = store.table.published(first.version)
    assert feed.keys == (A, B)
    assert not feed.reset
    part = store.table.published(first.version, limit=1)
    assert part.keys == (A,)
    assert store.table.published(part.version).keys == (B,)
    store.table.apply([Delete(A, store.log(A))], cursor=3)
    assert store.table.published(feed.version).keys == (A,)
    assert store.table.published(feed.version + 1000).reset


def test_one_worker_at_a_time(store: Harness) -> None:
    one_lease(store)
    mine, theirs = store.table, store.other

    def alive(holder: str) -> bool:
        return False

    assert mine.take_lease("me", seconds=30, is_dead=alive)
    assert mine.take_lease("me", seconds=30, is_dead=alive)
    assert not theirs.take_lease("them", seconds=30, is_dead=alive)
    with pytest.raises(LeaseLost):
        theirs.apply([put(A, store.log(A), "x")], cursor=1)
    assert mine.counts().holder == "me"
    mine.release_lease()
    assert theirs.take_lease("them", seconds=30, is_dead=alive)
    theirs.release_lease()
    assert mine.counts().holder is None


def test_a_lease_runs_out_and_its_holder_publishes_nothing_more(store: Harness) -> None:
    one_lease(store)
    seq = store.log(A)
    assert store.table.take_lease("me", seconds=30, is_dead=lambda holder: False)
    store.now[0] += 29
    store.table.renew_lease()
    store.now[0] += 29
    assert not store.other.take_lease("them", seconds=30, is_dead=lambda holder: False)
    store.now[0] += 2
    assert store.other.take_lease("them", seconds=30, is_dead=lambda holder: False)
    with pytest.raises(LeaseLost):
        store.table.renew_lease()
    with pytest.raises(LeaseLost):
        store.table.apply([put(A, seq)], cursor=1)
    store.other.release_lease()
    with pytest.raises(LeaseLost):
        store.table.apply([put(A, seq)], cursor=1)
    assert store.table.fingerprints() == {}
    assert store.waiting() == {A}


def test_a_dead_holder_is_followed_at_once(store: Harness) -> None:
    assert store.table.take_lease("me", seconds=30, is_dead=lambda holder: False)
    assert store.other.take_lease("them", seconds=30, is_dead=lambda holder: holder == "me")


def test_publishing_prolongs_the_lease(store: Harness) -> None:
    one_lease(store)
    assert store.table.take_lease("me", seconds=30, is_dead=lambda holder: False)
    store.now[0] += 29
    store.table.apply([put(A, store.log(A), "x")], cursor=1)
    store.now[0] += 29
    assert not store.other.take_lease("them", seconds=30, is_dead=lambda holder: False)


def test_counts(store: Harness) -> None:
    seq = store.log(A)
    store.table.apply([put(A, seq, "x", "y"), Park(B, store.log(B), ONE, "why")], cursor=2)
    store.log(A)
    store.log(A)
    counts = store.table.counts()
    assert (counts.stored, counts.parked, counts.chunks, counts.waiting) == (1, 1, 2, 1)
    assert counts.published == 1
    assert counts.oldest is not None
    assert store.table.has_work()


def test_a_comparison_is_asked_for_until_it_is_done(store: Harness) -> None:
    number = store.table.reconcile_wanted()
    assert number is not None
    assert store.table.has_work()
    store.table.reconcile_done(number - 1)
    assert store.table.reconcile_wanted() == number
    store.table.reconcile_done(number)
    assert store.table.reconcile_wanted() is None
    assert not store.table.has_work()


def test_what_is_forgotten_is_of_no_text(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x")], cursor=1)
    store.table.forget([A, B])
    assert store.table.fingerprints()[A] not in {ONE, TWO}


def test_errors_are_kept_for_the_status(store: Harness) -> None:
    store.table.note_error("database_full: no")
    assert store.table.counts().error == "database_full: no"
    store.table.note_error(None)
    assert store.table.counts().error is None


def test_scan_in_blocks_and_by_key(store: Harness) -> None:
    store.table.apply([put((i,), store.log((i,)), f"{i}", f"-{i}") for i in range(10)], cursor=10)
    blocks = list(store.table.scan(3))
    assert [key for block in blocks for key in block.keys] == [(i // 2,) for i in range(20)]
    assert all(len(block.keys) <= 3 for block in blocks)
    some = [key for block in store.table.scan(keys=[(7,), (99,), (3,)]) for key in block.keys]
    assert sorted(some) == [(3,), (3,), (7,), (7,)]
    assert list(store.table.scan(keys=[])) == []


def test_passages_are_found_by_their_text(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x", "y"), put(B, store.log(B), "x")], cursor=2)
    hashes = [passage_hash(text) for text in ("y", "x", "z")]
    known = store.table.known(hashes)
    assert {digest: vector.tolist() for digest, vector in known.items()} == {
        hashes[0]: fake_vector("y").tolist(),
        hashes[1]: fake_vector("x").tolist(),
    }
    store.table.forget([A])
    assert set(store.table.known(hashes)) == {hashes[1]}
    store.table.apply([Delete(B, store.log(B))], cursor=3)
    assert store.table.known(hashes) == {}


def test_what_was_seen_is_remembered_with_what_is_logged(store: Harness) -> None:
    noted = store.table.note([Difference("a", b"1", (A,)), Difference("b", b"2", (B,))])
    assert noted == 2
    assert store.table.marks() == {"a": b"1", "b": b"2"}
    assert store.waiting() == {A, B}
    store.table.note([Difference("a", None, ()), Difference("b", b"3", ())])
    assert store.table.marks() == {"b": b"3"}
    assert store.table.marks(["a", "b"]) == {"b": b"3"}
    assert store.table.marks([]) == {}


def test_a_sources_changes_are_taken_over(store: Harness) -> None:
    number = store.table.reconcile_wanted()
    assert number is not None
    store.table.reconcile_done(number)
    store.table.relay(Captured((Change(7, A, "upsert", 5.0),), "p0", "p1"))
    assert store.waiting() == {A}
    # Postgres tells it by the clock of whoever asks.
    assert store.table.counts().oldest == pytest.approx(5.0, abs=1.0)
    assert store.table.reconcile_wanted() is None
    store.table.relay(Captured((Change(8, (), "all", 6.0),), "p1", "p2"))
    number = store.table.reconcile_wanted()
    assert number is not None
    store.table.reconcile_done(number)
    store.table.relay(Captured((), "p2", "p2"))
    assert store.table.reconcile_wanted() is None
    store.table.relay(Captured((), "p1", "p1"))  # an older state was put back
    assert store.table.reconcile_wanted() is not None
    store.table.relay(Captured())
    assert store.waiting() == {A}


def test_keys_below_a_first_part(store: Harness) -> None:
    store.table.apply([put(A, store.log(A), "x"), put(B, store.log(B), "y")], cursor=2)
    assert store.table.under(1) == {A: ONE}
    assert store.table.under(9) == {}


def test_the_tail_of_the_log(store: Harness) -> None:
    assert store.table.tail() == 0
    seq = store.log(A)
    tail = store.table.tail()
    assert not store.table.is_past(tail)
    assert store.table.is_past(tail - 1)
    store.table.apply([put(A, seq, "x")], cursor=seq)
    store.log(B)
    assert store.table.is_past(tail)


def test_small_things_are_kept(store: Harness) -> None:
    assert not store.table.is_paused()
    assert not store.table.allows_deletes()
    store.table.allow_deletes(True)
    assert store.table.allows_deletes()
    assert store.table.canary() is None
    store.table.keep_canary(fake_vector("canary"))
    store.table.keep_canary(fake_vector("another"))
    kept = store.table.canary()
    assert kept is not None
    assert kept.tolist() == fake_vector("canary").tolist()
