"""Passages of source code in any language: cut by indentation and blank lines, between lines."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING

from likewise.text.passages import EVEN_THE_SHORTEST, Round, Tokens, cut, passages, require_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from likewise.base.types import Chunk

_INDENT = re.compile(r"[ \t]*")
_CLOSER = re.compile(r"[)\]}>]|</|\*/|\{\Z|(?:end|fi|done|esac|endif|endfunction)\b(?!\s*[=.(\[:])")
"""What belongs to the block above; so does a brace alone, to the line that it opens a block for."""
_GOES_ON = re.compile(
    r"\.\w|[{|&?:]|(?:else|elif|elsif|elseif|except|finally|catch|rescue|ensure|then)\b"
)
_LEADS = re.compile(r"//|#|--|/\*|\*|;;|%|@|\[\[?\w|template\b")
"""Comments, decorators and attributes: they belong to the line below them."""
_STEP, _DEEPEST = 2, 12
"""Columns that count as one step of indentation, and the most steps that are told apart."""


def chunk_code(
    text: str, spans: npt.NDArray[np.int64], *, size: int, overlap: int, held: Sequence[int] = ()
) -> tuple[Chunk, ...]:
    """Passages of source code of at most `size` tokens, which end where definitions do.

    `spans` is int [n, 2]: the half-open character range of each token, in order. A definition
    begins at a line after a blank line or after a block that was indented deeper; the less it is
    indented itself, the more welcome it is. Comments and decorators stay with the line below, what
    closes a block with the block. A definition of more than `size` tokens is cut at those inside,
    else between lines, and only a line of more than `size` tokens within. The overlap is whole
    lines. All tokens but white space are covered; a text without tokens has no passage.
    Passages end after the characters `held` too.

    Raises:
        SettingsError: `size` isn't positive, or `overlap` isn't between 0 and half of it.
    """
    require_sizes(size, overlap)
    tokens = Tokens(text, spans)
    if not tokens.count:
        return ()
    definitions: dict[int, dict[int, int]] = {}
    lines: dict[int, int] = {}
    closers: dict[int, int] = {}
    for position, depth, kind in _places(text):
        closers[position] = depth
        if kind != "closes":
            lines[position] = depth
        if kind == "defines":
            definitions.setdefault(depth, {})[position] = 0
    rounds = [Round(tokens.listed(found), (2, 4)) for _, found in sorted(definitions.items())]
    rounds.append(Round(tokens.listed(lines), (2, 4, 8, EVEN_THE_SHORTEST)))
    rounds.append(Round(tokens.listed(closers), (2, 4, EVEN_THE_SHORTEST)))
    ends = cut(tokens, rounds, size=size, held=held)
    return passages(tokens, ends, tokens.listed(lines), size=size, overlap=overlap)


def _places(text: str) -> Iterator[tuple[int, int, str]]:
    """Each line that isn't blank: where it begins, its depth, and what a passage would be there.

    `defines`: a definition or another block begins. `closes`: the line belongs to the one above.
    `goes on` stands for anything else.
    """
    rows = text.split("\n")
    above, is_open, leads = 0, True, False
    for start, row in zip(
        accumulate((len(row) + 1 for row in rows), initial=0), rows, strict=False
    ):
        body = row.strip()
        if not body:
            is_open, leads = True, False
            continue
        margin = _INDENT.match(row)
        width = len(margin[0].expandtabs(8)) if margin else 0
        depth = min(width // _STEP, _DEEPEST)
        if leads or _CLOSER.match(body):
            kind = "closes"
        elif (is_open or width < above) and not _GOES_ON.match(body):
            kind = "defines"
        else:
            kind = "goes on"
        yield start, depth, kind
        # A block ends with what closes it, so that the next line begins another.
        is_open = bool(_CLOSER.match(body)) and body != "{"
        above, leads = width, bool(_LEADS.match(body))
