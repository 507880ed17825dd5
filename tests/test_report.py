"""The report of a run: what it is made from, and its page in headless Chromium."""

import asyncio
import dataclasses
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from examples.tau2 import report
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data import tasks
from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import Tau2RunInfo, write_trajectory
from tests.own_tasks import mock_entry, write
from tests.scripted import ground_truth, replay, say

TASKS = ("create_task_1", "update_task_1")
HOSTILE = (
    "<img src=x onerror=hacked=1></script><script>hacked=2</script><!-- \u2028 <b>bold</b> [[7*7]]"
)
STATISTICS = {
    "rollout/episode/reward": 0.5,
    "eval-rollout/episode/reward": 0.4,
    "rollout/episode/solved": 0.5,
    "rollout/episode/rejected": 0.1,
    "rollout/termination/agent_stop": 0.9,
    "rollout/termination/timeout": 0.1,
    "rollout/termination/max_steps": 0.0,
    "rollout/episode/steps": 3.0,
    "rollout/agent/turns": 2.0,
    "rollout/agent/completion_tokens": 30.0,
    "timeperf/rollout": 5.0,
    "timeperf/rollout__count": 1.0,
    "timeperf/train_step": 2.0,
    "ppo_actor/update/grad_norm": 0.3,
    "ppo_actor/update/behave_approx_kl/avg": 1e-4,
}


def play(task_id: str, says: list[dict], **fields) -> Tau2RunInfo:
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    info = asyncio.run(workflow.play_with(replay(says), {"task_id": task_id}))
    for name, value in fields.items():
        setattr(info, name, value)
    return info


def solved(task_id: str, **fields) -> Tau2RunInfo:
    return play(
        task_id, ground_truth(environment.find_task("mock", task_id), solo_mode=True)[0], **fields
    )


def unsolved(task_id: str, **fields) -> Tau2RunInfo:
    """Other than expected, with an unknown tool on the way and words that a page must not take for its own."""
    says = [
        say(None, ("no_such_tool", {"text": HOSTILE})),
        say(f"<think>{HOSTILE}</think>", ("create_task", {"user_id": "user_1", "title": HOSTILE})),
        say(None, ("done", {})),
    ]
    return play(task_id, says, **fields)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a training run: two tasks, two weight versions, one solved and two unsolved episodes each; one evaluation."""
    folder = tmp_path_factory.mktemp("runs") / "demo" / "first"
    for version in range(2):
        for task_id in TASKS:
            for player in (solved, unsolved, unsolved):
                write_trajectory(player(task_id, weight_version=version), folder / "generated")
    write_trajectory(solved(TASKS[0], weight_version=2, is_eval=True), folder / "generated")
    lines = [json.dumps({"step": step, "seconds": 9.0, **STATISTICS}) for step in (1, 2)]
    (folder / "statistics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "half')
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Path:
    """The folder of an evaluation of 5,000 trials, the last one half-written."""
    folder = tmp_path_factory.mktemp("evaluations") / "mock-tiny"
    folder.mkdir()
    lines = [info.to_json(indent=None) for info in (solved(TASKS[0]), unsolved(TASKS[1]))]
    with (folder / "episodes.jsonl").open("wb") as file:
        for number in range(5000):
            file.write(b"%d %b\n" % (number // 2, lines[number % 2]))
        file.write(b"2500 " + lines[0][:200])
    summary = {
        "episodes": 5000,
        "pass^1": 0.5,
        "pass^1_interval": [0.4, 0.7],
        "pass^2": 0.3,
        "pass^2_interval": [0.1, 0.4],
        "missing": [{}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


# ---- what the page is made from


def test_episodes_are_found_in_the_order_of_the_weights_and_groups_stay_together(run):
    groups = [source.group for source in report.sources(run)]
    assert groups == sorted(groups) and len(groups) == 13 and groups[-1] == (2, "eval", TASKS[0])
    assert report.sources(run / "generated") == report.sources(
        run
    )  # the output_dir of a workflow without AReaL


def test_the_step_of_an_episode_is_that_of_the_statistics():
    trained, evaluated = (
        solved(TASKS[0], weight_version=3, is_eval=is_eval) for is_eval in (False, True)
    )
    assert [report.row(info, None)["step"] for info in (trained, evaluated)] == [4, 3]
    assert (
        report.row(solved(TASKS[0]), 2).items() >= {"kind": "eval", "step": 0, "trial": 2}.items()
    )


def test_a_long_run_is_thinned_evenly_by_whole_groups():
    found = [
        report.Source((step, "train", task), b"")
        for step in range(100)
        for task in "ab"
        for _ in range(8)
    ]
    chosen = report.evenly(found, 400)
    steps = [source.group[0] for source in chosen]
    assert 360 <= len(chosen) <= 400 and len(chosen) % 8 == 0
    assert min(steps) < 5 and max(steps) > 95 and max(b - a for a, b in pairwise(steps)) <= 4
    assert report.evenly(found, 5000) == found
    assert report.evenly(found, 1) == found[:8]


def test_a_conversation_comes_with_rewards_format_errors_actions_and_databases():
    shown = report.conversation(unsolved(TASKS[1]))
    assert [message.get("malformed") for message in shown["messages"][::2]] == [
        "unknown_tool",
        None,
        None,
    ]
    assert [message.get("reward") for message in shown["messages"][::2]] == [-0.1, None, 0.0]
    assert [row["status"] for row in shown["actions"]] == ["missing", "extra", "extra"]
    (status,) = (
        found for found in shown["database"] if found["path"] == "agent.tasks.task_1.status"
    )
    assert (status["expected"], status["left"]) == ('"completed"', '"pending"')
    assert "problem" not in shown and report.conversation(solved(TASKS[0]))["database"] == []


def test_an_episode_of_a_task_that_is_gone_is_shown_with_the_reason():
    shown = report.conversation(dataclasses.replace(solved(TASKS[0]), task_id="gone"))
    assert "gone" in shown["problem"] and shown["messages"] and "actions" not in shown


def called(name: str, arguments: dict) -> dict:
    """What is shown of an episode with this call."""
    return report._bounded(
        report.conversation(play(TASKS[0], [say(None, (name, arguments)), say(None, ("done", {}))]))
    )


def test_texts_are_cut_where_a_browser_could_not_lay_them_out():
    shown = called("create_task", {"user_id": "user_1", "title": "A" * 10**6})
    text = shown["messages"][0]["calls"][0]["arguments"]
    assert "more characters are in the trajectory" in text and len(text) < 1.01 * report.MAX_TEXT
    assert max(map(len, text.split("\u200b"))) <= report.MAX_RUN + 100
    assert len(json.dumps(shown)) < 10 * report.MAX_TEXT


def test_numbers_are_shown_as_they_are():
    (call,) = called("x", {"n": 12345678901234567890, "f": 1.0})["messages"][0]["calls"]
    assert call["brief"] == "n=12345678901234567890, f=1.0"


def test_what_is_no_number_to_a_browser_is_null():
    odd = {"a": [float("nan"), 1.5], "b": float("inf"), "c": "NaN"}
    assert json.loads(report.as_json(odd)) == {"a": [None, 1.5], "b": None, "c": "NaN"}


def test_a_tasks_file_that_has_changed_is_named(tmp_path):
    path = write(tmp_path, [mock_entry("user_1", "Lunch", id="first")])
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    info = asyncio.run(
        workflow.play_with(replay([say(None, ("done", {}))]), {"tasks_file": path, "row": 1})
    )
    assert [row["status"] for row in report.conversation(info)["actions"]] == ["missing"]
    write(tmp_path, [mock_entry("user_1", "Dinner", id="second")])
    tasks.read.cache_clear()
    shown = report.conversation(info)
    assert "has changed" in shown["problem"] and "actions" not in shown


def test_odd_records_are_named_and_the_rest_is_shown(run, evaluation, tmp_path):
    odd = tmp_path / "odd"
    shutil.copytree(run, odd)
    lines = [
        "",
        "{}",
        "[]",
        "junk",
        '{"step": 3, "rollout/episode/reward": NaN, "timeperf/x": null}',
    ]
    with (odd / "statistics.jsonl").open("w") as file:
        file.write(
            "\n".join([*(run / "statistics.jsonl").read_text().splitlines()[:2], *lines, ""])
        )
    (odd / "generated/train/0/x-1.json").symlink_to("nowhere")
    page = report.write(odd).read_text()
    assert "4 records cannot be read" in page
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["charts"][0]["data"][0]["y"] == [0.5, 0.5, None] and len(data["rows"]) == 13
    odd = tmp_path / "evaluation"
    shutil.copytree(evaluation, odd)
    lines = (odd / "episodes.jsonl").read_bytes().splitlines(keepends=True)[:2]
    (odd / "episodes.jsonl").write_bytes(b"".join([b"junk\n", *lines, b"\n"]))
    page = report.write(odd, tmp_path).read_text()  # a folder: into it
    assert (
        "1 records cannot be read" in page and "[0.400, 0.700]" not in page
    )  # the summary is of other episodes
    assert (tmp_path / "report.html").exists()


def test_chunks_hold_all_documents_at_their_places(monkeypatch):
    monkeypatch.setattr(report, "CHUNK", 40)
    documents = [{"text": "é" * length} for length in (5, 30, 50, 1)]
    places, chunks = [], []
    for where, chunk in report.packed(documents):
        places += where
        chunks.append(json.loads(report.zlib.decompress(report.base64.b64decode(chunk))))
    assert (
        len(chunks) == 3 and [chunks[number][position] for number, position in places] == documents
    )


def test_curves_show_what_was_recorded_and_no_more():
    charts = report.training_charts([{"step": step, **STATISTICS} for step in (1, 2)])
    named = {chart["title"]: [trace["name"] for trace in chart["data"]] for chart in charts}
    assert named == {
        "Reward": ["train", "eval"],
        "Solved": ["train", "train, rejected"],
        "Why training episodes ended": ["agent_stop", "timeout"],
        "Length": ["steps", "turns"],
        "Tokens": ["agent, completion"],
        "Seconds by phase": ["rollout", "train_step"],
        "Gradient norm": ["of the policy"],
        "KL divergence": ["of training from rollout"],
    }
    assert list(charts[0]["data"][1]["x"]) == [1, 2] and list(charts[0]["data"][1]["y"]) == [
        0.4,
        0.4,
    ]


def test_a_supervised_run_has_curves_of_its_own():
    charts = report.training_charts(
        [{"step": 1, "sft/loss/avg": 0.5, "sft/grad_norm": 1.0, "timeperf/train_step": 1.0}]
    )
    assert [chart["title"] for chart in charts] == ["Loss", "Seconds by phase", "Gradient norm"]
    assert "loss, first → last" in report.facts(
        [{"step": 1, "seconds": 1.0, "sft/loss/avg": 0.5}], [], {}
    )


def test_files_that_cannot_be_read_are_named_on_the_page(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    next(folder.glob("generated/train/0/*.json")).write_text("{")
    page = report.write(folder).read_text()
    assert "1 records cannot be read" in page and list(folder.glob("*.partial")) == []


def test_the_command_names_the_page_or_says_what_is_wrong(run, tmp_path):
    command = [sys.executable, "examples/tau2/report.py"]
    root = Path(report.__file__).parents[2]
    result = subprocess.run(
        [*command, run, "--output", tmp_path / "page.html"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'page.html'}\n"), result.stderr
    for folder in (tmp_path / "nothing", tmp_path):
        result = subprocess.run([*command, folder], cwd=root, capture_output=True, text=True)
        assert (
            result.returncode == 2
            and "nothing has been recorded in" in result.stderr
            and "Traceback" not in result.stderr
        )


# ---- the page


@pytest.fixture(scope="module")
def training_page(run) -> Path:
    return report.write(run)


@pytest.fixture(scope="module")
def evaluation_page(evaluation) -> Path:
    return report.write(evaluation)


@pytest.fixture(scope="module")
def browser(
    training_page, evaluation_page
):  # first the pages: asyncio.run does not run beside Playwright
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
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """`show(page file)`: the page opened; it may neither complain nor load anything else."""
    complaints, contexts = [], []

    def open_page(path: Path, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:"))
                or complaints.append(request.url)
            ),
        )
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
    page.locator("#charts figure:nth-child(8) .main-svg").first.wait_for()
    assert page.locator("#charts figcaption").all_text_contents()[0] == "Reward"
    page.locator("#charts figure:nth-child(3) .point").first.click(
        force=True
    )  # through the layer that catches the mouse
    assert (
        page.locator("input[name=step]").input_value() == "1" and count(page) == "6 of 13 episodes"
    )


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
        ("kind", "eval", 1),
    ):
        field = page.locator(f"#filters [name={name}]")
        field.fill(value) if field.evaluate(
            "node => node.tagName"
        ) == "INPUT" else field.select_option(value)
        shown = page.locator("#list a:not([hidden])").count()
        assert (shown, count(page)) == (
            expected,
            f"{expected} of 13 episodes" if expected < 13 else "13 episodes",
        )
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
    assert (
        "reward -0.1" in heads[0]
        and "format error: unknown tool" in heads[0]
        and "100 + 10 tokens" in heads[0]
    )
    assert reading.get_by_text("Actions: 1 missing, 2 extra").is_visible()
    assert reading.get_by_role("cell", name="agent.tasks.task_1.status").is_visible()
    result = reading.locator(".message.tool details").first
    assert (
        result.get_attribute("open") is None
        and "error of no_such_tool" in result.locator("summary").text_content()
    )
    page.keyboard.press("f")
    assert (
        result.locator("pre").is_visible()
        and reading.locator(".message details:not([open])").count() == 0
    )
    reading.get_by_role("button", name="3", exact=True).click()
    assert "create_task" in reading.locator(".message.here").text_content()


def test_what_a_model_wrote_is_shown_as_text(show, training_page):
    page = show(training_page)
    page.locator("select[name=reward]").select_option("none")
    page.locator("#list a:not([hidden])").first.click()
    page.locator("#reading .message").first.wait_for()
    page.keyboard.press("f")
    assert HOSTILE.replace("\u2028", "") in page.locator(
        "#reading .think pre"
    ).text_content().replace("\u2028", "")
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
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(200)
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
    page.locator("#charts figure:nth-child(8) .main-svg").first.wait_for()
    page.evaluate("location.hash = '1'")
    page.locator("#reading .message").first.wait_for()
    page.keyboard.press("f")
    # text wider than what holds it, as a scroll bar or hidden overflow would have it
    wide = """[...document.querySelectorAll("body, body *")].filter((node) => !node.closest("figure, select, script, input")
        && node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display != "inline" && node.clientWidth)
        .map((node) => node.outerHTML.slice(0, 100))"""
    assert page.evaluate(wide) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert min(page.evaluate(CONTRASTS)) >= 4.5  # WCAG 2.2, AA


CONTRASTS = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => channels(color).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const back = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return channels(color)[3] === 0 ? back(node.parentElement) : color;
  };
  return [...document.querySelectorAll("header *, #browser *")]
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) && node.checkVisibility())
    .map((node) => [luminance(getComputedStyle(node).color), luminance(back(node))].sort((a, b) => b - a))
    .map(([light, dark]) => (light + 0.05) / (dark + 0.05));
}"""
