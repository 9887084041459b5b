"""Where a long text can be cut so that its pieces have the tokens of the whole, one by one.

A text is cut before a space that stands between two words, or where else the tokenizer is known to
begin anew. What a tokenizer does at the beginning of a text (a prefix space, white space stripped)
would be done again at the beginning of each piece: a piece is read together with the word before
it, and the tokens of that word are left out.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers

STEP = 1 << 16
"""Characters looked at in one call of the regular expression, which holds the interpreter."""

# Letters and digits that no normaliser joins with a space or with what stands beyond it. Marks, and
# the halfwidth voiced marks of katakana that count as letters, are left out.
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff"
_LETTERS = (
    "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0391-\u03a1\u03a3-\u03c9\u0400-\u0481"
    "\u048a-\u052f\u05d0-\u05ea\u0620-\u063a\u0641-\u064a\u0905-\u0939\u3041-\u3096\u30a1-\u30fa"
    f"{_IDEOGRAPHS}\uac00-\ud7a3"
)
_WORD = f"A-Za-z0-9{_LETTERS}"
_ANY = f"!-~{_LETTERS}"
"""Words, and ASCII's punctuation."""
_SPACED = rf"(?<=[{_ANY}]) [{_ANY}]{{1,32}}(?= [{_ANY}])"
_BLANK = rf"(?<=[{_ANY}])[ \t\n]{{1,32}}[{_ANY}]{{1,32}}(?=[ \t\n])"
_LINED = rf"(?<=[{_WORD}])[ \n][{_WORD}](?:[{_ANY}]{{0,62}}[{_WORD}])?(?=[ \n][{_WORD}])"
_BETWEEN_IDEOGRAPHS = rf"(?<=[{_IDEOGRAPHS}])[{_IDEOGRAPHS}](?=[{_IDEOGRAPHS}])"
_MARKS = ",;:/=+&|"
"""Punctuation that may stand between words without a space, in tables and addresses."""
_LONGEST_MATCH = 128
"""Characters of a match at most, with what it looks ahead for."""

_NORMALIZERS = frozenset(
    (
        *("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"),
        *("Nmt", "Strip", "Precompiled", "Prepend"),
    )
)
_SPLITTERS = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))
_FURTHER = frozenset(("Punctuation", "Digits"))
_SPACES = frozenset((" {2,}", r"\s+", r"\s{2,}", " +"))
"""Patterns that white space alone matches."""
_CASES = "'s|'t|'re|'ve|'m|'ll|'d"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = frozenset(
    (
        rf"(?i:{_CASES})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",
        rf"(?i:{_CASES})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",
        rf"{_CASES}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
    )
)
"""Patterns of published tokenizers that end a word before a space: Llama 3's, Qwen 2's, GPT-2's."""
_META = "\u2581"
LONGEST_WORD = 128
"""Characters beyond which a word may be unknown whatever it is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a text, with what is read before it for its context."""

    begin: int
    """First character that is read."""
    own: int
    """First character whose tokens count."""
    end: int
    """Where it ends (half open)."""


class Cuts:
    """Finds where texts can be cut for the tokenizer `inner`. Safe to use from several threads."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._found: re.Pattern[str] | None = None
        self._is_known = False

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """What is matched between two cuts; None where no cut is known to be safe.

        Found when a long text comes for the first time, since it may look at the whole vocabulary.
        """
        with self._lock:
            if not self._is_known:
                self._found = _pattern(self._inner)
                self._is_known = True
            return self._found

    def pieces(self, text: str, size: int) -> Iterator[Piece]:
        """`text` in pieces of at least `size` characters, in order; as few as must be."""
        pattern = self.pattern
        begin = own = 0
        while pattern is not None and len(text) - own > 2 * size:
            found = _search(pattern, text, own + size)
            if found is None:
                break
            yield Piece(begin, own, found[1])
            begin, own = found
        yield Piece(begin, own, len(text))

    def last(self, text: str, size: int) -> Piece:
        """The end of `text`, about `size` characters or more."""
        pattern = self.pattern
        if pattern is not None and len(text) > size:
            found = _search(pattern, text, len(text) - size)
            if found is not None:
                return Piece(*found, len(text))
        return Piece(0, 0, len(text))


def _search(pattern: re.Pattern[str], text: str, start: int) -> tuple[int, int] | None:
    """The first match at or behind `start`."""
    for at in range(start, len(text), STEP):
        if found := pattern.search(text, at, at + STEP + _LONGEST_MATCH):
            return found.span()
    return None


def _pattern(inner: tokenizers.Tokenizer) -> re.Pattern[str] | None:
    """Where texts can be cut for `inner`: each of its parts must look no further than a space."""
    added = [token.content for token in inner.get_added_tokens_decoder().values()]
    normalizers = _parts(inner.normalizer, "normalizers")
    splitters = _parts(inner.pre_tokenizer, "pretokenizers")
    model: Any = inner.model
    kind = type(model).__name__
    is_marked = any(_writes_spaces(part) for part in normalizers)
    if (
        not all(map(_is_local, normalizers))
        or any(_crosses(content) for content in added)
        or getattr(model, "dropout", None)
    ):
        return None
    if not is_marked and _splits(splitters):
        return re.compile("|".join(_patterns(normalizers, splitters, "".join(added))))
    # Without words to split, tokens must not go across a space. (A lattice of scores wouldn't do:
    # equal sums may round in another way behind another beginning.)
    if kind == "BPE" and _leaves_whole(splitters) and not _has_crossing_token(inner):
        return re.compile(_SPACED)
    return None


def _patterns(
    normalizers: list[dict[str, Any]], splitters: list[dict[str, Any]], added: str
) -> list[str]:
    """What is matched between two cuts where words are split; `added` holds all added tokens."""
    kinds = {one["type"] for one in splitters}
    by_pattern = any(map(_is_split_by_pattern, splitters))
    patterns = [_SPACED]
    if kinds & _SPLITTERS:
        patterns = [_BLANK]
        if _isolates(normalizers) and not re.search(rf"[{_IDEOGRAPHS}]", added):
            patterns.append(_BETWEEN_IDEOGRAPHS)
    elif by_pattern:
        patterns.append(_LINED)
    marks = "".join(mark for mark in _MARKS if mark not in added)
    if marks and (by_pattern or kinds & {"BertPreTokenizer", "Whitespace"}):
        patterns.append(rf"(?<=[A-Za-z0-9])[{marks}][A-Za-z0-9]{{1,32}}(?=[{marks}][A-Za-z0-9])")
    return patterns


def squeezes(inner: tokenizers.Tokenizer) -> bool:
    """Whether BERT's tokenizer reads texts: a very long word is one unknown token for it."""
    normalizers = {one["type"] for one in _parts(inner.normalizer, "normalizers")}
    splitters = {one["type"] for one in _parts(inner.pre_tokenizer, "pretokenizers")}
    added = inner.get_added_tokens_decoder().values()
    model: Any = inner.model
    return bool(
        type(model).__name__ == "WordPiece"
        and model.max_input_chars_per_word <= LONGEST_WORD
        and normalizers <= {"BertNormalizer", "Lowercase"}
        and splitters == {"BertPreTokenizer"}
        and not any(token.content.isalnum() or token.content.isspace() for token in added)
        and all(token.content.isascii() for token in added)
    )


def _parts(part: Any, inside: str) -> list[dict[str, Any]]:
    """A part of the tokenizer as tokenizer.json writes it; a sequence as its parts."""
    if part is None:
        return []
    return _flat(json.loads(part.__getstate__()), inside)


def _flat(written: dict[str, Any], inside: str) -> list[dict[str, Any]]:
    if written.get("type") != "Sequence":
        return [written]
    return [each for one in written[inside] for each in _flat(one, inside)]


def _is_local(normalizer: dict[str, Any]) -> bool:
    """Whether what it does on one side of a space doesn't depend on the other side."""
    if normalizer["type"] != "Replace":
        return normalizer["type"] in _NORMALIZERS
    pattern, content = normalizer["pattern"], normalizer["content"]
    if "Regex" in pattern:
        return pattern["Regex"] in _SPACES and content == " "
    written: str = pattern.get("String", " ")
    if any(map(str.isspace, written)):
        return written.isspace() and content in (" ", _META)
    return True


def _writes_spaces(normalizer: dict[str, Any]) -> bool:
    """Whether spaces are other characters afterwards, at which splitters don't split."""
    return bool(normalizer["type"] == "Replace" and normalizer["content"] == _META)


def _crosses(content: str) -> bool:
    """Whether an added token may lie on both sides of a space between two words."""
    return re.search(rf"\S[\s{_META}]", content) is not None


def _splits(splitters: list[dict[str, Any]]) -> bool:
    """Whether words are read each by itself, the space between with one of them or with none."""
    is_split = False
    for one in splitters:
        kind = one["type"]
        if kind == "Metaspace":
            is_split = is_split or one.get("split", True) is not False
        elif kind in _SPLITTERS or _is_split_by_pattern(one):
            is_split = True
        elif kind not in _FURTHER and kind != "ByteLevel":
            return False
    return is_split


def _is_split_by_pattern(one: dict[str, Any]) -> bool:
    """Whether it is GPT-2's pattern, or one that is as good here."""
    if one["type"] == "ByteLevel":
        return bool(one.get("use_regex", True))
    return (
        one["type"] == "Split"
        and one["pattern"].get("Regex") in _WORDS
        and one["behavior"] in ("Isolated", "Removed")
    )


def _isolates(normalizers: list[dict[str, Any]]) -> bool:
    """Whether each ideograph becomes a word by itself."""
    return any(
        one["type"] == "BertNormalizer" and one.get("handle_chinese_chars") for one in normalizers
    )


def _leaves_whole(splitters: list[dict[str, Any]]) -> bool:
    """Whether a text is read as it is, or split where a space is, which there may be none."""
    return all(
        (one["type"] == "Split" and one["pattern"].get("String") == " ")
        or (one["type"] == "ByteLevel" and not one.get("use_regex", True))
        for one in splitters
    )


def _has_crossing_token(inner: tokenizers.Tokenizer) -> bool:
    """Whether a token holds a space behind something else, or none is just a space.

    They are asked for one by one: a table of all would hold the interpreter.
    """
    crossing = re.compile(rf"[^ {_META}\u0120][ {_META}\u0120]")
    names = (inner.id_to_token(index) for index in range(inner.get_vocab_size()))
    # Ids with gaps would lead past the last one that is looked at.
    if any(name is None or crossing.search(name) for name in names):
        return True
    return all(inner.token_to_id(space) is None for space in (" ", _META, "\u0120"))
