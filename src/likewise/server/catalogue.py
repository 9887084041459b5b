"""What a server knows of the models that it serves: their list, and who may use one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from likewise.models.locate import Located
    from likewise.runtime.service import Service as Model


class Listed(Protocol):
    """A model that is served, loaded or not."""

    @property
    def name(self) -> str:
        """Its full name."""
        ...

    @property
    def aliases(self) -> Sequence[str]:
        """Other names that it answers to."""
        ...

    @property
    def state(self) -> str:
        """`loaded`, `loading`, `unloaded` or `failed`."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """For people and programs: what `Service.info` says, and since and until when."""
        ...

    def located(self) -> Located | None:
        """Where it lies on this disk, for who describes one that isn't loaded. Reads folders."""
        ...


class Catalogue(Protocol):
    """The models that are served; `runtime.registry.Registry` is one."""

    def models(self) -> Sequence[Listed]:
        """All of them, in the order that they were named."""
        ...

    def resolve(self, name: str | None) -> str:
        """The full name of the model called `name`, the only one's when None.

        Raises:
            ModelNotFound: no such model is served; the message lists which are.
            InputError: None, and several are served.
        """
        ...

    def lease(
        self, name: str, *, keep_alive_s: float | None = None
    ) -> Future[contextlib.AbstractContextManager[Model]]:
        """The model called `name` (a full one), not unloaded while the context is held.

        It is held from the moment that the future is done; leaving the context gives it back,
        whether it was entered or not. It is loaded if it isn't. `keep_alive_s` is how long it stays
        when nobody asks any more: None for what is set, infinity for ever, 0 for not at all. The
        future may raise whatever loading raises.
        """
        ...
