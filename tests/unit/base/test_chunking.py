"""The setting that says how texts are cut."""

import pytest

from likewise.base.chunking import WAYS, parse_chunking
from likewise.base.errors import SettingsError


@pytest.mark.parametrize("way", WAYS)
def test_a_setting_names_its_way(way: str) -> None:
    chunking = parse_chunking(f"{way}:64/8")
    assert (chunking.way, chunking.size, chunking.overlap) == (way, 64, 8)
    assert chunking.name == f"{way}:64/8"


@pytest.mark.parametrize(
    "text", ["", "64/8", "tokens", "words:64/8", "code:64", "code:-1/0", "Code:1/0"]
)
def test_what_is_no_setting_is_told_what_would_be(text: str) -> None:
    with pytest.raises(SettingsError, match="WAY:SIZE/OVERLAP.*tokens, sentences, headings, code"):
        parse_chunking(text)
