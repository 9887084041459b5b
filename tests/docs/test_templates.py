"""Every template that a page shows, read as the door that it is for reads it."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from likewise.base.spec import BindingSpec
from likewise.cli import resolve, settings
from likewise.text.template import Template

REPO = Path(__file__).resolve().parents[2]
PAGES = [
    REPO / "README.md",
    *sorted((REPO / "docs").glob("*.md")),
    *sorted(each for each in (REPO / "deploy").rglob("*") if each.suffix in (".md", ".toml")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_FLAG = re.compile(r"""--text[ =]('[^']*'|"[^"]*"|[^\s`)\]]+)""")


def in_commands(page: str) -> Iterator[str]:
    """What a shell hands on as `--text`, in blocks and between backquotes."""
    for found in _FLAG.finditer(page):
        (template,) = shlex.split(found[1])
        if "{" in template:
            yield template


def in_settings(page: str, suffix: str) -> Iterator[str]:
    """`text` of every binding in a settings file or in a block of one, as TOML has it."""
    blocks = [text for kind, text in _FENCE.findall(page) if kind == "toml"]
    for block in [page] if suffix == ".toml" else blocks:
        for binding in tomllib.loads(block).get("binding", []):
            yield binding["text"]


def in_programs(page: str) -> Iterator[str]:
    """`text=` of every call in a block of Python, as Python has it."""
    for kind, block in _FENCE.findall(page):
        for node in ast.walk(ast.parse(block)) if kind == "python" else ():
            if isinstance(node, ast.keyword) and node.arg == "text":
                yield ast.literal_eval(node.value)


def templates() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        found = [*in_commands(page), *in_settings(page, path.suffix), *in_programs(page)]
        yield from ((str(path.relative_to(REPO)), each) for each in found)


FOUND = list(templates())


def test_the_pages_show_templates_of_every_kind() -> None:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    assert r"{title}\n{body}" in set(in_commands(readme))
    assert "{title}\n{body}" in set(in_programs(readme))
    page = (REPO / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "{title}\n{body}" in set(in_settings(page, ".md"))
    assert len({page for page, _ in FOUND}) >= 8


@pytest.mark.parametrize(("page", "template"), FOUND, ids=[f"{p}-{t}" for p, t in FOUND])
def test_no_backslash_of_a_page_is_embedded(page: str, template: str) -> None:
    spec = BindingSpec("docs", "sqlite:a.db", "docs", template).as_typed()
    read = Template(spec.text)
    text = read.render(dict.fromkeys(read.columns, "value"))
    assert "\\" not in text, page


@pytest.mark.parametrize("text", [r"'{a}\n{b}'", r'"{a}\n{b}"', '"""{a}\n{b}"""', r'"{a}\\n{b}"'])
def test_both_kinds_of_strings_in_a_settings_file_mean_a_line_end(text: str) -> None:
    written = settings.parse(
        f"[[binding]]\nname = 'd'\nsource = 'sqlite:a.db'\ntable = 'd'\ntext = {text}\n"
    )
    (spec,) = resolve.specs(written, folder=Path("/"))
    assert spec.text == "{a}\n{b}"
