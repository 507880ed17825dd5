"""Measure how long the page of `report.py` takes to make, to open and to scroll.

    python -m benchmarks.report_page

One run compares a page of 50 episodes with one of 5,000. The episodes are the expected actions of
airline's tasks, repeated. Chromium, headless, opens the pages.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.viewer.report_page import write_report
from tests.scripted import ground_truth, replay

SIZES = (50, 5000)
# how often each page is opened; the pages take turns
ROUNDS = 5
CHROMIUM_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# milliseconds from frame to frame while the list is scrolled by 500 pixels in each
FRAME_TIMES = """async () => {
  const pane = document.querySelector("nav"), frames = [];
  let last = await new Promise(requestAnimationFrame);
  while (frames.length < 100) {
    pane.scrollTop += 500;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
  }
  return frames;
}"""
LOAD_TIME = "performance.timing.loadEventEnd - performance.timing.navigationStart"


@dataclass
class Page:
    """A page, the seconds that it took to make, and its size in MB."""

    path: Path
    seconds: float
    megabytes: float


def main() -> None:
    episodes = asyncio.run(play_tasks())
    with tempfile.TemporaryDirectory() as folder:
        pages = [make_page(episodes, size, Path(folder) / str(size)) for size in SIZES]
        rounds = measure_in_browser(pages)
    table = {
        "s to make": [page.seconds for page in pages],
        "MB": [page.megabytes for page in pages],
    }
    few, many = zip(*rounds, strict=True)
    for name in few[0]:
        table[name] = [statistics.median(times[name] for times in page) for page in (few, many)]
    sizes = "".join(f"{size:10,}" for size in SIZES)
    print(f"{'episodes':36}{sizes}     ratio")
    for name, (of_few, of_many) in table.items():
        print(f"{name:36}{of_few:10.2f}{of_many:10.2f}{of_many / of_few:10.1f}")


async def play_tasks() -> list[bytes]:
    """Play each task of airline once; return the lines of `episodes.jsonl` without their number."""
    workflow = Tau2AgentWorkflow({"domain": "airline", "user_llm": "scripted"})
    lines = []
    for task in environment.load_tasks("airline").values():
        agent, user = ground_truth(task)
        workflow.user_llm = replay(user)
        info = await workflow.play_with(replay(agent), {"task_id": task.id})
        lines.append(info.to_json(indent=None))
    return lines


def make_page(episodes: list[bytes], size: int, folder: Path) -> Page:
    """Write an evaluation of this number of episodes, and its page."""
    folder.mkdir()
    with (folder / "episodes.jsonl").open("wb") as file:
        for number, line in enumerate(islice(cycle(episodes), size)):
            file.write(b"%d %b\n" % (number // len(episodes), line))
    start = time.perf_counter()
    path = write_report(folder)
    return Page(path, time.perf_counter() - start, path.stat().st_size / 1e6)


def measure_in_browser(pages: list[Page]) -> list[list[dict[str, float]]]:
    """Open the pages in turn, several times; the result has the times of each page by round."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS
        )
        rounds = [[open_page(browser, page.path) for page in pages] for _ in range(ROUNDS)]
        browser.close()
    return rounds


def open_page(browser: Browser, path: Path) -> dict[str, float]:
    """Open a page, scroll its list, and open the last episode; return what each step took."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.locator("#charts figure:nth-child(3) .main-svg").first.wait_for()
    drawn = time.perf_counter() - start
    loaded = page.evaluate(LOAD_TIME) / 1000
    frames = page.evaluate(FRAME_TIMES)
    start = time.perf_counter()
    page.locator("#list a").last.click()
    page.locator("#reading .message").first.wait_for()
    shown = time.perf_counter() - start
    page.close()
    return {
        "s until it is loaded, the list drawn": loaded,
        "s until all charts are drawn": drawn,
        "ms a frame of scrolling, median": statistics.median(frames),
        "ms a frame, longest": max(frames),
        "s until an episode is shown": shown,
    }


if __name__ == "__main__":
    main()
