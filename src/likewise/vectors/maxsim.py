"""MaxSim: how near a query of many vectors is to a document of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.base.errors import DimensionsError

if TYPE_CHECKING:
    from likewise.base.types import Vectors


def maxsim(query: Vectors, document: Vectors) -> float:
    """For each of the query's vectors its largest product with one of the document's, added up.

    `query` is float32 [n, d], `document` float32 [m, d] (ColBERT,
    https://arxiv.org/abs/2004.12832, eq. 3). A document without vectors scores 0.

    Raises:
        DimensionsError: their widths differ.
    """
    if query.ndim != 2 or document.ndim != 2 or query.shape[1] != document.shape[1]:
        raise DimensionsError(
            f"a query of shape {list(query.shape)} and a document of shape {list(document.shape)} "
            "can't be compared: both must be [tokens, dimensions] of one width"
        )
    if not len(query) or not len(document):
        return 0.0
    return float((query @ document.T).max(axis=1).sum(dtype="float64"))
