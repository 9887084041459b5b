"""Where sentences end, and that passages are whole ones."""

from itertools import pairwise

import pytest

from likewise.text.sentences import PARAGRAPH, sentence_ends
from tests.unit.text.test_passages import sentences, texts_of


def parts(text: str) -> list[str]:
    ends = [0, *sorted(sentence_ends(text)), len(text)]
    return [text[a:b].strip() for a, b in zip(ends, ends[1:], strict=False) if text[a:b].strip()]


@pytest.mark.parametrize(
    "wanted",
    [
        ["One.", "Two!", "Three?", "Four…", "Five"],
        ['He said "No."', "She left.", "(It rained.)", "“So what?”", "End."],
        ["Mr. A. B. Smith met Dr. Who, e.g. at 5 p.m. on Fri.", "Then he left the U.S. for good."],
        ["See Fig. 3 and pp. 4-5, No. 7.", "No.", "Yes."],
        ["It was 1999.", "Pi is 3.14 or so.", "Version 2.0.1 is out!"],
        ['"Why?" he asked.', "Well... perhaps.", "Perhaps not..."],
        ["wait.", "all of this is in lower case.", "or nearly."],
        ["これは文です。", "次の文です！", "「本当？」", "はい。"],
        ["यह एक वाक्य है।", "दूसरा वाक्य।"],
        ["هل هذا سؤال؟", "نعم."],
        ["1. Take this.", "2. Take that.", "12. Go."],
        ["Visit example.com.", "Read README.md.", "What?!", "Really?!"],
        ["Es kostet z.B. 5 Euro, vgl. Seite 3.", "Gut."],
    ],
)
def test_sentences(wanted: list[str]) -> None:
    wide = wanted[0][-1] == "。"
    assert parts(("" if wide else " ").join(wanted)) == wanted


def test_lines_end_a_sentence_in_lists_only() -> None:
    wrapped = "A line that\ngoes on here\nand ends. So\nthere."
    assert parts(wrapped) == ["A line that\ngoes on here\nand ends.", "So\nthere."]
    for mark in ("-", "*", "+", "•", "1.", "12)", "(a)", "|"):
        items = [f"{mark} one thing", f"{mark} another\n  that goes on", f"{mark} a third"]
        assert parts("Take:\n" + "\n".join(items)) == ["Take:", *items]


def test_blank_lines_end_a_paragraph() -> None:
    text = "No full stop\n \t\nNext. Last"
    ends = sentence_ends(text)
    assert ends[text.index("Next")] == PARAGRAPH
    assert ends[text.index("Last")] > PARAGRAPH


def test_a_passage_is_whole_sentences_and_rather_whole_paragraphs() -> None:
    text = "One two three. Four five six.\n\nSeven eight nine. Ten, eleven twelve. Thirteen."
    assert texts_of("sentences", text, size=13) == [
        "One two three. Four five six.",
        "Seven eight nine. Ten, eleven twelve. Thirteen.",
    ]
    for size in range(6, 21):
        for passage in texts_of("sentences", text, size=size):
            assert passage[0].isupper() and passage[-1] == "."


def test_a_long_sentence_is_cut_after_a_comma_or_a_word() -> None:
    text = "Short. " + "a b c d, e f g h i j; k l m n o p. End."
    assert texts_of("sentences", text, size=10) == [
        "Short.",
        "a b c d,",
        "e f g h i j;",
        "k l m n o p. End.",
    ]
    long = " ".join(["word"] * 50)
    passages = texts_of("sentences", long, size=8)
    assert " ".join(passages) == long
    assert all(4 <= len(passage.split()) <= 8 for passage in passages)


@pytest.mark.parametrize("overlap", range(5, 21, 3))
def test_the_overlap_is_whole_sentences(overlap: int) -> None:
    text = sentences(4, 60)
    cuts = texts_of("sentences", text, size=40)
    passages = texts_of("sentences", text, size=40, overlap=overlap)
    assert len(passages) == len(cuts) > 9
    for passage, without in zip(passages, cuts, strict=True):
        assert passage.endswith(without) and passage[0].isupper()
    assert passages != cuts


def test_a_passage_within_a_long_sentence_repeats_words() -> None:
    long = " ".join(f"w{number}" for number in range(60))
    passages = texts_of("sentences", long, size=10, overlap=3)
    repeated = [
        len(set(before.split()) & set(after.split())) for before, after in pairwise(passages)
    ]
    # Where the passage itself leaves room, exactly so many words.
    assert max(repeated) == 3 and repeated.count(3) >= 3
    assert all(
        count == 3 or len(after.split()) == 10
        for count, after in zip(repeated, passages[1:], strict=True)
    )
