"""Patterns: names at any depth, paths from the root, folders with all that is in them."""

import pytest

from likewise.base.errors import SettingsError
from likewise.sources.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*.md", ["a.md", "x/y/a.md", "A.MD", ".md"], ["a.mdx", "a.md/x.png", "md"]),
        ("notes/*.md", ["notes/a.md"], ["notes/x/a.md", "x/notes/a.md", "a.md"]),
        ("/a.md", ["a.md"], ["x/a.md"]),
        ("./x/a.md", ["x/a.md"], ["y/x/a.md"]),
        ("notes/**/*.md", ["notes/a.md", "notes/x/y/a.md"], ["x/notes/a.md"]),
        ("**/b/*.md", ["b/a.md", "x/b/a.md", "x/y/b/a.md"], ["b/c/a.md"]),
        ("drafts/", ["drafts", "drafts/a", "x/drafts/b/c"], ["drafts2/a", "mydrafts/a"]),
        ("drafts/**", ["drafts", "drafts/a/b"], ["x/drafts/a", "drafts2/a"]),
        ("drafts", ["drafts", "x/drafts/a"], ["drafts.md"]),
        ("x/drafts", ["x/drafts/a"], ["y/x/drafts/a", "drafts/a"]),
        ("a?.txt", ["ab.txt", "aé.txt"], ["a.txt", "a/.txt", "abc.txt"]),
        ("[a-c]x[!0-9].txt", ["bxy.txt"], ["dxy.txt", "bx1.txt", "bx/.txt"]),
        ("[]x].txt", ["].txt", "x.txt"], ["[].txt"]),
        ("[z-a].txt", ["[z-a].txt"], ["z.txt"]),
        ("a[b.txt", ["a[b.txt"], ["ab.txt"]),
        ("a+(b)|c.txt", ["a+(b)|c.txt"], ["a", "c.txt"]),
        ("e\u0301*.txt", ["\xe9t.txt"], ["e.txt"]),
        ("**", ["a", "a/b/c.txt"], []),
        ("/**", ["a", "a/b/c.txt"], []),
        ("*", ["a", "a/b/c.txt"], []),
        ("x/*", ["x/a"], ["x/a/b"]),
        ("new\nline.txt", ["new\nline.txt"], []),
    ],
)
def test_patterns(pattern: str, matches: list[str], others: list[str]) -> None:
    match = matcher([pattern])
    assert [path for path in matches if not match(path)] == []
    assert [path for path in others if match(path)] == []


def test_any_of_several() -> None:
    match = matcher(["*.md", "x/*.txt"])
    assert match("b/a.md") and match("x/a.txt") and not match("a.txt")
    assert not matcher([])("a")


@pytest.mark.parametrize("pattern", ["", "/", "../x", "a/../b", "./", "\0"])
def test_patterns_that_name_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(SettingsError, match="names nothing in the folder"):
        matcher([pattern])
