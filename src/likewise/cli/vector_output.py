"""Vectors into a file: JSON lines, NumPy or Parquet; whole under its name, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import orjson

from likewise.base.errors import DatabaseFull, SettingsError
from likewise.base.extras import needed
from likewise.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from likewise.base.types import Vectors

Form = Literal["jsonl", "npy", "parquet"]
FORMS: tuple[Form, ...] = ("jsonl", "npy", "parquet")


class Writer(Protocol):
    """Takes blocks of vectors in order."""

    def write(self, texts: Sequence[str], vectors: Vectors, truncated: Sequence[int]) -> None:
        """Add a block; `truncated` are positions in it."""
        ...

    def close(self) -> None:
        """Write what has to stand at the end."""
        ...


def form_of(path: str, asked: Form | None) -> Form:
    """The form asked for, else that of the file's suffix, else JSON lines.

    Raises:
        SettingsError: a form that can't go to standard output.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    by_suffix: Form = next((each for each in FORMS if each == suffix), "jsonl")
    form = asked or by_suffix
    if path == "-" and form != "jsonl":
        raise SettingsError(f"{form} needs a file: give one with --output", param="output")
    return form


def check(path: str, form: Form) -> None:
    """Fail before any work where writing can't succeed.

    Raises:
        MissingExtra: the form needs a package that isn't installed.
        SettingsError: the folder isn't there.
    """
    WRITERS[form]()
    folder = Path(path).parent
    if path != "-" and not folder.is_dir():
        raise SettingsError(f"the folder {folder} isn't there", param="output")


def opened(path: str, form: Form, dimensions: int) -> contextlib.AbstractContextManager[Writer]:
    """A writer to the file at `path`, or to standard output when it is `-`."""
    if path == "-":
        return contextlib.closing(JsonLines(output.stdout_bytes(), dimensions))
    return to_file(Path(path), form, dimensions)


@contextlib.contextmanager
def to_file(path: Path, form: Form, dimensions: int) -> Iterator[Writer]:
    """A writer whose file takes its name only when everything is in it.

    Raises:
        SettingsError: the folder can't be written.
        DatabaseFull: the disk is full.
        MissingExtra: the form needs a package that isn't installed.
    """
    make = WRITERS[form]()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            writer = make(stream, dimensions)
            try:
                yield writer
            finally:
                # After a failure too: Parquet's writer mustn't outlive the stream it writes to.
                writer.close()
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as refused:
        raise _explained(path, refused) from refused
    finally:
        part.unlink(missing_ok=True)


def _explained(path: Path, refused: OSError) -> Exception:
    if refused.errno in (errno.ENOSPC, errno.EDQUOT):
        return DatabaseFull(f"{path}: the disk is full; nothing was left behind")
    return SettingsError(f"{path} can't be written: {refused.strerror}", param="output")


class JsonLines:
    """One object a line: `index`, `text`, `embedding`, and `truncated` where it was."""

    def __init__(self, stream: BinaryIO, dimensions: int) -> None:
        self._stream = stream
        self._next = 0

    def write(self, texts: Sequence[str], vectors: Vectors, truncated: Sequence[int]) -> None:
        """Add a block."""
        cut = set(truncated)
        lines = []
        for at, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
            record: dict[str, Any] = {"index": self._next + at, "text": text, "embedding": vector}
            if at in cut:
                record["truncated"] = True
            lines.append(
                orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
            )
        self._stream.write(b"".join(lines))
        self._next += len(texts)

    def close(self) -> None:
        """Hand on what is still held."""
        self._stream.flush()


class Npy:
    """A NumPy array float32 [texts, dimensions], which `numpy.load` can map."""

    def __init__(self, stream: BinaryIO, dimensions: int) -> None:
        self._stream = stream
        self._dimensions = dimensions
        self._rows = 0
        self._header()

    def _header(self) -> None:
        # numpy leaves room in the header for a first axis of any length, so it can be written
        # again when the number of rows is known.
        np.lib.format.write_array_header_1_0(
            self._stream,
            {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._dimensions)},
        )

    def write(self, texts: Sequence[str], vectors: Vectors, truncated: Sequence[int]) -> None:
        """Add a block."""
        self._stream.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        self._rows += len(vectors)

    def close(self) -> None:
        """Put the number of rows into the header."""
        self._stream.seek(0)
        self._header()


def _parquet() -> Any:
    with needed("writing parquet", extra="parquet", param="to"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    class Parquet:
        """Columns `text`, `embedding` (fixed-size list of float32), `truncated`."""

        def __init__(self, stream: BinaryIO, dimensions: int) -> None:
            self._embedding = pa.list_(pa.float32(), dimensions)
            self._schema = pa.schema(
                [("text", pa.string()), ("embedding", self._embedding), ("truncated", pa.bool_())]
            )
            self._writer = pq.ParquetWriter(stream, self._schema)

        def write(self, texts: Sequence[str], vectors: Vectors, truncated: Sequence[int]) -> None:
            """Add a block."""
            cut = np.zeros(len(texts), dtype=bool)
            cut[list(truncated)] = True
            flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
            columns = [
                pa.array(texts, pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, type=self._embedding),
                pa.array(cut),
            ]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

        def close(self) -> None:
            """Write the footer."""
            self._writer.close()

    return Parquet


WRITERS: Mapping[Form, Callable[[], Callable[[BinaryIO, int], Writer]]] = {
    "jsonl": lambda: JsonLines,
    "npy": lambda: Npy,
    "parquet": _parquet,
}
"""For each form, what gives its writer's class; imported only when asked for."""
