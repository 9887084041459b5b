"""`likewise rerank`: texts put in order by how well they answer a question."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from likewise.base.errors import InputError
from likewise.base.escapes import plain
from likewise.cli import output, resolve
from likewise.cli.options import json_option, model_options

if TYPE_CHECKING:
    from likewise.base.precision import Precision


@click.command()
@click.argument("model")
@click.argument("query")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--prompt", metavar="TEXT", help="Instruction, for models that take one; \\n is a line end."
)
@json_option
@model_options
def rerank(
    model: str,
    query: str,
    texts: tuple[str, ...],
    prompt: str | None,
    as_json: bool,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Put texts in order by how well they answer a question.

    MODEL is a reranker: a cross-encoder, or a decoder that answers yes or no. Without a TEXT, or
    with '-', standard input is read, a text a line.
    """
    from likewise.cli import loading, text_input

    if texts in ((), ("-",)):
        lines = text_input.texts(
            sys.stdin.buffer, "text", column=None, field=None, decoding="strict"
        )
        texts = tuple(lines)
    if not texts:
        raise InputError("there is no text to score", param="texts")
    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    with contextlib.closing(loading.Models(place)) as models:
        service = models.get(model)
        scores = service.score(query, texts, prompt=None if prompt is None else plain(prompt))
    order = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
    found = [{"index": at, "score": float(scores[at]), "text": texts[at]} for at in order]
    if as_json:
        output.json(found)
        return
    for each in found:
        output.say(f"{each['score']:.4f}\t{each['text']}")
