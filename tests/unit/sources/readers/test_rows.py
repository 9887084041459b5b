"""csv, tsv and jsonl: columns, names of rows, and what is left out and said."""

import csv
import io
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import FileUnreadable
from likewise.sources.readers.items import Reading, ReadOptions
from likewise.sources.readers.names import read

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff\ufffd"))
NAMES = st.lists(
    st.text("abcxyzäß_ 19", min_size=1).map(str.strip).filter(bool),
    min_size=1,
    max_size=4,
    unique=True,
).filter(lambda names: not {"text", "path"} & set(names))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def own(reading: Reading) -> list[dict[str, object]]:
    """Rows without what was added."""
    added = ("text", "path")
    return [
        {name: value for name, value in item.values.items() if name not in added}
        for item in reading.items
    ]


def names(data: str, keys: tuple[str, ...] = (), path: str = "a.csv") -> list[str]:
    return [item.item for item in read(data.encode(), path, ReadOptions(keys=keys)).items]


MARKS, ENDS = st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n", "\r"])


@given(data=st.data(), header=NAMES, mark=MARKS, end=ENDS)
def test_csv_is_read_as_it_was_written(
    data: st.DataObject, header: list[str], mark: str, end: str
) -> None:
    rows = data.draw(st.lists(st.lists(WORDS, min_size=len(header), max_size=len(header))))
    out = io.StringIO()
    # A field of white space alone isn't quoted by itself; a row of one such field would be blank.
    writer = csv.writer(out, delimiter=mark, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    writer.writerows(rows)
    reading = read(out.getvalue().encode(), "d/a.csv")
    assert own(reading) == [dict(zip(header, row, strict=True)) for row in rows]
    assert (reading.notes, reading.left_out, reading.incomplete) == ((), 0, False)
    assert reading.columns == (*header, "text", "path")


@given(rows=st.lists(st.dictionaries(WORDS.filter(lambda n: n not in ("text", "path")), JSON)))
def test_jsonl_is_read_as_it_was_written(rows: list[dict[str, object]]) -> None:
    data = "".join(json.dumps(row, ensure_ascii=len(row) % 2 == 0) + "\n" for row in rows)
    reading = read(data.encode(), "a.jsonl")
    assert (reading.notes, reading.left_out, reading.incomplete) == ((), 0, False)
    read_back = [
        {
            name: json.loads(str(value)) if isinstance(row[name], dict | list) else value
            for name, value in found.items()
            if name in row
        }
        for row, found in zip(rows, own(reading), strict=True)
    ]
    assert read_back == rows
    everywhere = {name for row in rows for name in row}
    assert all(set(found) == everywhere for found in own(reading))


@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"))), data=st.data())
def test_rows_without_a_key_are_a_multiset(
    rows: list[tuple[str, str]], data: st.DataObject
) -> None:
    moved = data.draw(st.permutations(rows))
    before = names("h,i\n" + "".join(f"{a},{b}\n" for a, b in rows))
    after = names("i,h\n" + "".join(f"{b},{a}\n" for a, b in moved))
    assert Counter(before) == Counter(after)
    assert len(set(before)) == len(rows)
    assert len({name.partition("-")[0] for name in before}) == len(set(rows))
    assert all(len(name.partition("-")[0]) == 32 for name in before)


def test_a_changed_row_changes_one_name() -> None:
    before = names("h\na\nb\nb\nc\n")
    assert before[1].endswith("-0") and before[2].endswith("-1")
    assert set(before) - set(names("h\na\nb\nc\n")) == {before[2]}
    assert names('{"h":"a"}\n', path="a.jsonl") == [before[0]]


def test_what_a_row_gives() -> None:
    (row,) = read(b"id,title,note\n7,One,\n", "d/a.csv").items
    assert row.values == {
        "id": "7",
        "title": "One",
        "note": "",
        "text": "id: 7\ntitle: One",
        "path": "d/a.csv",
    }
    (row,) = read(b'{"text": null, "path": "p", "n": 1, "ok": true}\n', "a.jsonl").items
    assert row.values == {"text": None, "path": "p", "n": 1, "ok": True}
    line = '{"n": 1.5, "ok": true, "no": null, "l": {"b": ["ä"], "a": 1}}\n'
    (row,) = read(line.encode(), "a.jsonl").items
    assert row.values["text"] == 'n: 1.5\nok: true\nl: {"a": 1, "b": ["ä"]}'


@pytest.mark.parametrize(
    ("header", "rest", "columns"),
    [
        ("a,b", "1;2,3;4", ("a", "b")),
        ("a;b", "1;2", ("a", "b")),
        ('"a,x";b', "1;2", ("a,x", "b")),
        ("a\tb", "1\t2", ("a", "b")),
        ("a|b", "1|2", ("a", "b")),
        ("a", "1", ("a",)),
        ("name, first;age", "x, y;3\nz;4", ("name, first", "age")),
        ('\n\n"a,\nx";b', "1;2,3\n4;5", ("a,\nx", "b")),
        ("a;b\r1;2,3,4\r", "", ("a", "b")),
        (" a , b", "1,2", ("a", "b")),
        (",b", "1,2", ("column_1", "b")),
    ],
)
def test_the_header_says_what_separates(header: str, rest: str, columns: tuple[str, ...]) -> None:
    reading = read(f"{header}\n{rest}\n".encode(), "a.csv")
    assert reading.columns == (*columns, "text", "path")
    assert bool(reading.notes) == ("column_1" in columns)


def test_a_declared_delimiter_holds_and_tsv_has_tabs() -> None:
    assert read(b"a,b:c\n1,2:3\n", "a.csv", ReadOptions(delimiter=":")).columns[0] == "a,b"
    assert read(b"a,b\tc\n1\t2\n", "a.tsv").columns[:2] == ("a,b", "c")


def test_a_mark_quotes_newlines_and_a_huge_field() -> None:
    huge = "x" * 400_000
    data = f'\ufeffid,body\r\n1,"a ""b"",\r\nc"\r\n\r\n2,{huge}\r\n'
    reading = read(data.encode(), "a.csv")
    assert own(reading) == [{"id": "1", "body": 'a "b",\r\nc'}, {"id": "2", "body": huge}]
    assert read(data[1:].encode("utf-16"), "a.csv").items == reading.items


def test_ragged_rows_are_left_out_and_said() -> None:
    reading = read(b'a,b\n1,2\n3\n"x\ny",4,5\n6,7\n', "a.csv")
    assert own(reading) == [{"a": "1", "b": "2"}, {"a": "6", "b": "7"}]
    assert (reading.left_out, reading.incomplete) == (2, False)
    assert reading.notes == (
        "line 3 is left out: 1 fields where the header has 2",
        "line 4 is left out: 3 fields where the header has 2",
    )


def test_a_last_row_that_is_too_short_and_has_no_line_end_is_incomplete() -> None:
    reading = read(b"a,b\n1,2\n3", "a.csv")
    assert (len(reading.items), reading.left_out, reading.incomplete) == (1, 1, True)
    whole = read(b"a,b\n1,2\n3,4", "a.csv")
    assert (len(whole.items), whole.left_out, whole.incomplete) == (2, 0, False)


def test_a_quote_that_is_not_closed_is_incomplete() -> None:
    reading = read(b'a,b\n1,2\n3,"x\n4,5\n', "a.csv")
    assert own(reading) == [{"a": "1", "b": "2"}]
    assert (reading.left_out, reading.incomplete) == (1, True)
    assert reading.notes == (
        "line 3 is left out: a quote is opened and not closed, to the end of the file",
    )


def test_a_quote_within_a_field_costs_its_row_only() -> None:
    reading = read(b'a,b\n"x"y,1\n2,3\n', "a.csv")
    assert own(reading) == [{"a": "2", "b": "3"}]
    assert reading.notes[0].startswith("line 2 is left out: ")
    assert not reading.incomplete


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no header row: it is empty"),
        (b"\n\n", "has no header row"),
        (b"a,b,a\n1,2,3\n", "has the column 'a' more than once"),
        (b"a, a\n1,2\n", "has the column 'a' more than once"),
        (b'"a\n1,2\n', "has a header that can't be read"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        read(data, "a.csv")


def test_declared_keys_name_rows_without_doubt() -> None:
    keys = ("a", "b")
    assert names("a,b\nx,y\n", keys) == ['["x","y"]']
    assert len(set(names('a,b\n"x"",""y",z\nx,"y"",""z"\n', keys))) == 2
    assert names('{"a":1,"b":"ü"}\n{"a":"1","b":"ü"}\n', keys, "a.jsonl") == [
        '[1,"ü"]',
        '["1","ü"]',
    ]


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("a.csv", "id,t\n1,a\n2,b\n1,c\n", r"lines with the same key: 2 and 4 \(\[\"1\"\]\)"),
        ("a.csv", "id,t\n1,a\n,b\n", "lines without a value in a key column: 3"),
        ("a.csv", "ix,t\n1,a\n", "has no column 'id' to name its rows by"),
        (
            "a.jsonl",
            '{"id":1}\n{"id":null}\n{"x":1}\n',
            "lines without a value in a key column: 2, 3",
        ),
        ("a.jsonl", '{"id":1}\n\n{"id":1}\n', r"lines with the same key: 1 and 3 \(\[1\]\)"),
        ("a.jsonl", '{"x":1}\n', "has no column 'id'"),
    ],
)
def test_keys_that_name_nothing_or_two_are_refused(path: str, data: str, reason: str) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        names(data, ("id",), path)


def test_too_many_rows_are_refused() -> None:
    few = ReadOptions(max_rows=2)
    for path, data in (("a.csv", b"a\n1\n2\n3\n"), ("a.jsonl", b'{"a":1}\n{"a":2}\n{"a":3}\n')):
        with pytest.raises(FileUnreadable, match="more than 2 rows"):
            read(data, path, few)
    assert len(read(b"a\n1\n2\n", "a.csv", few).items) == 2


BAD_LINES = [
    ("{", "Expecting property name"),
    ("[1]", r"it is list \[1\], not an object"),
    ('"x"', 'it is str "x", not an object'),
    ('{"a":1,"a":2}', "it has a name twice"),
    ('{"a":NaN}', "NaN isn't JSON"),
    ('{"a":"\\ud800"}', "half of a surrogate pair"),
    ('{"a":' + "[" * 100_000, "recursion"),
    ('{"a":' + "9" * 5000 + "}", "integer string conversion"),
]


@pytest.mark.parametrize(("line", "why"), BAD_LINES, ids=[why for _, why in BAD_LINES])
def test_a_bad_line_is_left_out_with_its_number(line: str, why: str) -> None:
    reading = read(f'{{"a":1}}\n\n{line}\n{{"a":2}}\n'.encode(), "a.jsonl")
    assert own(reading) == [{"a": 1}, {"a": 2}]
    assert (reading.left_out, reading.incomplete) == (1, False)
    with pytest.raises(AssertionError, match=f"line 3 is left out: .*{why}"):
        raise AssertionError(reading.notes[0])


LINES = ['{"a": "Zürich"}', '{"a": "🎈", "b": [1, 2]}']


@pytest.mark.parametrize("cut", range(1, len(LINES[1].encode())))
def test_a_half_written_last_line_is_waited_for(cut: int) -> None:
    data = LINES[0].encode() + b"\n" + LINES[1].encode()[:cut]
    reading = read(data, "a.jsonl")
    assert own(reading) == [{"a": "Zürich"}]
    assert (reading.incomplete, reading.decoder) == (True, "utf-8")


def test_a_last_line_that_is_whole_needs_no_line_end() -> None:
    reading = read("\n".join(LINES).encode(), "a.jsonl")
    assert (len(reading.items), reading.incomplete, reading.notes) == (2, False, ())
    assert read(b"", "a.jsonl").items == ()


def test_only_lf_ends_a_line() -> None:
    reading = read('{"a":"x\u2028y\x85z"}\r\n{"a":"1"}\r\n'.encode(), "a.jsonl")
    assert own(reading) == [{"a": "x\u2028y\x85z"}, {"a": "1"}]


def test_large_numbers_keep_their_digits() -> None:
    reading = read(b'{"a":123456789012345678901234567890}\n', "a.jsonl")
    assert own(reading) == [{"a": 123456789012345678901234567890}]


def test_only_so_many_notes_are_kept_and_the_others_counted() -> None:
    reading = read(b"x\n" * 50, "a.jsonl")
    assert (reading.left_out, len(reading.notes)) == (50, 21)
    assert reading.notes[-1] == "and 30 more of this kind"
