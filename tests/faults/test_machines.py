"""Workers on several machines: clocks that disagree, a network that is cut, power that goes."""

from __future__ import annotations

import functools
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import pytest

from likewise.base.errors import DatabaseError
from likewise.sql.postgres import connect
from tests.acceptance.postgres_applications import PostgresApplication
from tests.acceptance.programs import WRITER
from tests.acceptance.rigs import NAME, Rig
from tests.acceptance.test_freshness import Model, found, serving
from tests.faults.machine_programs import STATUS, WORKER
from tests.machines_kit import (
    Machine,
    NamespacedMachine,
    NamespacedSite,
    Site,
    said,
    tell,
    why_no_namespaces,
)
from tests.support import LIMIT, wait_until

if TYPE_CHECKING:
    from likewise.sql.postgres import Connection

pytestmark = pytest.mark.xdist_group("machines")  # a server or two are started for all of them
HOUR = 3600.0
LEASE = 1.0
IMPATIENT = "-c idle_in_transaction_session_timeout=2s"
"""Of the address: what the docs say takes half a minute takes two seconds."""
NOTICING = {
    "keepalives_idle": "1",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "2000",
    "connect_timeout": "2",
    "options": f"{IMPATIENT} -c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1"
    " -c tcp_keepalives_count=2 -c tcp_user_timeout=2s",
}


@pytest.fixture(scope="module", params=[Site, NamespacedSite], ids=lambda kind: kind.kind)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    # Only root on Linux can make networks; behind relays all else is tested anywhere.
    if request.param is NamespacedSite and (reason := why_no_namespaces()):
        pytest.skip(f"machines can't have networks of their own here: {reason}")
    made = request.param()
    yield made
    made.close()


def only(kind: type[Site]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("site", [kind], indirect=True, ids=[kind.kind])


@pytest.fixture
def rig(site: Site) -> Iterator[Rig]:
    with site.rig() as made:
        # A comparison that was begun before would put what it had read into the log when all rests.
        made.drain()
        yield made


class Work:
    """A worker on a machine."""

    def __init__(self, machine: Machine, rig: Rig, **arguments: Any) -> None:
        parameters = arguments.pop("parameters", {"options": IMPATIENT})
        self.machine = machine
        self.rig = rig
        self.process: subprocess.Popen[str] = machine.run(
            WORKER,
            address=machine.address(app_of(rig).db.info.dbname, **parameters),
            name=NAME,
            **{"lease": LEASE, **arguments},
        )
        self.holder = self.until("ready")

    def until(self, word: str) -> str:
        return said(self.process, word)

    def go_on(self) -> None:
        tell(self.process)

    def holds(self) -> set[int]:
        """The log entries that it has claimed."""
        sql = "SELECT seq FROM likewise.docs_log WHERE holder = %s"
        return {row[0] for row in rows(self.rig, sql, self.holder)}


def app_of(rig: Rig) -> PostgresApplication:
    return cast(PostgresApplication, rig.app)


def rows(rig: Rig, sql: str, *values: object) -> list[Any]:
    """Asked of the server from beside it."""
    return app_of(rig).db.execute(sql, values).fetchall()


def is_done(rig: Rig) -> bool:
    # In the order that changes go: else one could slip from the outbox into the log in between.
    return rig.source.waiting() == (0, None) and not rig.table.pending()


def version(rig: Rig) -> int:
    """How often a row was published."""
    return int(rows(rig, "SELECT version FROM likewise.binding")[0][0])


def claimed_from_much(work: Work, rng: random.Random) -> set[int]:
    """What the worker holds; more is written each time, as others may be quicker."""
    work.rig.app.write({number: str(rng.random()) for number in range(100, 160)})
    return work.holds()


@pytest.mark.parametrize("seed", [41])
def test_nothing_is_lost(site: Site, rig: Rig, seed: int) -> None:
    sys.stdout.write(f"seed {seed}\n")  # pytest shows it with a failure
    rng = random.Random(seed)
    ahead, level, behind = (
        Work(site.machine(shift), rig, slow=0.02) for shift in (HOUR, 0.0, -HOUR)
    )
    writers = [rig.process(WRITER, seed=10 * seed + n, seconds=3, least=40) for n in (1, 2)]
    for work, end in ((behind, behind.machine.cut), (ahead, ahead.machine.power_off)):
        wait_until(functools.partial(claimed_from_much, work, rng), what="a claim")
        end()
    held = behind.holds()
    wait_until(lambda: not held & behind.holds(), what="taking over")
    behind.machine.mend()
    for writer in writers:
        out, errors = writer.communicate(timeout=LIMIT)
        assert writer.returncode == 0, errors
        assert int(out) >= 40
    wait_until(lambda: is_done(rig), what="rest")
    for work in (behind, level):
        work.process.communicate(timeout=LIMIT)
        assert work.process.returncode == 0
    rig.assert_right()
    with serving(rig, Model()) as live:
        assert found(live) == {(n,): (text.strip(), True) for n, text in rig.app.rows().items()}


def test_a_living_worker_keeps_its_claims_whatever_the_clocks_say(site: Site, rig: Rig) -> None:
    rig.app.write({1: "one"})
    lease = 2.0  # of one that is to live
    late = Work(site.machine(-HOUR), rig, pause="embed", lease=lease)
    late.until("paused")
    mine = late.holds()
    until = "SELECT extract(epoch FROM until)::float8 FROM likewise.worker WHERE holder = %s"
    [(began,)] = rows(rig, until, late.holder)
    early = Work(site.machine(HOUR), rig)
    rig.app.write({2: "two"})
    early.until("applied")
    wait_until(lambda: rows(rig, until, late.holder)[0][0] > began + 1.5 * lease, what="renewals")
    assert late.holds() == mine != set()
    late.go_on()
    assert "put=1" in late.until("applied")
    wait_until(lambda: is_done(rig), what="rest")
    rig.assert_right()


@pytest.mark.parametrize("shift", [-HOUR, HOUR])
def test_lag_is_told_right_whatever_the_clock_says(site: Site, rig: Rig, shift: float) -> None:
    rig.app.write({1: "one"})
    machine = site.machine(shift)
    address = machine.address(app_of(rig).db.info.dbname)
    lag, pending = said(machine.run(STATUS, address=address, name=NAME), "lag").split()
    assert 0 < float(lag) < HOUR / 2
    assert int(pending) > 0


def test_what_was_cut_off_publishes_nothing_later(site: Site, rig: Rig) -> None:
    """It has embedded the old text when the network goes, and comes back when all is done."""
    rig.app.write({1: "old", 2: "old too", 3: "stays"})
    # Its session is to be there still when it comes back.
    away = Work(site.machine(HOUR), rig, pause="embed", parameters={})
    away.until("paused")
    away.machine.cut()
    rig.app.write({1: "new"})
    rig.app.remove(2)
    Work(site.machine(-HOUR), rig)
    wait_until(lambda: is_done(rig), what="taking over")
    before = version(rig)
    away.go_on()
    away.machine.mend()
    assert "put=0" in (told := away.until("applied")) and "superseded=3" in told
    assert version(rig) == before
    rig.assert_right()


def test_a_transaction_that_nobody_ends(site: Site, rig: Rig) -> None:
    """The network goes when all but the COMMIT has been said, and with it what is locked."""
    rig.app.write({1: "old", 2: "stays"})
    away = Work(site.machine(), rig, pause="publish")
    away.until("paused")
    away.machine.cut()
    away.go_on()
    rig.app.write({1: "new", 3: "more"})
    Work(site.machine(), rig)
    wait_until(lambda: is_done(rig), what="others going on")
    rig.assert_right()
    away.machine.mend()
    assert "database_unavailable" in away.until("failed")
    rig.app.write({4: "later"})
    wait_until(lambda: is_done(rig), what="rest")
    rig.assert_right()


@only(NamespacedSite)
def test_machines_that_look_alike_are_told_apart(site: Site, rig: Rig) -> None:
    """Host names and process numbers are the same."""
    (here, number, *_), (there, same, *_) = (
        Work(site.machine(), rig).holder.split("|") for _ in range(2)
    )
    assert here.partition(".")[0] == there.partition(".")[0] == "machine"
    assert number == same == "1"
    assert here != there


SESSIONS = "SELECT pid FROM pg_stat_activity WHERE client_addr = %s"


def cabled(site: Site, rig: Rig) -> tuple[NamespacedMachine, Work]:
    """A machine whose cable can be pulled (TCP to a relay goes on), and a worker on it at rest."""
    machine = site.machine()
    assert isinstance(machine, NamespacedMachine)
    work = Work(machine, rig, parameters=NOTICING)
    rig.app.write({1: "one"})
    work.until("applied")
    wait_until(lambda: is_done(rig), what="rest")
    return machine, work


@only(NamespacedSite)
def test_a_worker_notices_that_its_server_is_gone(site: Site, rig: Rig) -> None:
    machine, work = cabled(site, rig)
    machine.cut()
    assert "database_unavailable" in work.until("failed")
    rig.app.write({1: "two", 2: "more"})
    machine.mend()
    wait_until(lambda: is_done(rig), what="rest")
    rig.assert_right()


@only(NamespacedSite)
def test_the_server_notices_that_a_machine_is_gone(site: Site, rig: Rig) -> None:
    machine, _ = cabled(site, rig)
    assert rows(rig, SESSIONS, machine.host)
    machine.power_off()
    wait_until(lambda: not rows(rig, SESSIONS, machine.host), what="the sessions' end")


def options_of(db: Connection) -> dict[str, str]:
    """What both ends of a connection know of when the other is gone."""
    with socket.socket(fileno=os.dup(db.fileno())) as ours:
        said = {
            name: str(ours.getsockopt(socket.IPPROTO_TCP, number))
            for name, number in (("idle", socket.TCP_KEEPIDLE), ("user", socket.TCP_USER_TIMEOUT))
        }
    for name in ("tcp_keepalives_idle", "tcp_user_timeout", "idle_in_transaction_session_timeout"):
        found: Any = db.execute("SELECT current_setting(%s)", (name,)).fetchone()
        said[name] = found[0]
    return said


@only(Site)
def test_both_ends_are_told_when_the_other_is_gone(site: Site, rig: Rig) -> None:
    server, database = site.server, app_of(rig).db.info.dbname
    with closing(connect(server.there(server.host, server.port, database))) as db:
        assert options_of(db) == {
            "idle": "10",
            "user": "30000",
            "tcp_keepalives_idle": "10",
            "tcp_user_timeout": "30000",
            "idle_in_transaction_session_timeout": "30s",
        }
    with closing(connect(server.there(server.host, server.port, database, **NOTICING))) as db:
        assert options_of(db) == {
            "idle": "1",
            "user": "2000",
            "tcp_keepalives_idle": "1",
            "tcp_user_timeout": "2000",
            "idle_in_transaction_session_timeout": "2s",
        }


@only(Site)
def test_nobody_comes_in_without_the_password(site: Site, rig: Rig) -> None:
    server, database = site.server, app_of(rig).db.info.dbname
    address = server.there(server.host, server.port, database)
    with pytest.raises(DatabaseError, match="the login was refused"):
        connect(address.replace(server.password, "wrong"))
