"""Marks: over any history of writes, what is taken for unchanged is unchanged."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from likewise.sources.marks import (
    UNKNOWN_GRANULARITY_NS,
    Mark,
    decode,
    encode,
    mark_of,
    unchanged,
)
from likewise.sources.stats import Stat

SECOND = 10**9
INTS = st.integers(-(2**63), 2**63 - 1)
MARKS = st.builds(
    Mark,
    size=st.integers(0, 2**64 - 1),
    mtime_ns=INTS,
    ctime_ns=INTS,
    ino=st.integers(0, 2**64 - 1),
    sha256=st.binary(min_size=32, max_size=32),
    is_racy=st.booleans(),
)


@given(mark=MARKS)
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    data = encode(mark)
    assert len(data) == 66
    assert decode(data) == mark


@given(data=st.binary(max_size=70))
@example(data=b"")
@example(data=b"\x02" + bytes(65))
@example(data=b"\x01\x04" + bytes(64))
def test_what_another_wrote_is_no_mark(data: bytes) -> None:
    mark = decode(data)
    assert mark is None or encode(mark) == data


def test_the_layout_is_that_of_the_page() -> None:
    mark = Mark(5, 1, 2, 3, b"h" * 32, True)
    words = (5, 1, 2, 3)
    assert (
        encode(mark) == b"\x01\x01" + b"".join(w.to_bytes(8, "little") for w in words) + b"h" * 32
    )


def test_young_times_prove_nothing_and_old_ones_do() -> None:
    stat = Stat(3, 10 * SECOND, 10 * SECOND, 7, 1)
    at = 10 * SECOND + UNKNOWN_GRANULARITY_NS
    assert mark_of(stat, bytes(32), at).is_racy
    mark = mark_of(stat, bytes(32), at + 1)
    assert not mark.is_racy
    assert unchanged(mark, stat, at + 1)
    assert not unchanged(replace(mark, is_racy=True), stat, at + 1)
    for other in (
        replace(stat, size=4),
        replace(stat, mtime_ns=0),
        replace(stat, ctime_ns=stat.ctime_ns + 1),
        replace(stat, ino=8),
    ):
        assert not unchanged(mark, other, at + 1)
    assert unchanged(mark, replace(stat, dev=2), at + 1)
    # The clock was set back to before the file was written.
    assert not unchanged(mark, stat, 10 * SECOND - 1)


@dataclass
class File:
    """One path of a file system whose clock ticks every `tick`."""

    tick: int
    now: int = 1000 * SECOND
    content: bytes = b"0"
    mtime: int = 0
    ctime: int = 0
    ino: int = 1
    scans: list[bool] = field(default_factory=list)
    mark: Mark | None = None

    def stamp(self) -> int:
        return self.now // self.tick * self.tick

    def stat(self) -> Stat:
        return Stat(len(self.content), self.mtime, self.ctime, self.ino, 1)

    def write(self, content: int, *, keeps_mtime: bool = False) -> None:
        self.content = str(content).encode()
        self.ctime = self.stamp()
        if not keeps_mtime:
            self.mtime = self.stamp()

    def replace(self, content: int, ino: int) -> None:
        """Rename another file over it: its times may be old, but renaming sets ctime."""
        self.content, self.ino, self.ctime = str(content).encode(), ino, self.stamp()

    def scan(self, granularity: int, steps: tuple[tuple[int, int], ...]) -> None:
        """Look, and read if in doubt; `steps` (pause, content) are writes while it is read."""
        started = self.now
        before = self.stat()
        if self.mark is not None and unchanged(self.mark, before, started):
            assert self.mark.sha256 == hashlib.sha256(self.content).digest()
            self.scans.append(True)
            return
        read = self.content
        for pause, content in steps:
            self.now += pause
            self.write(content)
        self.scans.append(False)
        if self.stat() == before:  # Else the read is torn, and the file waits for the next scan.
            self.mark = mark_of(before, hashlib.sha256(read).digest(), started, granularity)


TICKS = [1, 10_000_000, SECOND, 2 * SECOND]
PAUSES = st.sampled_from([0, 1, 5_000_000, SECOND // 2, SECOND, 2 * SECOND, 5 * SECOND])
CONTENTS = st.integers(0, 3)
STEPS = st.lists(st.tuples(PAUSES, CONTENTS), max_size=2).map(tuple)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), PAUSES, CONTENTS, st.booleans()),
    st.tuples(st.just("replace"), PAUSES, CONTENTS, st.integers(1, 2)),
    st.tuples(st.just("scan"), PAUSES, STEPS, st.none()),
)


@settings(max_examples=500)
@given(
    tick=st.sampled_from(TICKS),
    is_measured=st.booleans(),
    actions=st.lists(ACTIONS, min_size=3, max_size=25),
)
@example(
    tick=2 * SECOND,
    is_measured=True,
    actions=[
        ("write", 0, 1, False),
        ("scan", 0, (), None),
        ("write", 1, 2, False),
        ("scan", SECOND, (), None),
    ],
)
@example(  # Two writes in one tick, whose program set mtime back each time.
    tick=2 * SECOND,
    is_measured=True,
    actions=[
        ("write", 5 * SECOND, 1, True),
        ("scan", 0, (), None),
        ("write", 1, 2, True),
        ("scan", SECOND, (), None),
    ],
)
@example(  # A write of the same size while the file is read, in one tick.
    tick=SECOND,
    is_measured=True,
    actions=[
        ("write", 0, 1, False),
        ("scan", SECOND // 2, ((1, 2),), None),
        ("scan", SECOND, (), None),
    ],
)
def test_no_change_is_taken_for_none(
    tick: int, is_measured: bool, actions: list[tuple[Any, ...]]
) -> None:
    granularity = tick if is_measured else UNKNOWN_GRANULARITY_NS
    file = File(tick)
    for name, pause, what, how in actions:
        file.now += pause
        if name == "write":
            file.write(what, keeps_mtime=how)
        elif name == "replace":
            file.replace(what, how)
        else:
            file.scan(granularity, what)
    # Left alone for longer than a tick, it's read once more at most, and never again.
    for _ in range(3):
        file.now += 3 * SECOND
        file.scan(granularity, ())
    assert file.scans[-1]
    assert file.scans[-2]
    assert file.mark is not None
    assert file.mark.sha256 == hashlib.sha256(file.content).digest()
