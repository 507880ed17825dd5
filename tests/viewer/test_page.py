"""The page in headless Chromium: it is read, filtered, and used with the keyboard alone."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect, sync_playwright

from examples.tau2.viewer.report_page import write_report
from tests.viewer.runs import HOSTILE, TASKS

# Playwright takes this timeout as none; its expectations need a number of milliseconds
NO_LIMIT = 0
expect.set_options(timeout=3_600_000)
# tells whether another select of episodes to compare with has replaced `node`, and has the focus
IS_DRAWN_ANEW = "node => !node.isConnected && document.activeElement.id === 'compare'"


@pytest.fixture(scope="module")
def training_page(training_run) -> Path:
    return write_report(training_run)


@pytest.fixture(scope="module")
def evaluation_page(evaluation) -> Path:
    return write_report(evaluation)


@pytest.fixture(scope="module")
def browser(training_page, evaluation_page):
    """Chromium, without Playwright's limits of time: pytest's timeout ends what hangs."""
    # the pages are made first: asyncio.run does not run beside Playwright
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=arguments, timeout=NO_LIMIT
        )
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """`show(page file)` opens a page, which may neither report an error nor load another file."""
    complaints, contexts = [], []

    def complain_of_other_files(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            complaints.append(request.url)

    def open_page(path: Path, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        context.set_default_timeout(NO_LIMIT)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", complain_of_other_files)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def count(page) -> str:
    return page.locator("output[name=count]").text_content()


def test_curves_are_drawn_and_a_click_on_a_step_chooses_its_episodes(show, training_page):
    page = show(training_page)
    page.locator("#charts figure:nth-child(9) .main-svg").first.wait_for()
    assert page.locator("#charts figcaption").all_text_contents()[0] == "Reward"
    # `force` clicks through the layer that catches the mouse
    page.locator("#charts figure:nth-child(3) .point").first.click(force=True)
    assert page.locator("input[name=step]").input_value() == "1"
    assert count(page) == "6 of 13 episodes"


def test_episodes_are_filtered_and_sorted(show, training_page):
    page = show(training_page)
    assert count(page) == "13 episodes"
    for name, value, expected in (
        ("step", "2", 7),
        ("step", "1-2", 13),
        ("task", "UPDATE", 4 + 2),
        ("reward", "solved", 5),
        ("reward", "none", 8),
        ("termination", "agent_stop", 13),
        ("failure", "extra_write", 4),
        ("purpose", "eval", 1),
    ):
        field = page.locator(f"#filters [name={name}]")
        if field.evaluate("node => node.tagName") == "INPUT":
            field.fill(value)
        else:
            field.select_option(value)
        assert page.locator("#list a:not([hidden])").count() == expected
        assert count(page) == ("13 episodes" if expected == 13 else f"{expected} of 13 episodes")
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("output")).to_have_text("13 episodes")
    page.locator("input[name=step]").fill("2-")
    assert "a range, e.g. 2-8" in count(page)
    page.locator("input[name=step]").fill("")
    page.locator("input[name=malformed]").check()
    assert count(page) == "8 of 13 episodes"
    page.locator("input[name=malformed]").uncheck()
    page.get_by_role("button", name="reward").click()
    assert page.locator("#list a > span:nth-child(3)").all_text_contents() == ["0"] * 8 + ["1"] * 5


def test_a_conversation_is_read_beside_what_the_task_expects(show, training_page):
    page = show(training_page)
    page.locator("input[name=task]").fill(TASKS[1])
    page.locator("select[name=reward]").select_option("none")
    page.locator("#list a:not([hidden])").first.click()
    reading = page.locator("#reading")
    reading.locator(".message").first.wait_for()
    heads = reading.locator(".message.assistant .head").all_text_contents()
    for text in ("reward -0.1", "format error: unknown tool", "100 + 10 tokens"):
        assert text in heads[0]
    assert reading.get_by_text("Actions: 1 missing, 2 extra").is_visible()
    assert reading.get_by_role("cell", name="agent.tasks.task_1.status").is_visible()
    result = reading.locator(".message.tool details").first
    assert result.get_attribute("open") is None
    assert "error of no_such_tool" in result.locator("summary").text_content()
    page.keyboard.press("f")
    assert result.locator("pre").is_visible()
    assert reading.locator(".message details:not([open])").count() == 0
    reading.get_by_role("button", name="3", exact=True).click()
    assert "create_task" in reading.locator(".message.here").text_content()


def test_kinds_of_failure_are_counted_in_the_listed_episodes(show, training_page):
    page = show(training_page)
    page.locator("#failures summary").click()
    cells = page.locator("#failures th, #failures td")
    kinds = ["unsolved", "unknown_tool", "missing_write", "wrong_arguments", "extra_write"]
    by_domain = ["domain", *kinds, "mock", "8 of 13", "8", "4", "4", "4"]
    by_task = ["task", *kinds, TASKS[0], "4 of 7", "4", "0", "4", "0"]
    by_task += [TASKS[1], "4 of 6", "4", "4", "0", "4"]
    assert cells.all_text_contents() == by_domain + by_task
    page.locator("input[name=step]").fill("2")
    page.locator("select[name=reward]").select_option("solved")
    assert page.locator("#failures > div").text_content() == "none"


def test_a_models_text_is_never_read_as_html(show, training_page):
    page = show(training_page)
    page.locator("select[name=reward]").select_option("none")
    page.locator("#list a:not([hidden])").first.click()
    page.locator("#reading .message").first.wait_for()
    page.keyboard.press("f")
    thoughts = page.locator("#reading .think pre").text_content()
    assert HOSTILE.replace("\u2028", "") in thoughts.replace("\u2028", "")
    assert page.locator("#reading img, #reading script, #reading .message .text b").count() == 0
    assert page.evaluate("typeof hacked") == "undefined"


def test_two_episodes_of_a_group_stand_side_by_side(show, training_page):
    page = show(training_page)
    page.locator("#list a").filter(has_text="update").first.click()
    of_other_reward = page.locator("#compare option").filter(
        has_not_text=page.locator("#reading .tags span").first.text_content()
    )
    page.locator("#compare").select_option(of_other_reward.last.get_attribute("value"))
    columns = page.locator("#reading .columns > section")
    columns.nth(1).wait_for()
    boxes = [columns.nth(number).bounding_box() for number in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert page.locator(".parting").count() == 2
    page.go_back()
    expect(columns).to_have_count(1)


def test_the_keyboard_reaches_everything(show, training_page):
    page = show(training_page)
    for key, fragment in (
        ("j", "#0"),
        ("j", "#1"),
        ("k", "#0"),
        ("ArrowDown", "#1"),
        ("Escape", "#browser"),
    ):
        page.keyboard.press(key)
        page.wait_for_url(f"{training_page.as_uri()}{fragment}")
    page.keyboard.press("/")
    page.keyboard.type("update")
    assert count(page) == "6 of 13 episodes"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.locator("#compare").wait_for()
    page.keyboard.press("c")
    for _ in range(2):
        before = page.locator("#compare").element_handle()
        page.keyboard.press("ArrowDown")
        page.wait_for_function(IS_DRAWN_ANEW, arg=before)
    assert page.evaluate("document.activeElement.id") == "compare"
    assert page.locator("#compare").evaluate("node => node.selectedIndex") == 2
    page.keyboard.press("Escape")
    page.locator("input[name=malformed]").focus()
    page.keyboard.press("j")
    expect(page.locator("#reading .columns > section")).to_have_count(1)


def test_five_thousand_episodes_are_listed_and_the_last_can_be_opened(show, evaluation_page):
    page = show(evaluation_page)
    assert count(page) == "5000 episodes"
    last = page.locator("#list a").last
    last.scroll_into_view_if_needed()
    last.click()
    page.locator("#reading .message").first.wait_for()
    assert "trial 2499" in page.locator("#reading .tags").nth(1).text_content()
    assert page.locator(".facts").text_content().count("[0.400, 0.700]") == 1
    page.locator("#charts figure:nth-child(4) .main-svg").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off_and_all_can_be_read(show, training_page, width, scheme):
    page = show(training_page, width, scheme)
    page.locator("#charts figure:nth-child(9) .main-svg").first.wait_for()
    page.locator("#failures summary").click()
    page.evaluate("location.hash = '1'")
    page.locator("#reading .message").first.wait_for()
    page.keyboard.press("f")
    assert page.evaluate(WIDER_THAN_ITS_BOX) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # the level AA of WCAG 2.2
    assert min(page.evaluate(CONTRASTS)) >= 4.5


# the elements with text that is wider than their box: it is hidden, or needs a scroll bar
WIDER_THAN_ITS_BOX = """[...document.querySelectorAll("body, body *")]
  .filter((node) => !node.closest("figure, select, script, input"))
  .filter((node) => getComputedStyle(node).display != "inline" && node.clientWidth)
  .filter((node) => node.scrollWidth > node.clientWidth + 1)
  .map((node) => node.outerHTML.slice(0, 100))"""

# the contrast of each element that has text of its own, by the formula of WCAG 2.2
CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const weights = [0.2126, 0.7152, 0.0722];
  const luminance = (color) => weights.reduce(
    (sum, weight, index) => sum + weight * linear(channels(color)[index] / 255), 0);
  const back = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return channels(color)[3] === 0 ? back(node.parentElement) : color;
  };
  const hasText = (node) =>
    [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  return [...document.querySelectorAll("header *, #browser *")]
    .filter((node) => hasText(node) && node.checkVisibility())
    .map((node) => [luminance(getComputedStyle(node).color), luminance(back(node))])
    .map((pair) => pair.sort((a, b) => b - a))
    .map(([light, dark]) => (light + 0.05) / (dark + 0.05));
}"""
