"""What a JSON body holds, seen before it is decoded; a little at a time.

Every call here that looks at all of a large body goes over it in blocks, between which other
threads have their turn, or lets go of the interpreter.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np

BLOCK = 1 << 18
_FEW_QUOTES = 20_000

_QUOTE, _BACKSLASH = ord('"'), ord("\\")


def is_blank(body: bytes) -> bool:
    """Whether there is nothing but white space."""
    return all(body[at : at + BLOCK].isspace() for at in range(0, len(body), BLOCK))


def invalid_utf8_at(body: bytes) -> int | None:
    """The first byte that isn't UTF-8, if any."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(body), BLOCK):
        held = len(decoder.getstate()[0])
        block = body[at : at + BLOCK]
        try:
            decoder.decode(block, final=at + BLOCK >= len(body))
        except UnicodeDecodeError as wrong:
            return at - held + wrong.start
    return None


def count(body: bytes, characters: bytes, most: int) -> int:
    """How many of `characters` stand outside of strings; not counted beyond `most`.

    Of what isn't JSON any number.
    """
    if _anywhere(body, characters) <= most:
        return 0
    found, in_string, is_escaped = 0, False, False
    for at in range(0, len(body), BLOCK):
        block = np.frombuffer(body, np.uint8, min(BLOCK, len(body) - at), at)
        quotes, is_escaped = _quotes(block, is_escaped)
        # Odd between the two ends of a string.
        inside = (np.cumsum(quotes, dtype=np.uint32) + in_string) & 1 == 1
        in_string = bool(inside[-1])
        wanted = np.isin(block, np.frombuffer(characters, np.uint8))
        found += int(np.count_nonzero(wanted & ~inside))
        if found > most:
            break
    return found


def _anywhere(body: bytes, characters: bytes) -> int:
    """How many of `characters` there are, in strings too."""
    total = 0
    for at in range(0, len(body), 4 * BLOCK):
        block = body[at : at + 4 * BLOCK]
        total += sum(block.count(one) for one in characters)
    return total


def _quotes(block: np.ndarray, is_escaped: bool) -> tuple[np.ndarray, bool]:
    """Which bytes are quotes that begin or end a string, and whether the next byte is escaped.

    `is_escaped` says so of the first byte.
    """
    places = np.arange(len(block))
    slashes = block == _BACKSLASH
    if is_escaped:
        slashes[0] = False
    # Backslashes in a row before each byte: a quote behind an odd number of them is a character.
    others = np.maximum.accumulate(np.where(slashes, -1, places))
    runs = places - others
    before = np.concatenate([[0], runs[:-1]])
    quotes = (block == _QUOTE) & (before % 2 == 0)
    if is_escaped:
        quotes[0] = False
    return quotes, bool(runs[-1] % 2)


def has_twice(body: bytes, names: Sequence[str]) -> bool:
    """Whether one of `names` stands in `body` between quotes more than once."""
    if _anywhere(body, b'"') > _FEW_QUOTES:
        return any(names_of(body, name.encode()) > 1 for name in names)
    wanted, seen = {name.encode() for name in names}, set()
    longest = max(map(len, wanted), default=0)
    before, at = -1, 0
    while at < len(body):
        found = body.find(b'"', at, at + 4 * BLOCK)
        if found < 0:
            at += 4 * BLOCK
            continue
        if before >= 0 and found - before - 1 <= longest:
            name = body[before + 1 : found]
            if name in seen:
                return True
            if name in wanted:
                seen.add(name)
        before, at = found, found + 1
    return False


def names_of(body: bytes, name: bytes) -> int:
    """How often `name` stands in `body` between quotes."""
    quoted = b'"%s"' % name
    found = at = 0
    while found < 2 and (end := body.find(quoted, at, at + 4 * BLOCK + len(quoted))) >= -1:
        if end >= 0:
            found, at = found + 1, end + len(quoted)
        else:
            at += 4 * BLOCK
            if at >= len(body):
                break
    return found
