"""The packed engines: each of the suites about what they compute runs on every one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from likewise.base.names import resolve
from likewise.engines.batch import Engine
from likewise.engines.names import ENGINES, PACKED
from likewise.models.card import read_card


@pytest.fixture(params=PACKED)
def make(request: pytest.FixtureRequest) -> Any:
    """An engine from a model folder, in float32 on one thread unless it is told otherwise."""

    def engine(folder: Path, **options: Any) -> Engine:
        kind = resolve(request.param, ENGINES, what="engine")
        made: Engine = kind(read_card(folder), **{"precision": "f32", "threads": 1} | options)
        return made

    return engine
