"""How long the page of `report.py` takes to make, to open and to scroll: of 50 episodes and of 5,000, in one run.

    python -m benchmarks.report_page

The episodes are the expected actions of airline's tasks, repeated; Debian's Chromium, headless, opens the page.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from examples.tau2 import report
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from tests.scripted import ground_truth, replay

SIZES = (50, 5000)
OPENED = 5  # times each, in turn
# milliseconds from frame to frame while the list is scrolled by 500 pixels in each
SCROLL = """async () => {
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


def main() -> None:
    episodes = asyncio.run(play())
    with tempfile.TemporaryDirectory() as folder:
        pages = {size: make(episodes, size, Path(folder) / str(size)) for size in SIZES}
        with sync_playwright() as playwright:
            arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=arguments
            )
            rounds = [
                {size: open_page(browser, page["page"]) for size, page in pages.items()}
                for _ in range(OPENED)
            ]
            browser.close()
    print(f"{'episodes':36}" + "".join(f"{size:10,}" for size in SIZES) + "     ratio")
    table = {name: [pages[size][name] for size in SIZES] for name in ("s to make", "MB")}
    table |= {
        name: [statistics.median(r[size][name] for r in rounds) for size in SIZES]
        for name in rounds[0][SIZES[0]]
    }
    for name, (few, many) in table.items():
        print(f"{name:36}{few:10.2f}{many:10.2f}{many / few:10.1f}")


async def play() -> list[bytes]:
    """Lines of an evaluation's `episodes.jsonl`, without the number of the trial."""
    workflow = Tau2AgentWorkflow({"domain": "airline", "user_llm": "scripted"})
    lines = []
    for task in environment.load_tasks("airline").values():
        agent, user = ground_truth(task)
        workflow.user_llm = replay(user)
        info = await workflow.play_with(replay(agent), {"task_id": task.id})
        lines.append(info.to_json(indent=None))
    return lines


def make(episodes: list[bytes], size: int, folder: Path) -> dict:
    folder.mkdir()
    with (folder / "episodes.jsonl").open("wb") as file:
        for number, line in enumerate(islice(cycle(episodes), size)):
            file.write(b"%d %b\n" % (number // len(episodes), line))
    start = time.perf_counter()
    page = report.write(folder)
    return {"s to make": time.perf_counter() - start, "MB": page.stat().st_size / 1e6, "page": page}


def open_page(browser: Browser, path: Path) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.locator("#charts figure:nth-child(3) .main-svg").first.wait_for()
    drawn = time.perf_counter() - start
    loaded = (
        page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart") / 1e3
    )
    times = {"s until it is loaded, the list drawn": loaded, "s until all charts are drawn": drawn}
    frames = page.evaluate(SCROLL)
    times |= {
        "ms a frame of scrolling, median": statistics.median(frames),
        "ms a frame, longest": max(frames),
    }
    start = time.perf_counter()
    page.locator("#list a").last.click()
    page.locator("#reading .message").first.wait_for()
    times["s until an episode is shown"] = time.perf_counter() - start
    page.close()
    return times


if __name__ == "__main__":
    main()
