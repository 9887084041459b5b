"""How texts are cut into passages, as a setting says it: `tokens:128/16` and its kind."""

from __future__ import annotations

import re
from dataclasses import dataclass

from likewise.base.errors import SettingsError

DEFAULT_CHUNK = "tokens:128/16"
WAYS = ("tokens", "sentences", "headings", "code")
"""By what a text is cut; all of them count size and overlap in the model's tokens."""
METAVAR = "WAY:SIZE/OVERLAP"
"""The form of the setting, as help shows it."""
_FORM = re.compile(r"([a-z]+):(\d{1,6})/(\d{1,6})\Z")


@dataclass(frozen=True, slots=True)
class Chunking:
    """A setting such as `tokens:128/16`, taken apart."""

    way: str
    """One of `WAYS`."""
    size: int
    """The most tokens of a passage."""
    overlap: int
    """The most tokens that a passage has in common with the one before it."""

    @property
    def name(self) -> str:
        """As settings and a `Space` have it: `WAY:SIZE/OVERLAP`."""
        return f"{self.way}:{self.size}/{self.overlap}"


def parse_chunking(text: str) -> Chunking:
    """The setting `text`, taken apart; whether a model reads passages of that size isn't known.

    Raises:
        SettingsError: it isn't of that form.
    """
    found = _FORM.match(text)
    if found is None or found[1] not in WAYS:
        raise SettingsError(
            f"chunk {text!r} isn't known; write {METAVAR}, such as {DEFAULT_CHUNK}, where WAY is "
            f"one of {', '.join(WAYS)}",
            param="chunk",
        )
    return Chunking(found[1], int(found[2]), int(found[3]))
