"""Writes the page of a run: one HTML file that needs no network."""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from plotly.offline import get_plotlyjs
from tqdm import tqdm

from examples.tau2.data.files import EVALUATION_FOLDER, RUN_FOLDER, kind_of
from examples.tau2.data.tasks_file import explain_error
from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.completions import to_utf8
from examples.tau2.episode.failure_kinds import FAILURE_KINDS
from examples.tau2.viewer.charts import evaluation_charts, training_charts
from examples.tau2.viewer.conversations import EpisodeEntry, conversation, episode_entry
from examples.tau2.viewer.embedding import Packer, bound_texts, browser_json
from examples.tau2.viewer.sources import (
    EvaluationSummary,
    StepRecord,
    find_episodes,
    read_statistics,
    read_summary,
    thin_out,
)

# at most this number of episodes are in a page; airline's take 20 MB
MAX_EPISODES = 5000
# a progress bar is shown for this number of episodes or more
MIN_PROGRESS = 100
# the page shows the first and the last value of these statistics, by name
FIRST_AND_LAST = {
    "reward": "rollout/episode/reward",
    "eval reward": "eval-rollout/episode/reward",
    "loss": "sft/loss/avg",
}


class PackedEpisode(EpisodeEntry):
    """An episode in the list, and where its conversation is: a chunk, and a position there."""

    chunk: int
    position: int


def write_report(folder: Path, output: Path | None = None, limit: int = MAX_EPISODES) -> Path:
    """Write the page of a run's folder with at most `limit` episodes, and return its path.

    `output` is a file or a folder; without it, the page is `<folder>/report.html`.

    Raises:
        ValueError: the folder has no record of a run.
        OSError: a file cannot be read or written.
    """
    path = _page_path(folder, output)
    records, unreadable = read_statistics(folder / "statistics.jsonl")
    found = find_episodes(folder)
    if not (records or found):
        raise ValueError(f"nothing has been recorded in {folder}: {_what_is_missing(folder)}")
    chosen = thin_out(found, limit)
    packer = Packer()
    episodes: list[PackedEpisode] = []
    played: set[str] = set()
    for source in tqdm(chosen, unit="episode", disable=len(found) < MIN_PROGRESS):
        try:
            info = source.read()
        except (ValueError, OSError) as error:
            unreadable.append(f"{source.name}: {explain_error(error)}")
            continue
        chunk, position = packer.add(bound_texts(conversation(info)))
        # older records do not say it
        if info.tau2:
            played.add(str(info.tau2))
        entry = episode_entry(info, source.trial)
        episodes.append(PackedEpisode(**entry, chunk=chunk, position=position))
    summary = read_summary(folder / "summary.json", len(found))
    charts = training_charts(records) if records else evaluation_charts(episodes, summary)
    facts = key_figures(records, episodes, summary)
    if played:
        facts["tau2"] = "; ".join(sorted(played))
    page = _template().stream(
        title=to_utf8(" / ".join(folder.resolve().parts[-2:])),
        time=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        facts=facts,
        left_out=len(found) - len(chosen),
        unreadable=unreadable,
        data=json.loads(
            browser_json({"episodes": episodes, "charts": charts, "failureKinds": FAILURE_KINDS})
        ),
        chunks=packer.chunks(),
        nonce=secrets.token_urlsafe(16),
        plotly=get_plotlyjs(),
    )
    with atomic_file(path) as file:
        file.writelines(page)
    return path


def key_figures(
    records: Sequence[StepRecord], episodes: Sequence[EpisodeEntry], summary: EvaluationSummary
) -> dict[str, str]:
    """Make the numbers at the top of the page, by name: of a training run, or of an evaluation."""
    return _training_figures(records) if records else _evaluation_figures(episodes, summary)


def _training_figures(records: Sequence[StepRecord]) -> dict[str, str]:
    figures = {"training steps": f"{records[-1]['step']:g}"}
    for name, statistic in FIRST_AND_LAST.items():
        values = [record[statistic] for record in records if statistic in record]
        if values:
            figures[f"{name}, first → last"] = f"{values[0]:.3f} → {values[-1]:.3f}"
    seconds = sum(record.get("seconds", 0.0) for record in records)
    in_hours, in_minutes = f"{seconds / 3600:.1f} h", f"{seconds / 60:.1f} min"
    figures["training time"] = in_hours if seconds >= 3600 else in_minutes
    return figures


def _evaluation_figures(
    episodes: Sequence[EpisodeEntry], summary: EvaluationSummary
) -> dict[str, str]:
    figures = {}
    if episodes:
        mean = sum(episode["reward"] for episode in episodes) / len(episodes)
        figures["mean reward"] = f"{mean:.3f}"
    for rate in summary.pass_rates:
        figures[rate.name] = f"{rate.mean:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
    for role, used in summary.usage.items():
        tokens = used["prompt_tokens"] + used["completion_tokens"]
        usd = f", {used['usd']:.4f} USD" if used["usd"] else ""
        figures[f"used by the {role}"] = f"{tokens:,.0f} tokens{usd}"
    if summary.missing:
        figures["trials missing"] = str(summary.missing)
    return figures


def _what_is_missing(folder: Path) -> str:
    """Say why a folder has no records: it is no run's folder, or the run has just begun."""
    kind = kind_of(folder) if folder.exists() else "no file or folder"
    if kind in (RUN_FOLDER, EVALUATION_FOLDER):
        return "no step in statistics.jsonl, no episode"
    return f"this is {kind}; the folder of a training run or of an evaluation is wanted"


def _page_path(folder: Path, output: Path | None) -> Path:
    if output is None:
        path = folder / "report.html"
    elif output.is_dir():
        path = output / "report.html"
    else:
        path = output
    return path.resolve()


def _template() -> Template:
    folder = Path(__file__).parent / "page"
    return Environment(loader=FileSystemLoader(folder), autoescape=True).get_template("report.html")
