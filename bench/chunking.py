"""How many passages of a document must be embedded anew after a word of it is edited.

    python bench/chunking.py [--documents 4] [--edits 150] [--passages 100]

For each kind of text and way to cut it: documents of 100 passages, and in each a word inserted,
deleted or replaced at a random place, each time in the document as it was. What is counted is
passages whose text the document didn't have before: where a binding has those of before and holds
their ends (`likewise.binding.edits`), and where the ends are those of the text alone. Prints the
table of docs/chunking.md. Nothing is timed.
"""

from __future__ import annotations

import argparse
import csv
import pydoc_data.topics
import random
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import _report
import numpy as np

from likewise.base.types import Row, passage_hash
from likewise.binding.edits import Edits
from likewise.cli.resolve import place
from likewise.models.card import read_card
from likewise.models.locate import DEFAULT_MODEL, locate
from likewise.models.tokenize import Tokenizer
from likewise.text.split import TextSplitter, splitter

REPO = Path(__file__).resolve().parents[1]
SIZE, BATCH = 128, 20
MEAN, ALONE = "passages embedded, mean", "by the text alone: at most 2"
WAYS = {
    "manual": ("tokens", "sentences"),
    "news": ("tokens", "sentences"),
    "Markdown": ("tokens", "sentences", "headings"),
    "Python": ("tokens", "code"),
}
"""Each kind of text and the ways that suit it, beside the default."""
WORD = re.compile(r"\b[A-Za-z]{2,}\b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=4, help="of each kind")
    parser.add_argument("--edits", type=int, default=150, help="in each document")
    parser.add_argument("--passages", type=int, default=100)
    asked = parser.parse_args()
    tokenizer = Tokenizer(read_card(locate(DEFAULT_MODEL, cache=place().cache).folder))
    print(f"| text | cut by | tokens a passage | {MEAN} | at most 2 | most | {ALONE} | most |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for kind, text in texts().items():
        for setting in (f"{way}:{SIZE}/{overlap}" for way in WAYS[kind] for overlap in (0, 16)):
            split = splitter(setting, tokenizer.spans, room=254, model=DEFAULT_MODEL)
            documents = list(parts(text, split, asked.documents, asked.passages))
            row = measure(split, documents, tokenizer, asked.edits)
            print(line(kind, setting, row), flush=True)
            rows.append({"text": kind, "chunk": setting, **row})
    print(_report.write("chunking", {**vars(asked), "rows": rows}))


def texts() -> dict[str, str]:
    """A long text of each kind."""
    topics = pydoc_data.topics.topics
    found = {"manual": "\n\n".join(topics[name].strip() for name in sorted(topics))}
    for folder in (REPO, REPO.parent):
        news = folder / "shared" / "data" / "stsb-test.csv"
        if news.is_file():
            found["news"] = paragraphs(news)
    found["Markdown"] = joined("docs/*.md", "\n\n")
    found["Python"] = joined("src/likewise/s*/*.py", "\n\n\n")
    return found


def joined(pattern: str, between: str) -> str:
    return between.join(path.read_text(encoding="utf-8") for path in sorted(REPO.glob(pattern)))


def paragraphs(path: Path) -> str:
    """The sentences of the STS benchmark in paragraphs of 2 to 7, in random order."""
    with path.open(encoding="utf-8", newline="") as file:
        sentences = list(
            dict.fromkeys(each.strip() for row in csv.reader(file) for each in row[:2])
        )
    pick = random.Random(1)
    pick.shuffle(sentences)
    made = []
    while sentences:
        count = pick.randint(2, 7)
        made.append(" ".join(sentences[:count]))
        del sentences[:count]
    return "\n\n".join(made)


def parts(text: str, split: TextSplitter, documents: int, passages: int) -> Iterator[str]:
    """Documents of so many passages, which begin at paragraphs evenly over `text`."""
    most = passages * SIZE * 10
    for number in range(documents):
        start = text.index("\n\n", len(text) * number // (documents + 1)) + 2
        part = text[start : start + most]
        yield part[: split([part])[0][:passages][-1].end]


def measure(
    split: TextSplitter, documents: Sequence[str], tokenizer: Tokenizer, edits: int
) -> dict[str, float]:
    """What `edits` edits of each document cost."""
    pick = random.Random(7)
    costs: list[int] = []
    by_text: list[int] = []
    lengths: list[int] = []
    for text in documents:
        known = cut(split, [text])[0]
        lengths += [len(spans) for spans in tokenizer.spans(known)]
        for at in range(0, edits, BATCH):
            edited = [edit(text, pick) for _ in range(min(BATCH, edits - at))]
            by_text += [len(set(after) - set(known)) for after in cut(split, edited)]
            costs += [len(set(after) - set(known)) for after in settled(split, text, edited)]
    return {
        "passages": len(lengths) / len(documents),
        "mean_tokens": statistics.mean(lengths),
        "mean": statistics.mean(costs),
        "by_text_at_most_2": sum(cost <= 2 for cost in by_text) / len(by_text),
        "by_text_most": max(by_text),
        "at_most_2": sum(cost <= 2 for cost in costs) / len(costs),
        "most": max(costs),
    }


def cut(split: TextSplitter, given: Sequence[str]) -> list[list[str]]:
    return [
        [text[chunk.start : chunk.end] for chunk in chunks]
        for text, chunks in zip(given, split(given), strict=True)
    ]


def settled(split: TextSplitter, text: str, edited: Sequence[str]) -> list[list[str]]:
    """The passages of each of `edited` where a binding has those of `text`."""
    [before] = split([text])
    spans = [(chunk.start, chunk.end) for chunk in before]
    there = {passage_hash(text[start:end]) for start, end in spans}
    vector = np.zeros(1, np.float32)
    edits = Edits(
        split,
        known=lambda hashes: dict.fromkeys(there.intersection(hashes), vector),
        stored=lambda key: spans,
    )
    rows = [Row((at,), each, {}, b"") for at, each in enumerate(edited)]
    made = edits.settle(rows, split(edited))
    return [
        [each[chunk.start : chunk.end] for chunk in chunks]
        for each, chunks in zip(edited, made, strict=True)
    ]


def edit(text: str, pick: random.Random) -> str:
    """`text` with one word inserted, deleted or replaced."""
    words = list(WORD.finditer(text))
    old, new = pick.choice(words), pick.choice(words)[0]
    kind = pick.choice(("insert", "delete", "replace"))
    if kind == "delete":
        return text[: old.start()] + text[old.end() :].removeprefix(" ")
    return (
        text[: old.start()] + new + (" " + old[0] if kind == "insert" else "") + text[old.end() :]
    )


def line(kind: str, setting: str, row: dict[str, float]) -> str:
    parts = " | ".join(
        f"{row[f'{of}at_most_2']:.1%} | {row[f'{of}most']:.0f}" for of in ("", "by_text_")
    )
    return f"| {kind} | `{setting}` | {row['mean_tokens']:.0f} | {row['mean']:.2f} | {parts} |"


if __name__ == "__main__":
    main()
