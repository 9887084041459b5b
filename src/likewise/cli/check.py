"""`likewise models check`: what each profile costs in exactness, and whether others agree."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import click

from likewise.base.errors import ModelUnsupported
from likewise.base.extras import needed
from likewise.cli import output, resolve
from likewise.cli.options import engine_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from likewise.base.precision import Profile
    from likewise.cli.resolve import Place
    from likewise.models.card import ModelCard
    from likewise.models.locate import Located
    from likewise.runtime.parity import Give, Row
    from likewise.runtime.service import Service

_PROGRAMS = ("sentence-transformers", "model2vec")
_COLUMNS = ("profile", "precision", "worst", "mean", "theirs worst", "theirs mean", "result")


@click.command()
@click.argument("model")
@click.option(
    "--against",
    type=click.Choice(_PROGRAMS),
    help="Compare with this program too; it must be installed.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads that compute; default: all.")
@engine_option
@click.option("--offline", is_flag=True, default=None, help="Download nothing.")
@json_option
def check(
    model: str,
    against: str | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
    as_json: bool,
) -> int | None:
    """Compare MODEL in each profile with float32, on fixed texts of many lengths.

    The figures are cosines, the worst and the mean of all texts. Exit code 3 when one is below
    what is asked of its profile.
    """
    from likewise.cli import loading
    from likewise.cli.main import EXIT_FOUND_TROUBLE
    from likewise.models.card import read_card
    from likewise.runtime.parity import parity

    place = resolve.place(offline=offline, threads=threads, engine=engine)
    located = loading.find(model, place)
    card = read_card(located.folder, overrides=place.overrides.of(located.name, model))
    theirs = None if against is None else _theirs(against, card)
    rows = parity(functools.partial(_load, located, place), theirs)
    if as_json:
        output.json([dataclasses.asdict(row) | {"result": row.result} for row in rows])
    else:
        _show(rows, against)
    return EXIT_FOUND_TROUBLE if any(row.result == "FAIL" for row in rows) else None


def _load(located: Located, place: Place, profile: Profile) -> Service:
    from likewise.runtime import service

    return service.load(
        located.folder,
        name=located.name,
        precision=profile,
        threads=place.threads,
        engine=place.engine,
        cache=place.cache,
        overrides=place.overrides.of(located.name),
    )


def _show(rows: list[Row], against: str | None) -> None:
    columns = [name for name in _COLUMNS if against or not name.startswith("theirs")]
    output.table(
        [
            {
                "profile": row.profile,
                "precision": row.precision,
                "worst": _cosine(row.worst),
                "mean": _cosine(row.mean),
                "theirs worst": _cosine(row.against_worst),
                "theirs mean": _cosine(row.against_mean),
                "result": row.result,
            }
            for row in rows
        ],
        columns,
    )
    if against:
        output.note(f"theirs: {against}, in float32 on the CPU")
    for row in rows:
        if row.problem:
            output.note(f"{row.profile}: {row.problem}")


def _cosine(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"


def _theirs(program: str, card: ModelCard) -> Give:
    """What `program` makes of texts with the model of `card`.

    Raises:
        MissingExtra: it isn't installed.
        ModelUnsupported: it has no model of that kind.
    """
    with needed(f"--against {program}"):
        if program == "model2vec":
            return _model2vec(card)
        return _sentence_transformers(card)


def _model2vec(card: ModelCard) -> Give:
    from model2vec import StaticModel

    from likewise.models.static import STATIC

    if card.architecture != STATIC:
        raise ModelUnsupported(f"{card.folder} isn't a table of token vectors, as model2vec's are")
    give: Give = StaticModel.from_pretrained(str(card.folder)).encode
    return give


def _sentence_transformers(card: ModelCard) -> Give:
    import sentence_transformers

    kind = next(kind for gives, kind in _CLASSES if gives in card.gives)
    if not hasattr(sentence_transformers, kind):
        raise ModelUnsupported(f"this sentence-transformers has no {kind}, which {card.name} needs")
    made = _quietly(getattr(sentence_transformers, kind), card.folder)
    if kind == "CrossEncoder":
        return functools.partial(_pairs, made)
    if kind == "MultiVectorEncoder":
        return functools.partial(_tokens, made)
    if kind == "SparseEncoder":
        return functools.partial(_sparse, made)
    prompt = card.prompt("document")
    return lambda texts: made.encode(list(texts), prompt=prompt, show_progress_bar=False)


_CLASSES = (
    ("vectors", "SentenceTransformer"),
    ("scores", "CrossEncoder"),
    ("tokens", "MultiVectorEncoder"),
    ("sparse", "SparseEncoder"),
)


def _quietly(kind: Callable[..., Any], folder: Path) -> Any:
    """The model, in float32: loaded otherwise, transformers takes the type it was saved in."""
    return kind(str(folder), device="cpu", model_kwargs={"dtype": "float32"}, local_files_only=True)


def _pairs(made: Any, texts: Any) -> Any:
    from likewise.runtime.selfcheck import QUESTION

    pairs = [(QUESTION, text) for text in texts]
    found = made.predict(pairs, activation_fn=_unchanged, show_progress_bar=False)
    return found.reshape(len(pairs), -1)


def _unchanged(x: Any) -> Any:
    return x


def _tokens(made: Any, texts: Any) -> Any:
    import numpy as np

    found = made.encode_document(list(texts), show_progress_bar=False)
    return np.concatenate([np.asarray(one) for one in found])


def _sparse(made: Any, texts: Any) -> Any:
    found = made.encode_document(
        list(texts), convert_to_sparse_tensor=False, show_progress_bar=False
    )
    return found.cpu().numpy()
