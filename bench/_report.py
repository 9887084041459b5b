"""Where figures go: a JSON row a run in bench/results, with what is needed to read it later."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_PACKAGES = ("openvino", "tokenizers", "numpy", "torch", "sentence-transformers", "transformers")


def write(question: str, row: dict[str, Any]) -> Path:
    """Append `row` to the answers to `question`; the path of the file."""
    path = HERE / "results" / f"{question}.json"
    path.parent.mkdir(exist_ok=True)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows.append({**_surroundings(), **row})
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return path


def _surroundings() -> dict[str, Any]:
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _commit() -> str:
    if shutil.which("git") is None:
        return ""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line]
    fields = {key.strip(): value.strip() for key, value in lines}
    count = sum(key.strip() == "processor" for key, _ in lines)
    kind = [fields.get(key, "?") for key in ("model name", "cpu family", "model")]
    return f"{count} x {kind[0]} (family {kind[1]}, model {kind[2]})"
