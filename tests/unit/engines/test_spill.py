"""Room in a file without a name: what is written stays, and where there is none is said."""

from __future__ import annotations

import mmap
import tempfile

import numpy as np
import pytest

from likewise.base.errors import EngineError
from likewise.engines.spill import Spill


def test_numbers_stay_when_their_memory_is_let_go() -> None:
    spill = Spill(4 * mmap.PAGESIZE)
    first, second = spill.empty((3, 5), np.float32), spill.empty((7,))
    first[:] = np.arange(15, dtype=np.float32).reshape(3, 5)
    second[:] = np.arange(7)
    spill.release()
    assert np.array_equal(first, np.arange(15, dtype=np.float32).reshape(3, 5))
    assert np.array_equal(second, np.arange(7))
    assert first.flags.aligned


def test_without_a_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(EngineError, match="a folder for temporary files"):
        Spill(mmap.PAGESIZE)
