"""A setting in, a splitter out."""

import pytest

from likewise.base.chunking import WAYS
from likewise.base.errors import SettingsError
from likewise.text.split import CUTTERS, splitter
from tests.unit.text.test_passages import sentences, words


@pytest.mark.parametrize("way", WAYS)
def test_each_setting_cuts_in_its_way(way: str) -> None:
    split = splitter(f"{way}:30/5", lambda texts: list(map(words, texts)), room=30, model="m")
    assert split.name == f"{way}:30/5"
    texts = [f"{sentences(seed, 19)}\n# Two\n{sentences(seed, 19)}" for seed in (1, 2)] + [""]
    wanted = [CUTTERS[way](text, words(text), size=30, overlap=5) for text in texts]
    assert split(texts) == wanted
    assert wanted[0] != CUTTERS[WAYS[WAYS.index(way) - 1]](
        texts[0], words(texts[0]), size=30, overlap=5
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sizes", ["31/0", "0/0", "30/16"])
def test_sizes_that_the_model_cant_read_are_refused(way: str, sizes: str) -> None:
    with pytest.raises(SettingsError, match="m reads up to 30 tokens"):
        splitter(f"{way}:{sizes}", lambda texts: list(map(words, texts)), room=30, model="m")
