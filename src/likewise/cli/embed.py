"""`likewise embed`: a file of texts becomes a file of vectors."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from likewise.base.errors import InputError, Overloaded, SettingsError
from likewise.base.spec import DEFAULT_MODEL
from likewise.cli import output, resolve
from likewise.cli.options import model_options
from likewise.client.names import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from likewise.base.precision import Precision
    from likewise.base.types import Kind, Vectors
    from likewise.cli.text_input import Decoding, Format
    from likewise.cli.vector_output import Form, Writer
    from likewise.client.embedder import RemoteEmbedder
    from likewise.runtime.service import Service

Overflow = Literal["cut", "refuse"]
BLOCK_TEXTS = 256
_BLOCKS_AHEAD = 6
_LISTED_POSITIONS = 10
_REQUESTS_AT_A_TIME = 2
"""To a remote model: one is computed while the other travels."""

Submit = Callable[[list[str]], "Future[Any]"]
"""Begins to embed a block; the result has `vectors`, and as `truncated` which texts were cut."""


@click.command()
@click.argument("file", default="-", metavar="[FILE]")
@click.option("-o", "--output", "out", default="-", help="Where to; '-' is standard output.")
@click.option("-m", "--model", metavar="MODEL", help="Default: all-MiniLM-L6-v2.")
@click.option(
    "--format",
    "form_in",
    type=click.Choice(["text", "csv", "jsonl"]),
    help="How texts lie in FILE; default: by its suffix, else a text a line.",
)
@click.option("--column", metavar="NAME", help="The CSV column with the texts.")
@click.option("--field", metavar="NAME", help="The field of JSON lines; default: text.")
@click.option(
    "--to",
    "form_out",
    type=click.Choice(["jsonl", "npy", "parquet"]),
    help="How vectors are written; default: by the suffix of --output, else jsonl.",
)
@click.option(
    "--kind",
    type=click.Choice(["document", "query"]),
    help="What the texts are: some models put another prompt before each. Default: the prompt that "
    "the model's folder makes the default, if any.",
)
@click.option(
    "--overflow",
    type=click.Choice(["cut", "refuse"]),
    default="cut",
    show_default=True,
    help="What becomes of a text longer than the model reads.",
)
@click.option(
    "--errors",
    "decoding",
    type=click.Choice(["strict", "replace"]),
    default="strict",
    show_default=True,
    help="What becomes of bytes that aren't UTF-8.",
)
@model_options
def embed(
    file: str,
    out: str,
    model: str | None,
    form_in: Format | None,
    column: str | None,
    field: str | None,
    form_out: Form | None,
    kind: Kind | None,
    overflow: Overflow,
    decoding: Decoding,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Turn a file of texts into a file of vectors.

    FILE holds a text a line, CSV or JSON lines; without it, or with '-', standard input is read.
    Vectors come in the order of the texts. A text longer than the model reads is cut, and said so.
    """
    from likewise.cli import loading, text_input, vector_output

    to_form = vector_output.form_of(out, form_out)
    from_form = text_input.format_of(file, form_in)
    vector_output.check(out, to_form)
    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    with _opened(file) as stream, contextlib.closing(loading.Models(place)) as models:
        texts = text_input.texts(stream, from_form, column=column, field=field, decoding=decoding)
        first = next(texts, None)
        if first is None:
            raise InputError(f"there is no text in {_shown(file)}", param="file")
        service = models.bound(model or DEFAULT_MODEL)
        tally = _Tally()
        sink = vector_output.opened(out, to_form, service.space.dimensions)
        total = None if file == "-" or from_form == "csv" else text_input.counted_lines(Path(file))
        with (
            sink as writer,
            _submitting(service, kind, overflow) as submit,
            output.bar("embedding", total=total, unit="texts") as show,
        ):
            blocks = _blocks(first, texts)
            _carry(submit, blocks, writer, tally, lambda: show(tally.done, None))
    tally.report(service.space.max_tokens)
    if is_remote(model) and overflow == "cut":
        output.note("endpoints don't say what they cut; --overflow refuse stops at such a text")


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a remote model gave for a block."""

    vectors: Vectors
    truncated: tuple[int, ...] = ()


@contextlib.contextmanager
def _submitting(
    model: Service | RemoteEmbedder, kind: Kind | None, overflow: Overflow
) -> Iterator[Submit]:
    """What begins to embed a block; what was begun and isn't waited for is given up."""
    if not is_remote(model.space.model):
        local: Any = model
        yield lambda texts: local.submit(texts, kind=kind, lane="bulk", overflow=overflow)
        return
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME, "likewise-embed") as pool:
        try:
            yield lambda texts: pool.submit(
                lambda: _Answered(
                    model.embed(texts, kind=kind or "document", lane="bulk", overflow=overflow)
                )
            )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _carry(
    submit: Submit,
    blocks: Iterator[list[str]],
    writer: Writer,
    tally: _Tally,
    shown: Callable[[], None],
) -> None:
    """Keep several blocks in the engine and write them in order."""
    waiting: deque[tuple[list[str], Future[Any]]] = deque()

    def write_oldest() -> None:
        texts, future = waiting.popleft()
        computed = future.result()
        writer.write(texts, computed.vectors, computed.truncated)
        tally.add(len(texts), computed.truncated)
        shown()

    for texts in blocks:
        while True:
            try:
                future = submit(texts)
                break
            except Overloaded:
                if not waiting:
                    raise
                write_oldest()
        waiting.append((texts, future))
        if len(waiting) > _BLOCKS_AHEAD:
            write_oldest()
    while waiting:
        write_oldest()


def _blocks(first: str, rest: Iterable[str]) -> Iterator[list[str]]:
    block = [first]
    for text in rest:
        if len(block) == BLOCK_TEXTS:
            yield block
            block = []
        block.append(text)
    yield block


class _Tally:
    """How many texts were embedded, and which were cut."""

    def __init__(self) -> None:
        self.done = 0
        self.cut = 0
        self._first_cut: list[int] = []

    def add(self, texts: int, truncated: Iterable[int]) -> None:
        """One more block."""
        at = [self.done + position for position in truncated]
        self.cut += len(at)
        self._first_cut += at[: _LISTED_POSITIONS - len(self._first_cut)]
        self.done += texts

    def report(self, max_tokens: int) -> None:
        """Say what was done."""
        output.note(f"{output.counted(self.done, 'text')} embedded")
        if self.cut:
            which = ", ".join(map(str, self._first_cut))
            more = ", …" if self.cut > len(self._first_cut) else ""
            output.warn(
                f"{self.cut:,} texts are longer than the {max_tokens} tokens the model reads and "
                f"were cut (index {which}{more})"
            )


@contextlib.contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")
    except OSError as refused:
        raise SettingsError(f"{file} can't be read: {refused.strerror}", param="file") from refused
    with stream:
        yield stream


def _shown(file: str) -> str:
    return "standard input" if file == "-" else file
