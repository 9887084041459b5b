"""A real server over a real SQLite file and the real model, and a real browser looking at it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from likewise.base.spec import BindingSpec
from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.bindings import LiveBinding
from likewise.server.listen import address_of, listen
from likewise.server.run import server
from tests.binding_kit import create_binding
from tests.support import BUSY_MS, LIMIT, wait_until

expect.set_options(timeout=1000 * LIMIT)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ROWS = [
    ("Cats", "Cats are small carnivorous mammals that purr when they are content."),
    ("Planets", "Jupiter is the largest planet of the solar system."),
    ("Cooking", "Boil the pasta in salted water for nine minutes."),
    ("Money", "Interest rates were raised by the central bank."),
    (
        "<img src=x onerror=alert(1)>",
        "<script>window.hacked = 1</script> A bicycle has two wheels.",
    ),
    (
        "Weather",
        "🌧️🌧️ " + "The barometer shows the pressure of the air. " * 60 + "\n\n"
        "Hailstones as big as walnuts broke the windows of the greenhouse.",
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: Playwright keeps an event loop running in this thread."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Iterator[Service]:
    loaded = service.load(model_folder, precision="f32")
    yield loaded
    loaded.close()


@dataclass
class Site:
    """A server that runs, and the database behind it."""

    url: str
    database: Path
    binding: LiveBinding

    def write(self, sql: str, *values: str | int) -> None:
        """What an application does that knows nothing of us."""
        # Not sqlite3: two copies of SQLite in one process undo each other's locks.
        connection = apsw.Connection(str(self.database))
        connection.set_busy_timeout(BUSY_MS)
        connection.execute(sql, values)
        connection.close()


@pytest.fixture
def site(model: Service, tmp_path: Path) -> Iterator[Site]:
    path = tmp_path / "pages.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    connection.executemany("INSERT INTO pages (title, body) VALUES (?, ?)", ROWS)
    connection.close()
    spec = BindingSpec("pages", f"sqlite:{path}", "pages", "{title}\n{body}", chunk="tokens:64/8")
    record = create_binding(spec, model.space.with_chunker(spec.chunk))
    live = LiveBinding(record, lambda name: model)
    live.start()
    wait_until(lambda: live.status().current == len(ROWS), what="the first filling")
    listener = listen("127.0.0.1", 0)
    running = server(build({"minilm": model}, [live], allowed_hosts=LOOPBACK_HOSTS))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield Site(address_of(listener), path, live)
    running.should_exit = True
    thread.join()
    live.stop()
    listener.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """The page, opened; a script error or a message on its console fails the test."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1000, "height": 760}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(1000 * LIMIT)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(site.url)
    # The box takes the focus a moment after the page is there; a key that comes before is lost.
    expect(page.locator("#q")).to_be_focused()
    yield page
    context.close()
    assert complaints == []
