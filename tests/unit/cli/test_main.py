"""The command line itself: help, mistyped names, and what each kind of failure looks like."""

import importlib

import click
import pytest

from likewise.base.errors import InputError
from likewise.cli import launch, main, output


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_helps_line_is_the_commands_own(name: str) -> None:
    """The list in --help is a table, so that listing imports nothing; it must not drift."""
    place, line = main.COMMANDS[name]
    module, _, attribute = place.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    assert command.name == name
    assert command.get_short_help_str(limit=200) == line


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, line) in main.COMMANDS.items():
        assert name in shown
        assert line in shown


@pytest.mark.parametrize("argv", [[], ["bind"], ["models"], ["keys"]])
def test_alone_they_print_their_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(argv) == main.EXIT_OK
    alone = capsys.readouterr()
    assert main.run([*argv, "--help"]) == main.EXIT_OK
    assert alone == capsys.readouterr()
    assert "Commands:" in alone.out and alone.err == ""


@pytest.mark.parametrize(("short", "full"), main.SHORT.items())
def test_commands_of_models_are_found_without_it(short: str, full: str) -> None:
    context = click.Context(main.cli)
    models = main.cli.get_command(context, "models")
    assert isinstance(models, click.Group)
    command = main.cli.get_command(context, short)
    assert command is not None and command is models.get_command(context, full)
    assert short in main.cli.list_commands(context)


@pytest.mark.parametrize("short", main.SHORT)
def test_help_of_a_short_name_is_called_so(short: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([short, "--help"]) == main.EXIT_OK
    assert capsys.readouterr().out.startswith(f"Usage: likewise {short} ")


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "complete -o nosort -F _likewise_completion likewise"),
        ("zsh", "#compdef likewise"),
        ("fish", "complete --no-files --command likewise"),
    ],
)
def test_a_shell_completes_commands_and_options(
    shell: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "click.shell_completion.BashComplete._check_version", staticmethod(lambda: None)
    )
    monkeypatch.setenv("_LIKEWISE_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as ended:
        main.run([])
    assert ended.value.code == 0
    assert words in capsys.readouterr().out
    monkeypatch.setenv("_LIKEWISE_COMPLETE", f"{shell}_complete")
    typed_and_found = {
        "likewise b": "bind",
        "likewise bind sw": "swap",
        "likewise ps --ur": "--url",
    }
    for typed, found in typed_and_found.items():
        line = typed.split()
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", line[-1] if shell == "fish" else str(len(line) - 1))
        with pytest.raises(SystemExit):
            main.run([])
        assert found in capsys.readouterr().out, typed


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["serv"], "No such command 'serv' (did you mean 'serve'?)"),
        (["serve", "--prot", "1"], "--port"),
        (["serve", "--port", "99999"], "0<=x<=65535"),
        (["embed", "--to", "csv"], "'csv' is not one of 'jsonl', 'npy', 'parquet'"),
        (["bind", "ad"], "No such command 'ad'"),
        (["bind", "add", "x"], "Missing option '--source'"),
        (["search", "pages"], "Missing argument 'QUERY'"),
        (["embed", "no/such/file"], "no/such/file can't be read"),
        (["embed", "--column", "a"], "--column goes with CSV input"),
    ],
)
def test_refusals_are_one_clear_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(argv) == main.EXIT_REFUSED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (InputError("the words"), 2, "error: the words"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.exceptions.Abort(), 130, "warning: nothing was changed\n"),
        (ZeroDivisionError("oh"), 1, "ZeroDivisionError: oh\nThis is a bug in likewise"),
    ],
)
def test_exit_codes(
    raised: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(level: str, form: str) -> None:
        raise raised

    monkeypatch.setattr(output, "log_to_stderr", fails)
    assert main.run(["models", "list"]) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert ("Traceback" in shown) == (code == 1)


@pytest.mark.parametrize(
    ("ended", "words"), [(EOFError(), "nobody to ask; --yes"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_question_that_nobody_answers(
    ended: BaseException,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def asks(level: str, form: str) -> None:
        click.confirm("Delete?", abort=True, err=True)

    def read(prompt: str = "") -> str:
        raise ended

    monkeypatch.setattr(output, "log_to_stderr", asks)
    monkeypatch.setattr(click.termui, "visible_prompt_func", read)
    assert main.run(["models", "list"]) == main.EXIT_INTERRUPTED
    assert words in capsys.readouterr().err


def test_output_survives_text_that_the_terminal_cant_show(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.say("a\ud800b")
    assert capsys.readouterr().out == "a?b\n"


@pytest.mark.parametrize("option", [("--port", "80"), ("--host", "0.0.0.0")])
def test_a_port_beside_a_socket_is_said_to_be_unused(
    option: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "serve", lambda asked: None)
    assert main.run(["serve", "--uds", "api.sock", *option]) == 0
    assert f"warning: {option[0]} isn't used" in capsys.readouterr().err
    assert main.run(["serve", "--uds", "api.sock"]) == 0
    assert "isn't used" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--log-level", "--log-format"])
def test_an_option_of_all_commands_after_the_command(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["serve", option, "info"]) == main.EXIT_REFUSED
    assert f"It stands before the command: likewise {option} ..." in capsys.readouterr().err
    assert main.run(["serve", "--no-such"]) == main.EXIT_REFUSED
    assert "before the command" not in capsys.readouterr().err


@pytest.mark.parametrize(("number", "shown"), [(0, "0 rows"), (1, "1 row"), (1234, "1,234 rows")])
def test_counts_are_english(number: int, shown: str) -> None:
    assert output.counted(number, "row") == shown
