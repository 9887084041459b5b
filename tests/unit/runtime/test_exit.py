"""Leaving without closing: the process ends as it should, whatever the engine is doing."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import likewise
model = likewise.load(sys.argv[1])
print(model.embed(["a text"]).shape)
{end}
"""


@pytest.mark.model
@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(3)", 3), ("model.submit(['x'])", 0)])
def test_a_service_that_nobody_closed(model_folder: Path, end: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end), str(model_folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (code, "(1, 384)"), done.stderr
    assert "terminate" not in done.stderr
