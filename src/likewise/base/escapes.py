r"""Escapes in a template or prompt as a person types it: `\n`, `\t` and `\\`, wherever it is.

A shell, a literal string of TOML and a raw string of Python hand `\n` on as a backslash and an n.
They are read once, when a binding or a swap is made from what was typed. What is stored is the
template as it is meant, and is never read for escapes again: an older binding keeps its text.
"""

from __future__ import annotations

import re

_PART = re.compile(r"\{\{|\}\}|\{[^{}]*\}|\\[nt\\]")
"""A doubled brace, a column in braces (whose name may hold a backslash), or an escape."""
_ESCAPE = re.compile(r"\\[nt\\]")
_MEANT = {r"\n": "\n", r"\t": "\t", "\\\\": "\\"}
_PLAIN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[\n\t\\]")
_TYPED = {meant: typed for typed, meant in _MEANT.items()}


def meant(typed: str) -> str:
    r"""The template that `typed` stands for.

    `\n` is a line end, `\t` a tab, `\\` one backslash. A backslash before anything else stays as it
    is, and so does all that stands inside the braces of a column.
    """
    return _PART.sub(lambda found: _MEANT.get(found[0], found[0]), typed)


def plain(typed: str) -> str:
    r"""The text that `typed` stands for where it has no columns, such as a prompt.

    Escapes are those of a template; braces are braces.
    """
    return _ESCAPE.sub(lambda found: _MEANT[found[0]], typed)


def typed(template: str) -> str:
    """What to type so that it means `template`: `meant(typed(template)) == template`."""
    return _PLAIN.sub(lambda found: _TYPED.get(found[0], found[0]), template)


def has_escapes(template: str) -> bool:
    r"""Whether a stored template has a backslash where a line end or tab may have been meant."""
    return meant(template) != template
