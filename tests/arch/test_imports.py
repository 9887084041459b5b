"""What importing costs: the front door loads neither an engine nor a web framework."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "numpy",
    "openvino",
    "tokenizers",
    "starlette",
    "uvicorn",
    "apsw",
    "httpx",
    "safetensors",
    "huggingface_hub",
    "torch",
    "transformers",
    "pandas",
    "ray",
}


def loaded_by(code: str) -> set[str]:
    """Names of top-level packages in `sys.modules` after running `code` in a fresh interpreter."""
    report = (
        "import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import likewise",
        "import likewise.cli.main",
        "from click.testing import CliRunner\n"
        "from likewise.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0",
    ],
)
def test_the_front_door_is_light(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_the_check_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_the_public_names_are_all_there() -> None:
    import likewise

    for name in likewise.__all__:
        assert getattr(likewise, name) is not None
    assert set(likewise.__all__) <= set(dir(likewise))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        likewise.lod  # noqa: B018
