"""A question in, rows of the source out: embed, look up, join with the rows as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.base.errors import InputError
from likewise.base.types import Result

if TYPE_CHECKING:
    from likewise.base.protocols import Embedder, Filter, Index, Source, VectorTable
    from likewise.base.types import Hit, Key, Row

MAX_K = 1000
_EXTRA = 8


def search(
    embedder: Embedder,
    index: Index,
    source: Source,
    table: VectorTable,
    text: str,
    k: int = 10,
    *,
    fresh_only: bool = False,
    filter: Filter | None = None,
    version: int | None = None,
) -> list[Result]:
    """The `k` rows nearest to `text`, best first, each as the source has it now.

    A row that the source no longer has is never returned, whatever the index still holds. A row
    whose text was changed since its vector was made is returned with `fresh=False`, or left out
    with `fresh_only`. `version` is what `index` had followed the store to before the search: what
    was published since isn't fresh either, as the index found it by its old vector. None: the index
    holds all that is published.

    Raises:
        InputError: `text` is empty, or `k` isn't between 1 and 1000.
        SpaceMismatch: `embedder` isn't of the space that the store holds.
    """
    if not text.strip():
        raise InputError("the query is empty; write what you are looking for", param="q")
    if not 1 <= k <= MAX_K:
        raise InputError(f"k must be between 1 and {MAX_K}, not {k}", param="k")
    space = table.space
    space.require(embedder.space.stored_as(space.chunker, space.dtype), where="the binding")
    vector = embedder.embed([text], kind="query")[0]
    asked = k + _EXTRA
    while True:
        hits = index.search(vector, k=asked, filter=filter)
        results = _join(hits, source, table, fresh_only=fresh_only, version=version)
        # Rows deleted a moment ago still take places in the index: ask for more until k are there.
        if len(results) >= k or len(hits) < asked:
            return results[:k]
        asked *= 4


def _join(
    hits: list[Hit],
    source: Source,
    table: VectorTable,
    *,
    fresh_only: bool,
    version: int | None,
) -> list[Result]:
    keys: list[Key] = [hit.key for hit in hits]
    rows = source.read(keys)
    embedded = table.fingerprints(keys)
    # Read last: what isn't in it is in the index as the fingerprints say.
    newer = _newer(table, version)
    results = []
    for hit in hits:
        row: Row | None = rows.get(hit.key)
        if row is None:
            continue
        is_present = newer is not None and hit.key not in newer
        fresh = is_present and embedded.get(hit.key) == row.fingerprint
        if fresh or not fresh_only:
            results.append(Result(hit, row, fresh))
    return results


def _newer(table: VectorTable, version: int | None) -> set[Key] | None:
    """Keys published after `version`; None when that can't be known any more."""
    keys: set[Key] = set()
    while version is not None:
        feed = table.published(version)
        if feed.reset:
            return None
        if feed.version == version:
            break
        keys.update(feed.keys)
        version = feed.version
    return keys
