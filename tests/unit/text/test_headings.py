"""What a heading is, and that no passage reaches over one."""

import pytest

from likewise.text.headings import headings
from tests.unit.text.test_passages import sentences, texts_of


def titles(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in headings(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# One\nText.\n## Two ##\n\nMore.\n", ["# One", "## Two ##"]),
        ("One\n===\nText.\n\nTwo words\n---\nMore.", ["One\n===", "Two words\n---"]),
        ("Title\n~~~~~\ntext\n\nPart\n^^^^\n\ntext", ["Title\n~~~~~", "Part\n^^^^"]),
        ("=====\nTitle\n=====\n\ntext", ["=====\nTitle\n====="]),
        (
            "Text.\n\n1.2 Results\n\nText.\n\n1.2.3. More of it\n\nEnd.",
            ["1.2 Results", "1.2.3. More of it"],
        ),
        ("# Only\n", ["# Only"]),
        ("text\n# Right below\ntext", ["# Right below"]),
        (
            "# One\n\n## Two\n\n### Three\nText.\n# Four\n",
            ["# One\n\n## Two\n\n### Three", "# Four"],
        ),
        ("---\ntitle: x\n---\n# One\ntext", ["# One"]),
    ],
)
def test_headings(text: str, found: list[str]) -> None:
    assert titles(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "```\n# comment\n```\n",
        "~~~sh\n# comment\n```\n# more\n~~~\n",
        "````\n```\n# comment\n```\n# still\n````",
        "- item\n  ```\n  # comment\n# c\n  ```\n",
        "```\n# never closed\n",
        "#hashtag and #! and #######\n",
        "    # indented code\n",
        "Text.\n\n---\n\nMore.",
        "A paragraph of\ntwo lines\n---\nMore.",
        "- an item\n---\n",
        "| a |\n---\n",
        "Example:\n~~~\ncode\n~~~\n",
        "Longer than the line\n~~~~\n",
        "1.2 Something that ends.\n\nMore.",
        "1. an item\n\n2. another\n\n",
        "version\n1.2 is\nout",
        "",
        "\n\n",
        "---",
    ],
)
def test_what_is_no_heading(text: str) -> None:
    assert titles(text) == []


def test_a_fence_ends_and_headings_go_on() -> None:
    assert titles("# A\n```\n# no\n```\n# B\n\n~~~~\n# no\n~~~~~~\n# C") == ["# A", "# B", "# C"]


def test_a_passage_begins_at_each_heading() -> None:
    text = "Before.\n\n# One\n\nAa bb. Cc dd.\n\n## Two\n\nEe ff.\n\n# Three\n## Four\nGg hh."
    assert texts_of("headings", text, size=40, overlap=20) == [
        "Before.",
        "# One\n\nAa bb. Cc dd.",
        "## Two\n\nEe ff.",
        "# Three\n## Four\nGg hh.",
    ]


def test_what_is_long_is_cut_as_sentences_without_losing_its_heading() -> None:
    body = sentences(1, 20)
    text = f"# What. Is. It. For.\n\n{body}# Next\n\n{body}"
    passages = texts_of("headings", text, size=30, overlap=8)
    assert len(passages) > 8
    (second,) = [n for n, passage in enumerate(passages) if passage.startswith("# Next")]
    assert passages[0].startswith("# What. Is. It. For.\n\n") and len(passages[0]) > 40
    assert len(passages[second]) > 20
    assert [passage for passage in passages if "# " in passage] == [passages[0], passages[second]]
    assert all(
        passage[-1] == "." and passage[0] in "# " + passage[0].upper() for passage in passages
    )


def test_sections_are_cut_alike_wherever_they_stand() -> None:
    section = "# Next\n\n" + sentences(2, 30)
    alone = texts_of("headings", section, size=20)
    assert (
        texts_of("headings", "# First\n\n" + sentences(5, 9) + section, size=20)[-len(alone) :]
        == alone
    )


def test_a_heading_stays_with_a_sentence_that_is_too_long_for_it() -> None:
    text = "# What? Is. It.\n\n" + "a b c, d e f, g h i, j k l, m n o, p q r, s t u."
    for size in range(20, 30):
        first = texts_of("headings", text, size=size)[0]
        assert first.startswith("# What? Is. It.\n\na b c")
