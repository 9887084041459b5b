"""The architectures there are: `model_type` of config.json to the class that describes it."""

from __future__ import annotations

from collections.abc import Mapping

NETS: Mapping[str, str] = {"bert": "likewise.nets.bert:Bert"}
