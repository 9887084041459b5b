"""openvino without its model converter, whose import takes long and brings `openvino_telemetry`.

`import openvino` loads the converter if it can and does without it if it can't. Here it can't: we
build graphs ourselves. For other code in this process the converter is still there when asked for.
"""

from __future__ import annotations

import sys
from typing import Any

_CONVERTER = "openvino.tools.ovc"


def _import() -> Any:
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        import openvino

        return openvino
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        del sys.modules[_CONVERTER]

    def late(name: str) -> Any:
        if name != "convert_model":
            raise AttributeError(f"module 'openvino' has no attribute {name!r}")
        from openvino.tools.ovc import convert_model

        return convert_model

    openvino.__getattr__ = late
    return openvino


ov = _import()
opset = ov.opset13
