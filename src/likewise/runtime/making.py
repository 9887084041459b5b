"""From what is wanted to a loaded model: found or fetched, weighed, copied, made ready."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.errors import LikewiseError, NotFinite, Overloaded
from likewise.engines.names import AUTO
from likewise.models.overrides import OverrideTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from likewise.base.precision import Precision
    from likewise.models.locate import Located, Progress
    from likewise.runtime.cache import VectorCache
    from likewise.runtime.service import Service

PROOF = "One real text, read as every other."


@dataclass(frozen=True)
class Options:
    """How models are found, run and kept, where an entry doesn't say otherwise."""

    cache: Path
    offline: bool = False
    precision: Precision = "auto"
    threads: int | None = None
    engine: str = AUTO
    overrides: OverrideTable = OverrideTable()
    """What holds for models whatever their own files say."""
    keep_alive_s: float = math.inf
    """How long a model stays when nobody asks for it."""
    memory_budget: int | None = None
    """Bytes that the weights of all loaded models may take; None for no limit."""
    default: str | None = None
    """The model of requests that name none; None for the only one."""
    kept: VectorCache | None = None
    """Where vectors are kept; it isn't closed with the registry."""
    hub_answer_s: float | None = None
    """Seconds within which the hub must begin to answer; as is usual when None."""


@dataclass(frozen=True)
class Wanted:
    """One model: where to look for it, and what is another for it than the options say."""

    source: str
    """A folder, a name on the hub, or a short name."""
    precision: Precision | None = None
    engine: str | None = None
    keep_alive_s: float | None = None
    pinned: bool = False
    """Whether neither idleness nor want of memory may unload it."""
    is_watched: bool = False
    """Whether it came from the watched folder."""


class Loader:
    """What the registry loads models with. Safe to use from several threads."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def locate(self, wanted: Wanted, progress: Progress | None = None) -> Located:
        """The model's folder; it is fetched when it isn't on this disk.

        Raises:
            ModelError: no place has it, or what was found is damaged.
        """
        from likewise.models.locate import locate

        options = self.options
        return locate(
            wanted.source,
            cache=options.cache,
            offline=options.offline,
            answer_s=options.hub_answer_s,
            progress=progress,
        )

    def located(self, wanted: Wanted) -> Located | None:
        """The model's folder as it is on this disk; None where it isn't, or is damaged."""
        from likewise.models.locate import locate

        try:
            return locate(wanted.source, cache=self.options.cache, offline=True)
        except LikewiseError:
            return None

    def estimate(self, located: Located, wanted: Wanted) -> int:
        """Bytes that its weights will take; the most that they may where it isn't known yet.

        Raises:
            ModelError: its files can't be read.
        """
        from likewise.models.card import read_card
        from likewise.models.locate import finder
        from likewise.runtime.footprint import weights_bytes

        overrides = self.options.overrides.of(located.name, wanted.source)
        card = read_card(located.folder, find=finder(self.options.cache), overrides=overrides)
        return weights_bytes(card, wanted.precision or self.options.precision)

    @contextlib.contextmanager
    def copied(self, located: Located, require_open: Callable[[], None]) -> Iterator[Path]:
        """The folder to load from: a copy where it is one of the user's own, who may write to it.

        `require_open` is called meanwhile, and ends it by raising.

        Raises:
            ModelCorrupt: it is being written to.
        """
        from likewise.runtime.snapshot import snapshot

        if located.origin != "folder":
            yield located.folder
            return
        with snapshot(located.folder, self.options.cache, require_open) as folder:
            try:
                yield folder
            except LikewiseError as failed:
                said = str(failed).replace(str(folder), str(located.folder))
                if said == str(failed):
                    raise
                # The copy is of no interest to who has to mend the original.
                raise type(failed)(said, param=failed.param) from failed

    def load(self, folder: Path, name: str, wanted: Wanted) -> Service:
        """The model in `folder`, ready and checked.

        Raises:
            ModelError, EngineError, MissingExtra: as `service.load` raises them.
        """
        from likewise.runtime import service

        options = self.options
        return service.load(
            folder,
            name=name,
            precision=wanted.precision or options.precision,
            threads=options.threads,
            engine=wanted.engine or options.engine,
            cache=options.cache,
            kept=options.kept,
            overrides=options.overrides.of(name, wanted.source),
        )

    def weigh(self, service: Service) -> int:
        """Bytes that its weights take as they are run.

        Raises:
            ModelError: its files can't be read.
        """
        from likewise.runtime.footprint import weights_bytes

        return weights_bytes(service.card, str(service.info()["precision"]))

    def prove(self, service: Service) -> None:
        """Compute something real, the way that requests do.

        Raises:
            LikewiseError: it doesn't work.
        """
        import numpy as np

        gives = service.card.gives
        if "vectors" in gives:
            vectors = service.submit([PROOF]).result().vectors
            if not np.isfinite(vectors).all():
                raise NotFinite(f"{service.name} gives NaN or Inf for a plain text")
        elif "scores" in gives:
            service.submit_pairs([(PROOF, PROOF)]).result()
        else:
            service.submit_all([PROOF]).result()


def stopping_progress(is_stopping: Callable[[], bool], progress: Progress | None) -> Progress:
    """`progress`, which ends the download once `is_stopping`."""
    from likewise.models.fetch import Fetching

    def tell(fetching: Fetching) -> None:
        if is_stopping():
            raise stopping()
        if progress is not None:
            progress(fetching)

    return tell


def stopping() -> Overloaded:
    """Why nothing is begun any more."""
    return Overloaded("the server is stopping")
