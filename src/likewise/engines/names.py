"""The engines there are, each imported only when chosen."""

from __future__ import annotations

from collections.abc import Mapping

ENGINES: Mapping[str, str] = {"openvino": "likewise.engines.openvino:OpenVinoEngine"}
