"""Parquet: types as columns, names of rows, files that can't be read."""

import datetime
import decimal
import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.base.errors import FileUnreadable, MissingExtra
from likewise.sources.readers.items import ReadOptions
from likewise.sources.readers.names import READERS, read


def parquet(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_values_are_what_a_template_can_show() -> None:
    noon = datetime.datetime(2024, 2, 3, 12, 30, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "n": pa.array([1, None], pa.int32()),
            "f": pa.array([1.5, None]),
            "ok": pa.array([True, None]),
            "s": pa.array(["ä", None], pa.large_string()),
            "b": pa.array([b"\xff", None]),
            "d": pa.array([datetime.date(2024, 2, 3), None]),
            "ns": pa.array([1, None], pa.timestamp("ns")),
            "z": pa.array([noon, None], pa.timestamp("ms", tz="Europe/Berlin")),
            "dec": pa.array([decimal.Decimal("1.50"), None]),
            "dur": pa.array([5, None], pa.duration("ns")),
            "l": pa.array([[1, None], None]),
            "st": pa.array([{"b": ["x"], "a": decimal.Decimal("1.0"), "t": noon}, None]),
            "m": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "c": pa.array(["x", None]).dictionary_encode(),
        }
    )
    reading = read(parquet(table), "d/a.parquet")
    first, second = ({**item.values} for item in reading.items)
    assert str(first.pop("text")).startswith(
        "n: 1\nf: 1.5\nok: true\ns: ä\nb: \ufffd\nd: 2024-02-03"
    )
    assert first == {
        "n": 1,
        "f": 1.5,
        "ok": True,
        "s": "ä",
        "b": b"\xff",
        "d": "2024-02-03",
        "ns": "1970-01-01T00:00:00.000000001",
        "z": "2024-02-03T12:30:00.000Z",
        "dec": "1.50",
        "dur": 5,
        "l": "[1, null]",
        "st": '{"a": "1.0", "b": ["x"], "t": "2024-02-03T12:30:00+00:00"}',
        "m": '[["k", 1]]',
        "c": "x",
        "path": "d/a.parquet",
    }
    assert second == {**dict.fromkeys(first), "text": "", "path": "d/a.parquet"}
    assert reading.columns == (*table.schema.names, "text", "path")


def test_rows_of_several_batches_keep_their_order_and_names() -> None:
    table = pa.table({"id": range(5000), "t": [f"row {at % 7}" for at in range(5000)]})
    data = parquet(table, row_group_size=700)
    keyed = read(data, "a.pq", ReadOptions(keys=("id",)))
    assert [item.item for item in keyed.items] == [f"[{at}]" for at in range(5000)]
    plain = read(data, "a.pq")
    again = read(parquet(table.take(list(reversed(range(5000))))), "a.pq")
    assert {item.item for item in plain.items} == {item.item for item in again.items}
    assert len({item.item for item in plain.items}) == 5000


def test_keys_are_checked() -> None:
    data = parquet(pa.table({"id": [1, 2, 2, None], "f": [1.0, 2.0, float("nan"), 3.0]}))
    with pytest.raises(FileUnreadable, match="rows without a value in a key column: 4"):
        read(data, "a.parquet", ReadOptions(keys=("id",)))
    with pytest.raises(FileUnreadable, match="rows without a value in a key column: 3"):
        read(data, "a.parquet", ReadOptions(keys=("f",)))
    twice = parquet(pa.table({"id": [1, 2, 2]}))
    with pytest.raises(FileUnreadable, match=r"rows with the same key: 2 and 3 \(\[2\]\)"):
        read(twice, "a.parquet", ReadOptions(keys=("id",)))
    with pytest.raises(FileUnreadable, match="has no column 'no'"):
        read(parquet(pa.table({"id": []})), "a.parquet", ReadOptions(keys=("no",)))


def test_damaged_files_are_refused() -> None:
    data = parquet(pa.table({"id": range(1000), "t": ["x"] * 1000}))
    overwritten = data[:4] + b"\xff" * 60 + data[64:]
    for broken in (b"", b"PAR1", data[:-1], data[: len(data) // 2], overwritten):
        with pytest.raises(FileUnreadable, match=r"a\.parquet: can't be read as Parquet"):
            read(broken, "a.parquet")
    with pytest.raises(FileUnreadable, match="the column 'a' more than once"):
        read(parquet(pa.table([[1], [2]], names=["a", "a"])), "a.parquet")


def test_what_unpacks_to_far_more_than_the_file_is_refused() -> None:
    few = ReadOptions(max_bytes=100_000)
    plain = pa.array(["x" * 1000] * 20_000)
    for column in (plain, plain.dictionary_encode()):
        data = parquet(pa.table({"t": column}))
        assert len(data) < few.max_bytes
        with pytest.raises(FileUnreadable, match="unpacks to more than 1,600,000 bytes"):
            read(data, "a.parquet", few)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, READERS["parquet"].partition(":")[0], False)
    with pytest.raises(MissingExtra, match=r"a\.parquet: .*pip install 'likewise\[files\]'"):
        read(b"", "a.parquet")
