"""Texts, Markdown and HTML: what is kept, what is dropped, which title."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import FileUnreadable, MissingExtra
from likewise.sources.readers import names
from likewise.sources.readers.items import Reading, ReadOptions
from likewise.sources.readers.names import EXTENSIONS, READERS, kind_of, read


def only(reading: Reading) -> dict[str, object]:
    (item,) = reading.items
    assert item.item == ""
    assert tuple(item.values) == reading.columns == ("text", "path", "name", "title", "kind")
    assert item.values["kind"] == reading.kind
    return dict(item.values)


def html(body: str) -> object:
    return only(read(body.encode(), "a.html"))["text"]


def test_a_text_is_itself() -> None:
    values = only(read(b"\n One\r\ntwo ", "notes/To do.txt"))
    assert values == {
        "text": "\n One\r\ntwo ",
        "path": "notes/To do.txt",
        "name": "To do.txt",
        "title": "To do",
        "kind": "text",
    }


@pytest.mark.parametrize(
    ("path", "text", "title"),
    [
        ("a.rst", "=====\nBig\n=====\n\ntext", "Big"),
        ("a.rst", ".. note::\n\nBig thing\n---------\n", "Big thing"),
        ("a.rst", "text\n", "a"),
        ("a.org", "#+AUTHOR: x\n#+Title: The plan\n* One", "The plan"),
        ("a.org", "* One\n", "One"),
        ("a.adoc", "= Guide\n\n== Part", "Guide"),
        ("a.py", "# not a title\n", "a"),
        (".env.md", "text", ".env"),
    ],
)
def test_titles(path: str, text: str, title: str) -> None:
    values = only(read(text.encode(), path))
    assert values["title"] == title
    assert values["text"] == text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.PY", "code"),
        ("Makefile", "code"),
        ("README", "text"),
        ("x.tar.gz", None),
        ("x.d.ts", "code"),
        ("a.HTM", "html"),
        ("a.ndjson", "jsonl"),
        ("noextension", None),
        (".hidden", None),
        ("a.py/b", None),
    ],
)
def test_names_say_the_kind(path: str, kind: str | None) -> None:
    assert kind_of(path) == kind


def test_every_extension_has_a_reader() -> None:
    assert set(EXTENSIONS.values()) == set(READERS)
    assert all(extension == extension.lower() for extension in EXTENSIONS)


def test_an_unknown_name_is_text_as_it_was_asked_for() -> None:
    assert only(read(b"hello", "a.foo"))["kind"] == "text"
    with pytest.raises(FileUnreadable, match="NUL"):
        read(b"PK\x03\x04\0\0", "a.docx")


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(FileUnreadable, match=r"a\.txt: has 11 bytes, more than the 10 that"):
        read(b"x" * 11, "a.txt", ReadOptions(max_bytes=10))
    assert read(b"x" * 10, "a.txt", ReadOptions(max_bytes=10)).items


@pytest.mark.parametrize(("package", "path"), [("bs4", "a.html"), ("pypdf", "a.pdf")])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, path: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, READERS[kind_of(path) or ""].partition(":")[0], False)
    with pytest.raises(MissingExtra, match=rf"{path}: .*pip install 'likewise\[files\]'"):
        names.read(b"", path)


MD_TITLES = [
    ("---\ntitle: One\ntags:\n- a\n---\n# Two\n", "One", "# Two\n"),
    ('---\r\ntitle: "A \\"b\\""\r\n---\r\nText', 'A "b"', "Text"),
    ("---\ntitle: 'it''s'\n...\nText", "it's", "Text"),
    ("---\ntitle: x # why\n---", "x", ""),
    ("---\ntitle: >\n  folded\n---\n# Two", "Two", "# Two"),
    ("---\nlayout: post\n---\n\nThe *way*\n===\n", "The *way*", "\nThe *way*\n===\n"),
    ('+++\ntitle = "T"\n+++\nText', "T", "Text"),
    ("+++\nnot toml\n+++\nText", "a", "+++\nnot toml\n+++\nText"),
    ("---\n\nAn intro.\n\n---\n", "a", "---\n\nAn intro.\n\n---\n"),
    ("---\ntitle: never closed\n", "a", "---\ntitle: never closed\n"),
    ("---\nnote: this\nis plain prose, really\n---\nx", "is plain prose, really", None),
    ("```\n# code\n```\n## Real ##\n", "Real", None),
    ("~~~~\n~~~\n# code\n~~~~\n# Real", "Real", None),
    ("text\n# \n#no\n# Yes", "Yes", None),
    ("- item\n---\ntext", "a", None),
    ("para\n\n---\n", "a", None),
]


@pytest.mark.parametrize(("text", "title", "body"), MD_TITLES)
def test_markdown(text: str, title: str, body: str | None) -> None:
    values = only(read(text.encode(), "a.md"))
    assert values["title"] == title
    assert values["text"] == (text if body is None else body)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")))
def test_markdown_of_any_kind_loses_nothing_but_front_matter(text: str) -> None:
    values = only(read(text.encode(), "a.md"))
    assert values["text"] == text or text.startswith(("---", "+++"))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>One <b>two</b>\n three</p><p>four", "One two three\n\nfour"),
        ("<p>a<p>b<ul><li>c<li>d</ul>", "a\n\nb\n\nc\nd"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<h1>T</h1>text<div>x<div>y</div></div>z", "T\n\ntext\nx\ny\nz"),
        ("fish &amp; chips &lt;3 &#233; &eacute; &nbsp;x", "fish & chips <3 é é \xa0x"),
        ("a<script>if (a < b) { '<p>' }</script><style>p{}</style>b", "ab"),
        ("<nav><a>Home</a></nav><main>x</main>", "x"),
        ("a<!-- no --><![CDATA[c]]>b", "acb"),
        ("<pre>a\n  b\t c\n\nd</pre>", "a\n  b\t c\n\nd"),
        (
            "<table><tr><th>a</th><th>b</th></tr><tr><td>1<td>2</table>",
            "a\tb\n1\t2",
        ),
        ("<p hidden>a<p>b", "a\n\nb"),
        ("<div hidden>a</div>b", "b"),
        ("<html><head><title>T</title><body>open head", "open head"),
        ("<b>a</b> <i>b</i>", "a b"),
        ("plain.txt", "plain.txt"),
        ("http://example.com/", "http://example.com/"),
        ("", ""),
        ("a < b & c", "a < b & c"),
        ('<?xml version="1.0"?>\n<p>x</p>', "x"),
        ("<noscript>turn it on</noscript><template>t</template>x", "x"),
    ],
)
def test_html_is_what_is_seen(body: str, text: str) -> None:
    assert html(body) == text


def test_a_deep_page_is_read() -> None:
    assert html("<div>" * 30_000 + "deep") == "deep"


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<title> The\n page </title><h1>x</h1>", "The page"),
        ("<svg><title>icon</title></svg><h2>A <b>b</b></h2>", "A b"),
        ("<title></title>text", "a"),
    ],
)
def test_html_titles(page: str, title: str) -> None:
    assert only(read(page.encode(), "a.html"))["title"] == title


@pytest.mark.parametrize(
    ("page", "encoding", "decoder"),
    [
        ('<meta charset="windows-1251"><p>Привет', "cp1251", "cp1251"),
        ('<meta http-equiv=x content="text/html; charset=iso-8859-1"><p>“ä', "cp1252", "cp1252"),
        ('<?xml version="1.0" encoding="koi8-r"?><html><p>Привет', "koi8-r", "koi8-r"),
        ('<meta charset="utf-16"><p>“ä', "utf-8", "utf-8"),
        ('<meta charset="windows-1251"><p>Привет', "utf-8-sig", "utf-8"),
        ("<p>Привет", "utf-8", "utf-8"),
    ],
)
def test_a_page_says_its_encoding(page: str, encoding: str, decoder: str) -> None:
    reading = read(page.encode(encoding), "a.html")
    assert only(reading)["text"] == page.rpartition(">")[2]
    assert (reading.decoder, reading.notes) == (decoder, ())


def test_an_unknown_encoding_of_a_page_is_noted() -> None:
    reading = read(b'<meta charset="klingon">caf\xe9', "a.html")
    assert reading.decoder == "cp1252"
    assert "klingon" in reading.notes[0]


@given(text=st.text(st.sampled_from("<>/!-[]&;pdivscrt '\"=?#x\n a")))
def test_html_of_any_kind_is_read_or_refused(text: str) -> None:
    try:
        html(text)
    except FileUnreadable:
        pass
