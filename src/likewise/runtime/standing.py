"""A model by its name, whichever generation is given out: for those who outlive a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.base.chunking import DEFAULT_CHUNK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.base.space import Space
    from likewise.base.types import Kind, Lane, Vectors
    from likewise.runtime.registry import Registry
    from likewise.text.split import TextSplitter


class Standing:
    """An `Embedder` that asks the registry for the model at each call, and waits for its load."""

    def __init__(self, registry: Registry, name: str) -> None:
        """`name` is a full one."""
        self._registry = registry
        self._name = name

    @property
    def space(self) -> Space:
        """The space its vectors lie in.

        Raises:
            ModelUnsupported: it gives no vectors.
            LikewiseError: it can't be loaded.
        """
        with self._registry.lease(self._name).result() as model:
            return model.space

    def embed(
        self, texts: Sequence[str], *, kind: Kind = "document", lane: Lane = "bulk"
    ) -> Vectors:
        """Vectors of `texts`, in order.

        Raises:
            InputError: a text can't be embedded.
            LikewiseError: the computation failed, or it can't be loaded.
        """
        with self._registry.lease(self._name).result() as model:
            return model.embed(texts, kind=kind, lane=lane)

    def splitter(self, chunk: str = DEFAULT_CHUNK) -> TextSplitter:
        """Cuts texts into passages that the model reads whole, as `chunk` says.

        Raises:
            SettingsError: it isn't known, or the model doesn't read that many tokens at once.
            LikewiseError: it can't be loaded.
        """
        with self._registry.lease(self._name).result() as model:
            return model.splitter(chunk)
