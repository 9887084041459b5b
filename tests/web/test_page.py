"""The page in a real browser: typing, changes, the keyboard, dark and light, hostile rows."""

import contextlib

import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect

from tests.web.conftest import Site

pytestmark = [pytest.mark.web, pytest.mark.model]


def test_results_come_as_one_types(page: Page) -> None:
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("sound of a kitten", delay=15)
    first = page.locator("#results > li").first
    expect(first.locator(".name")).to_have_text("Cats")
    expect(first.locator("mark:not(.skipped)")).to_contain_text("purr")
    expect(first.locator(".place")).to_have_text("pages 1")
    assert float(first.locator(".score").inner_text()) > 0.2
    expect(page.locator("#said")).to_contain_text("nearest rows in")
    assert "q=sound+of+a+kitten" in page.url


def test_the_best_passage_is_marked_and_in_sight(page: Page, site: Site) -> None:
    """Offsets count code points; the emoji before the passage would shift UTF-16 offsets."""
    page.keyboard.type("hail destroyed glass")
    first = page.locator("#results > li").first
    expect(first.locator(".name")).to_have_text("Weather")
    mark = first.locator("mark:not(.skipped)")
    expect(mark).to_be_in_viewport()
    found = site.binding.search("hail destroyed glass", 1)[0]
    passage = found.row.text[found.hit.chunk.start : found.hit.chunk.end]
    assert "Hailstones as big as walnuts" in passage
    assert mark.text_content() == passage
    whole = first.locator(".text").evaluate(
        "p => [...p.childNodes].filter(n => n.className !== 'ellipsis')"
        ".map(n => n.textContent).join('')"
    )
    assert whole == found.row.text


def test_a_change_of_a_row_changes_the_results(page: Page, site: Site) -> None:
    page.keyboard.type("a rocket flies to the moon")
    names = page.locator("#results > li .name")
    expect(names.first).to_be_visible()
    assert names.first.inner_text() != "Cooking"
    site.write("UPDATE pages SET body = ? WHERE id = 3", "The rocket took three days to the moon.")
    first = page.locator("#results > li").first
    expect(first.locator(".name")).to_have_text("Cooking")
    expect(first.locator("mark:not(.skipped)")).to_contain_text("three days to the moon")
    site.write("DELETE FROM pages WHERE id = 3")
    expect(page.locator("#results > li .name", has_text="Cooking")).to_have_count(0)
    expect(page.locator("#state")).to_contain_text("5 rows")
    expect(page.locator("#state")).to_contain_text("5 current")


def test_the_state_is_shown(page: Page) -> None:
    state = page.locator("#state")
    for part in ("pages", "6 rows", "6 current", "0 pending", "lag 0.0 s"):
        expect(state).to_contain_text(part)


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.type("planet")
    expect(page.locator("#results")).to_have_attribute("data-q", "planet")
    items = page.locator("#results > li")
    page.keyboard.press("ArrowDown")
    expect(items.nth(0)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#q")).to_have_attribute("aria-activedescendant", "result-0")
    page.keyboard.press("ArrowDown")
    expect(items.nth(0)).to_have_attribute("aria-selected", "false")
    expect(items.nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    row = items.nth(0).locator("dl.row")
    expect(row).to_be_visible()
    expect(row.locator("dt")).to_have_text(["id", "title", "body"])
    page.keyboard.press("Escape")
    expect(row).to_be_hidden()
    page.keyboard.press("Escape")
    expect(items.nth(0)).to_have_attribute("aria-selected", "false")
    page.keyboard.press("Escape")
    expect(page.locator("#q")).to_have_value("")
    expect(items).to_have_count(0)
    expect(page.locator("#hello")).to_be_visible()
    page.locator("#q").blur()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#q")).to_have_value("")


def test_a_selected_result_stays_selected_when_the_rows_change(page: Page, site: Site) -> None:
    page.keyboard.type("planet")
    expect(page.locator("#results")).to_have_attribute("data-q", "planet")
    items = page.locator("#results > li")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    site.write("INSERT INTO pages (title, body) VALUES ('Planet', 'planet')")
    expect(items.first.locator(".name")).to_have_text("Planet")
    kept = page.locator("#results > li[aria-selected=true]")
    expect(kept.locator(".name")).to_have_text("Planets")
    expect(kept.locator("dl.row")).to_be_visible()


def test_rows_are_text_and_never_markup(page: Page) -> None:
    page.keyboard.type("bicycle")
    first = page.locator("#results > li").first
    expect(first.locator(".name")).to_have_text("<img src=x onerror=alert(1)>")
    expect(first.locator("mark:not(.skipped)")).to_contain_text(
        "<script>window.hacked = 1</script>"
    )
    assert page.locator("#results img, #results script").count() == 0
    assert page.evaluate("window.hacked") is None


def test_dark_and_light(page: Page, browser: Browser, site: Site) -> None:
    light, dark = "rgb(251, 251, 249)", "rgb(20, 23, 22)"

    def expect_paper(of: Page, colour: str) -> None:
        expect(of.locator("body")).to_have_css("background-color", colour)

    expect_paper(page, light)
    page.emulate_media(color_scheme="dark")
    expect_paper(page, dark)
    page.locator("#theme").click()
    expect_paper(page, light)
    page.reload()
    expect_paper(page, light)  # the choice is remembered
    other = browser.new_page(color_scheme="dark")
    other.goto(site.url)
    expect_paper(other, dark)
    other.close()


def test_a_search_has_an_address(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/?q=central+bank")
    expect(page.locator("#q")).to_have_value("central bank")
    expect(page.locator("#results > li .name").first).to_have_text("Money")
    expect(page).to_have_title("central bank · Likewise")


def test_an_answer_that_comes_late_is_not_shown(page: Page) -> None:
    """The first question's answer is held back until the second one's is there."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if '"planet"' in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route("**/search", hold)
    with page.expect_request(lambda request: '"planet"' in (request.post_data or "")):
        page.keyboard.type("planet")
    page.locator("#q").fill("pasta")
    results = page.locator("#results")
    expect(results).to_have_attribute("data-q", "pasta")
    for route in held:
        # The page has given the question up: then there is nobody to answer.
        with contextlib.suppress(Error):
            route.fulfill(response=route.fetch())
    # What comes after the late answer on the same way is here: so was it.
    page.evaluate("() => fetch('/health').then(answer => answer.text())")
    expect(results).to_have_attribute("data-q", "pasta")
    expect(results.locator("li .name").first).to_have_text("Cooking")


def test_a_server_that_went_away_is_said(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(site.url)
    expect(page.locator("#state")).to_contain_text("6 rows")
    page.route("**/*", lambda route: route.abort())
    expect(page.locator("#state")).to_contain_text("The server doesn't answer.")
    page.locator("#q").fill("planet")
    expect(page.locator("#said")).to_have_text("The server doesn't answer.")
    page.close()
