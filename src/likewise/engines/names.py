"""The engines there are, each imported only when chosen."""

from __future__ import annotations

from collections.abc import Mapping

AUTO = "auto"
"""The fastest engine that model and machine allow."""

ENGINES: Mapping[str, str] = {
    "openvino": "likewise.engines.openvino:OpenVinoEngine",
    "torch": "likewise.engines.torch_packed:TorchPackedEngine",
    "torch_any": "likewise.engines.torch_any:TorchAnyEngine",
    "static": "likewise.engines.static:StaticEngine",
    "onnx_file": "likewise.engines.onnx_file:OnnxFileEngine",
}

PACKED = ("openvino", "torch")
"""Those that run the architectures of `nets`, and so must give the same vectors."""

EXTRAS: Mapping[str, str] = {"torch": "torch", "torch_any": "torch-any"}
"""The extra of each engine that needs more than the package brings."""
