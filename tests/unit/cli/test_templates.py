r"""Templates from the shell, a program and the settings to the text that is embedded.

A binding made before escapes were read has a backslash and an n in its text. It keeps them.
"""

import json
import shlex
from pathlib import Path

import pytest

import likewise
from likewise.base.errors import BindingExists
from likewise.base.spec import DEFAULT_MODEL, BindingSpec
from likewise.cli import launch, resolve, settings
from likewise.runtime.service import Service
from likewise.server import databases
from tests.unit.cli.test_commands import Run
from tests.unit.cli.test_commands import database as database
from tests.unit.cli.test_commands import model as model
from tests.unit.cli.test_commands import run as run

pytestmark = pytest.mark.model

TYPED = r"{title}\n{body}"
MEANT = "{title}\n{body}"
ADD = ("bind", "add", "pages", "--source", "sqlite:app.db", "--table", "pages", "--text")
AT = ("--db", "app.db")


def embedded(run: Run) -> str:
    """The text of the row about cats, as a search gives it."""
    code, said, noted = run("search", "pages", "a purring cat", *AT, "-k", "1", "--json")
    assert code == 0, noted
    return str(json.loads(said)["results"][0]["text"])


@pytest.fixture
def old(database: Path, model: Service) -> BindingSpec:
    """A binding as it was made before: with what was typed, letter for letter."""
    spec = BindingSpec("pages", f"sqlite:{database.resolve()}", "pages", TYPED, model=DEFAULT_MODEL)
    record = databases.create(spec, model.space.stored_as(spec.chunk, spec.dtype))
    assert record.spec.text == TYPED
    return spec


def test_a_line_end_that_was_typed_is_one(run: Run, database: Path) -> None:
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
    run: Run, old: BindingSpec, model: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, noted = run(*ADD, TYPED)
    assert (code, said) == (0, "pages: 3 rows, 3 current, 0 pending\n"), noted
    assert r"its text has \n letter for letter" in noted
    assert embedded(run) == r"Cats\nThey purr and sleep."
    for text in (TYPED, MEANT):
        with likewise.bind("app.db", "pages", text=text, model=model) as pages:
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


def test_another_text_is_still_another(run: Run, old: BindingSpec) -> None:
    code, _, noted = run(*ADD, r"{title}\t{body}")
    assert (code, "another definition" in noted) == (2, True)
    argv = shlex.split(noted.partition("with 'likewise ")[2].rpartition("'.")[0])
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
    run: Run, old: BindingSpec, model: Service, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written = settings.parse(
        f"[[binding]]\nname = 'pages'\nsource = 'sqlite:app.db'\ntable = 'pages'\ntext = {text}\n"
    )
    (spec,) = resolve.specs(written, folder=Path())
    record, notice = launch._settled(spec, Loaded(model))  # type: ignore[arg-type]
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


def test_equal_meanings_are_one_binding(run: Run, database: Path, model: Service) -> None:
    assert run(*ADD, TYPED)[0] == 0
    folder = database.resolve().parent
    for source, text, more in (
        ("app.db", MEANT, {}),
        (f"sqlite:{database}", TYPED, {}),
        (folder / ".." / folder.name / "app.db", MEANT, {"key": ("ID",)}),
        ("app.db", MEANT, {"store": "app.db", "chunk": "tokens:128/16", "dtype": "float32"}),
        ("app.db", MEANT, {"name": "pages", "model": DEFAULT_MODEL}),
        ("app.db", MEANT, {"model": model}),
    ):
        with likewise.bind(source, "PAGES", text=text, **more) as pages:
            assert pages.record.spec.table == "pages"
    for argv in (("--model", "all-MiniLM-L6-v2"), ("--key", "id"), ("--store", "sqlite:./app.db")):
        code, _, noted = run(*ADD, MEANT, *argv)
        assert code == 0, noted
    with pytest.raises(BindingExists, match="text: "):
        likewise.bind("app.db", "pages", text="{title} {body}", model=model)
