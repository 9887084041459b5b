r"""Templates from the shell, a program and the settings to the text that is embedded.

A binding made before escapes were read has a backslash and an n in its text. It keeps them.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import likewise
from likewise.base.errors import BindingExists
from likewise.base.spec import BindingSpec
from likewise.cli import launch, resolve, settings
from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server import databases
from tests.conformance.tiny import write_bert
from tests.unit.cli.test_commands import Run
from tests.unit.cli.test_commands import database as database
from tests.unit.cli.test_commands import model as model
from tests.unit.cli.test_commands import run as run

TYPED = r"{title}\n{body}"
MEANT = "{title}\n{body}"
PLAIN = ("bind", "add", "pages", "--source", "sqlite:app.db", "--table", "pages", "--text")
CHUNK = "tokens:32/4"
ADD = (*PLAIN[:-1], "--model", "./tiny", "--chunk", CHUNK, "--text")
AT = ("--db", "app.db")


def embedded(run: Run) -> str:
    """The text of the row about cats, as a search gives it."""
    code, said, noted = run("search", "pages", "w1", *AT, "--json")
    assert code == 0, noted
    (text,) = [each["text"] for each in json.loads(said)["results"] if each["key"] == [1]]
    return str(text)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Service]:
    """A small model, which `./tiny` names: what is embedded is looked at, not how well."""
    loaded = service.load(write_bert(tmp_path / "tiny"))
    yield loaded
    loaded.close()


@pytest.fixture
def old(database: Path, tiny: Service) -> BindingSpec:
    """A binding as it was made before: with what was typed, letter for letter."""
    address = f"sqlite:{database.resolve()}"
    spec = BindingSpec("pages", address, "pages", TYPED, model="./tiny", chunk=CHUNK)
    record = databases.create(spec, tiny.space.stored_as(spec.chunk, spec.dtype))
    assert record.spec.text == TYPED
    return spec


def test_a_line_end_that_was_typed_is_one(run: Run, database: Path, tiny: Service) -> None:
    assert run(*ADD, TYPED)[0] == 0
    assert embedded(run) == "Cats\nThey purr and sleep."
    # The same again in any spelling is no error and nothing to speak of.
    for text in (TYPED, MEANT):
        code, _, noted = run(*ADD, text)
        assert (code, "warning" in noted) == (0, False), noted
    code, _, noted = run("bind", "status", "pages", *AT)
    assert (code, "warning" in noted) == (0, False)
    code, said, _ = run("bind", "swap", "pages", "--text", r"{body}\t{title}\\n", *AT)
    assert code == 0
    assert embedded(run) == "They purr and sleep.\tCats\\n"


def test_an_older_binding_keeps_its_text_and_says_so(
    run: Run, old: BindingSpec, tiny: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, noted = run(*ADD, TYPED)
    assert (code, said) == (0, "pages: 3 rows, 3 current, 0 pending\n"), noted
    assert r"its text has \n letter for letter" in noted
    assert embedded(run) == r"Cats\nThey purr and sleep."
    for text in (TYPED, MEANT):
        with likewise.bind("app.db", "pages", text=text, model=tiny, chunk=CHUNK) as pages:
            assert pages.record.spec.text == TYPED
        logged = capsys.readouterr().err
        assert "WARNING likewise.api binding pages: its text has" in logged
        assert f"likewise bind swap pages --text '{TYPED}' --db" in logged

    code, said, noted = run("bind", "status", "pages", *AT)
    assert code == 0
    (command,) = [line for line in noted.splitlines() if "bind swap" in line]
    (state,) = json.loads(run("bind", "status", "pages", *AT, "--json")[1])
    assert state["text"] == TYPED
    assert "bind swap" in state["text_notice"]

    # The command that it names mends it, and nothing is said from then on.
    argv = shlex.split(command.partition("likewise ")[2])
    assert argv[:3] == ["bind", "swap", "pages"]
    code, _, noted = run(*argv)
    assert code == 0, noted
    assert embedded(run) == "Cats\nThey purr and sleep."
    assert run("bind", "finish", "pages", *AT)[0] == 0
    assert "bind swap" not in run("bind", "status", "pages", *AT)[2]
    assert "letter for letter" not in run(*ADD, TYPED)[2]


def test_a_backslash_that_is_meant_is_not_called_an_old_one(
    run: Run, database: Path, tiny: Service
) -> None:
    assert run(*ADD, r"C:\\new\\{title}")[0] == 0
    assert embedded(run) == r"C:\new\Cats"
    code, _, noted = run("bind", "status", "pages", *AT)
    assert (code, "If it isn't meant so, change it" in noted) == (0, True)
    assert "as it was typed" not in noted and "as before" not in noted


def test_another_text_is_still_another(run: Run, old: BindingSpec) -> None:
    code, _, noted = run(*ADD, r"{title}\t{body}")
    assert (code, "another definition" in noted) == (2, True)
    argv = shlex.split(noted.partition("without a pause with: likewise ")[2])
    assert argv[:4] == ["bind", "swap", "pages", "--text"]
    assert argv[4] == r"{title}\t{body}"


class Loaded:
    """What `launch` asks for models."""

    def __init__(self, model: Service) -> None:
        self.model = model

    def bound(self, name: str, binding: str | None = None) -> Service:
        return self.model

    def unbound(self, name: str, binding: str) -> None:
        """Nothing is to be let go."""


@pytest.mark.parametrize("text", [f"'{TYPED}'", f'"{TYPED}"'])
def test_up_serves_the_old_text_and_names_the_swap(
    run: Run, old: BindingSpec, tiny: Service, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written = settings.parse(
        "[[binding]]\nname = 'pages'\nsource = 'sqlite:app.db'\ntable = 'pages'\n"
        f"model = './tiny'\nchunk = '{CHUNK}'\ntext = {text}\n"
    )
    (spec,) = resolve.specs(written, folder=Path())
    record, notice = launch._settled(spec, Loaded(tiny))  # type: ignore[arg-type]
    assert record.spec.text == TYPED
    said = capsys.readouterr().err
    assert r"its text has \n letter for letter" in said
    assert f"likewise bind swap pages --text '{TYPED}' --db {old.store_address}" in said
    assert "bind swap pages --text" in str(notice(record))
    # Where the model is out of reach it is found all the same.
    assert databases.made_before(spec) is not None
    # A server of the whole database has no settings to compare with, and says it too.
    launch._stored([old.store_address])
    assert r"its text has \n letter for letter" in capsys.readouterr().err


@pytest.mark.model
def test_equal_meanings_are_one_binding(run: Run, database: Path, model: Service) -> None:
    assert run(*PLAIN, TYPED)[0] == 0
    folder = database.resolve().parent
    for source, text, more in (
        ("app.db", MEANT, {}),
        (f"sqlite:{database}", TYPED, {}),
        (folder / ".." / folder.name / "app.db", MEANT, {"key": ("ID",)}),
        ("app.db", MEANT, {"store": "app.db", "chunk": "tokens:128/16", "dtype": "float32"}),
        ("app.db", MEANT, {"name": "pages"}),
    ):
        options: dict[str, Any] = {"model": model, **more}
        with likewise.bind(source, "PAGES", text=text, **options) as pages:
            assert pages.record.spec.table == "pages"
    likewise.bind("app.db", "pages", text=MEANT).close()
    code, _, noted = run(
        *PLAIN, MEANT, "--model", "all-MiniLM-L6-v2", "--key", "id", "--store", "sqlite:./app.db"
    )
    assert code == 0, noted
    with pytest.raises(BindingExists, match="text: "):
        likewise.bind("app.db", "pages", text="{title} {body}", model=model)
