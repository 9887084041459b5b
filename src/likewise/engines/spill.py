"""Room for numbers in a file without a name, from which memory can be let go."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import EngineError

if TYPE_CHECKING:
    import numpy.typing as npt


class Spill:
    """A file without a name, mapped; it is there as long as the process or its arrays are.

    OpenVINO keeps the graph's constants beside the copies that it lays out for its products, for
    as long as it runs; in a mapped file the ones that nobody reads take no memory.
    """

    def __init__(self, most: int) -> None:
        """Room for `most` bytes; the file takes what is used of it.

        Raises:
            EngineError: there is no folder for temporary files.
        """
        try:
            self._file = tempfile.TemporaryFile(prefix="likewise-")
        except OSError as refused:
            raise EngineError(f"weights need a folder for temporary files: {refused}") from refused
        weakref.finalize(self, self._file.close)
        self._file.truncate(most)
        self._mapped = mmap.mmap(self._file.fileno(), most)
        self._used = 0

    def empty(self, shape: tuple[int, ...], dtype: type = np.int8) -> npt.NDArray[Any]:
        """An array of `shape` whose numbers are to be set.

        Raises:
            EngineError: the disk is full.
        """
        numbers = math.prod(shape)
        start, count = self._used, numbers * np.dtype(dtype).itemsize
        try:
            # A hole in the file that can't be filled later would kill the process.
            os.posix_fallocate(self._file.fileno(), start, count)
        except OSError as full:
            raise EngineError(
                f"weights need {count} bytes more in {tempfile.gettempdir()}: {full.strerror}"
            ) from full
        self._used += -(-count // mmap.PAGESIZE) * mmap.PAGESIZE
        return np.frombuffer(self._mapped, dtype, numbers, start).reshape(shape)

    def release(self) -> None:
        """Let the pages go from memory; they come back from the file when they are read."""
        self._mapped.madvise(mmap.MADV_DONTNEED)
