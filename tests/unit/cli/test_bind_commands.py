"""`likewise bind` after `add`: swapping, pausing, retrying, working and dropping, on real files."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from likewise.server import databases
from tests.binding_kit import outside
from tests.conformance.tiny import write_bert
from tests.support import LIMIT, wait_until
from tests.unit.cli.test_commands import Run, bound, execute
from tests.unit.cli.test_commands import database as database
from tests.unit.cli.test_commands import run as run

pytestmark = pytest.mark.model


def state(run: Run) -> dict[str, Any]:
    code, said, _ = run("bind", "status", "pages", "--db", "app.db", "--json")
    assert code == 0
    (found,) = json.loads(said)
    return dict(found)


def names(path: Path) -> list[str]:
    db = apsw.Connection(str(path))
    found = db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'likewise%'").fetchall()
    db.close()
    return [str(name) for (name,) in found]


def test_a_swap_from_begin_to_finish(run: Run, database: Path, tmp_path: Path) -> None:
    write_bert(tmp_path / "tiny", max_position_embeddings=256)
    assert bound(run)[0] == 0
    at = ("--db", "app.db")
    code, said, noted = run("bind", "swap", "pages", "--model", "./tiny", *at)
    assert code == 0, noted
    assert "generation 2 answers now: tiny; verified 3 rows: 3 current" in said
    assert "bind rollback pages" in noted and "bind finish pages" in noted
    now = state(run)
    assert [(g["generation"], g["generation_state"]) for g in now["generations"]] == [
        (2, "current"),
        (1, "previous"),
    ]
    assert (now["model"], now["current"], now["coverage"]) == ("tiny", 3, 1.0)
    table = run("bind", "status", *at)[1]
    assert "2 current" in table and "1 previous" in table and "100.0 %" in table
    execute(database, "UPDATE pages SET body = 'A rocket flies.' WHERE id = 3")
    code, said, _ = run("bind", "rollback", "pages", *at)
    assert (code, "generation 1 answers again" in said) == (0, True)
    code, said, _ = run("search", "pages", "space travel", *at, "-k", "1")
    assert "A rocket flies" in said and "changed since" not in said
    code, _, noted = run("bind", "finish", "pages", *at)
    assert (code, "generation 2 (tiny) of pages is dropped" in noted) == (0, True)
    assert not any("_g2" in name for name in names(database))
    for command in (("rollback",), ("finish",)):
        code, _, noted = run("bind", *command, "pages", *at)
        assert (code, "no generation before this one" in noted) == (2, True)


def test_a_swap_begun_resumed_and_given_up(run: Run, database: Path) -> None:
    assert bound(run)[0] == 0
    at = ("--db", "app.db")
    before = names(database)
    for argv, words in (
        ((), "what is to change? Name --model"),
        (("--chunk", "tokens:128/16"), "nothing to change"),
        (("--text", "{titel}"), "title"),
        (("--model", "no-such-model"), "no model called"),
        (("--chunk", "tokens:9000/1"), "9000"),
        (("--abort",), "no swap is under way"),
        (("--abort", "--text", "{body}"), "name nothing else"),
    ):
        code, _, noted = run("bind", "swap", "pages", *argv, *at)
        assert (code, words in noted) == (2, True), noted
    assert names(database) == before
    code, _, noted = run("bind", "swap", "pages", "--text", "{body}", "--no-wait", *at)
    assert (code, "generation 2 is begun" in noted) == (0, True)
    assert [g["generation_state"] for g in state(run)["generations"]] == ["current", "building"]
    code, _, noted = run("bind", "swap", "pages", "--text", "{title}", *at)
    assert (code, "under way already" in noted) == (2, True)
    code, _, noted = run("bind", "swap", "pages", "--abort", *at)
    assert (code, "is given up; pages is as it was" in noted) == (0, True)
    assert names(database) == before
    assert run("bind", "swap", "pages", "--text", "{body}", "--no-wait", *at)[0] == 0
    code, said, _ = run("bind", "swap", "pages", *at)
    assert (code, "generation 2 answers now" in said) == (0, True)
    assert state(run)["text"] == "{body}"


def test_parked_rows_are_listed_and_tried_again(run: Run, database: Path) -> None:
    assert bound(run)[0] == 0
    at = ("--db", "app.db")
    assert run("bind", "parked", "pages", *at)[1] == "no row is parked\n"
    execute(
        database,
        "UPDATE likewise_pages_row SET status = 'parked', error = 'input_error: no', attempts = 2,"
        " at = 0 WHERE key_id = 2",
    )
    code, said, _ = run("bind", "parked", "pages", *at)
    assert code == 0
    for words in ("2", "1970-01-01T00:00:00+00:00", "input_error: no"):
        assert words in said
    (listed,) = json.loads(run("bind", "parked", "pages", "--json", *at)[1])
    assert (listed["key"], listed["attempts"]) == ([2], 2)
    code, said, _ = run("bind", "retry", "pages", *at)
    assert (code, said) == (0, "pages: 1 rows are tried again\n")
    assert bound(run)[1] == "pages: 3 rows, 3 current, 0 pending\n"


def test_pausing_and_going_on(run: Run, database: Path) -> None:
    assert bound(run)[0] == 0
    at = ("--db", "app.db")
    assert run("bind", "pause", "pages", *at)[0] == 0
    assert state(run)["state"] == "paused"
    execute(database, "UPDATE pages SET body = 'x'")
    assert "3 pending" in bound(run)[1]
    code, _, noted = run("bind", "swap", "pages", "--text", "{body}", *at)
    assert (code, "is paused; let it go on" in noted) == (2, True)
    assert run("bind", "swap", "pages", "--abort", *at)[0] == 0
    assert run("bind", "resume", "pages", "--accept-deletes", *at)[0] == 0
    with databases.ends(databases.record("sqlite:app.db", "pages")) as (_, table):
        assert table.allows_deletes()
    assert bound(run)[1] == "pages: 3 rows, 3 current, 0 pending\n"


def test_a_drop_when_the_source_is_gone(run: Run, database: Path, tmp_path: Path) -> None:
    assert bound(run, "--store", "sqlite:vectors.db")[0] == 0
    at = ("--db", "vectors.db")
    assert run("bind", "swap", "pages", "--text", "{body}", *at)[0] == 0
    shutil.move(database, tmp_path / "away.db")
    code, _, noted = run("bind", "drop", "pages", "--yes", *at)
    assert (code, "nothing was dropped" in noted, "--force" in noted) == (2, True, True)
    assert len(databases.records(f"sqlite:{tmp_path}/vectors.db")) == 1
    (shown,) = json.loads(run("bind", "status", "--json", *at)[1])
    assert "no such database file" in shown["error"]
    code, _, noted = run("bind", "drop", "pages", "--yes", "--force", *at)
    assert (code, "left behind: triggers and tables called likewise_pages_" in noted) == (0, True)
    assert names(tmp_path / "vectors.db") == []
    # Bound and dropped once more, with the source back, nothing is left there either.
    shutil.move(tmp_path / "away.db", database)
    assert bound(run, "--store", "sqlite:vectors.db")[0] == 0
    assert run("bind", "swap", "pages", "--text", "{body}", *at)[0] == 0
    code, _, noted = run("bind", "drop", "pages", "--yes", *at)
    assert (code, "left behind" in noted) == (0, False)
    assert names(database) == names(tmp_path / "vectors.db") == []


def worker(*more: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "likewise", "bind", "run", "--db", "app.db", *more]
    made = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert made.stderr is not None
    # From then on a signal ends it in good order; before, it is killed by one.
    assert any(line.startswith("working on") for line in made.stderr), "it ended at once"
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_without_a_server(run: Run, database: Path, number: int) -> None:
    assert bound(run)[0] == 0
    workers = [worker("pages", "--workers", "2"), worker()]
    try:
        outside(database, "UPDATE pages SET body = 'A rocket flies.' WHERE id = 3")
        wait_until(lambda: state(run)["current"] == 3, what="the change")
        # A generation that comes meanwhile is worked on too.
        assert (
            run("bind", "swap", "pages", "--text", "{body}", "--no-wait", "--db", "app.db")[0] == 0
        )
        wait_until(lambda: state(run)["generations"][1].get("current") == 3, what="the generation")
    finally:
        for each in workers:
            each.send_signal(number)
        for each in workers:
            _, noted = each.communicate(timeout=LIMIT)
            assert (each.returncode, "stopped" in noted) == (0, True), noted
    db = apsw.Connection(str(database))
    holders = db.execute("SELECT lease_holder FROM likewise_binding").fetchall()
    db.close()
    assert holders == [(None,), (None,)]


def test_a_worker_whose_binding_is_dropped_says_so(run: Run, database: Path) -> None:
    assert bound(run)[0] == 0
    one = worker("pages")
    try:
        outside(database, "UPDATE pages SET body = 'A rocket flies.' WHERE id = 3")
        wait_until(lambda: state(run)["current"] == 3, what="the change")
        assert run("bind", "drop", "pages", "--yes", "--db", "app.db")[0] == 0
        _, noted = one.communicate(timeout=LIMIT)
        assert (one.returncode, "has no binding 'pages'" in noted) == (2, True), noted
    finally:
        one.kill()
        one.communicate()
    assert run("bind", "run", "--db", "app.db")[0] == 2


def test_status_again_and_again(run: Run, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.cli import bind_status

    assert bound(run)[0] == 0
    shows = 0
    show = bind_status._show

    def twice(states: Any, as_json: bool) -> None:
        nonlocal shows
        shows += 1
        show(states, as_json)
        if shows == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(bind_status, "_show", twice)
    code, said, _ = run("bind", "status", "--watch", "0.1", "--db", "app.db")
    assert (code, said.count("generation")) == (0, 2)
