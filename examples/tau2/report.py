"""Look at a run: curves, and every conversation beside what its task expects, in one HTML file that needs no network.

    python3 examples/tau2/report.py <run folder>

The folder is that of a training run, finished or running (`<fileroot>/logs/<user>/<experiment>/<trial>`), of an evaluation
(`evaluations/...`), or any `output_dir` of `Tau2AgentWorkflow`.
"""

import argparse
import base64
import html
import json
import re
import secrets
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from examples.tau2 import quiet_tau2

    quiet_tau2()

from jinja2 import Environment, FileSystemLoader
from plotly import graph_objects
from plotly.offline import get_plotlyjs
from tau2.data_model.message import Message
from tau2.data_model.tasks import Task
from tqdm import tqdm

from examples.tau2.data import tasks
from examples.tau2.episode.simulation import AgentTurn
from examples.tau2.episode.trajectory import TERMINATIONS, Tau2RunInfo
from examples.tau2.viewer import comparison

EPISODES = 5000  # in a page: 20 MB of airline's
CHUNK = 1 << 20  # bytes of conversations that are compressed together
MAX_TEXT = 100_000  # characters of a text that are shown
MAX_RUN = 500  # characters without a space: browsers take long to break longer ones


@dataclass
class Source:
    """Where an episode is to be read, and what is known before that. Episodes of equal `group` can be compared."""

    group: tuple
    content: Path | bytes
    trial: int | None = None

    def read(self) -> Tau2RunInfo:
        return Tau2RunInfo.from_json(
            self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        )


def sources(folder: Path) -> list[Source]:
    """The episodes of a run's folder, groups together, in the order of the weights that played them."""
    evaluation = folder / "episodes.jsonl"
    if evaluation.exists():
        found = []
        for line in evaluation.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and line.strip():  # the last one may be half-written
                number, _, info = line.partition(b" ")
                task_id = re.search(rb'"task_id":"((?:[^"\\]|\\.)*)"', info)
                found.append(
                    Source(
                        (task_id[1] if task_id else b"",),
                        info,
                        int(number) if number.isdigit() else -1,
                    )
                )
        return sorted(found, key=lambda source: (source.group, source.trial))
    generated = folder / "generated" if (folder / "generated").exists() else folder
    found = [
        Source((int(path.parent.name), kind, path.stem.rpartition("-")[0]), path)
        for kind in ("train", "eval")
        for path in generated.glob(f"{kind}/*/*.json")
        if path.parent.name.isdecimal()
    ]
    return sorted(found, key=lambda source: (source.group, source.content))


def evenly(found: list[Source], limit: int) -> list[Source]:
    """At most `limit` of them, in whole groups from all over the run."""
    groups: dict[tuple, list[Source]] = defaultdict(list)
    for source in found:
        groups[source.group].append(source)
    chosen: list[Source] = []
    seen = 0
    for group in groups.values():
        seen += len(group)
        if not chosen or len(chosen) + len(group) <= seen * min(1.0, limit / len(found)):
            chosen += group
    return chosen


def row(info: Tau2RunInfo, trial: int | None) -> dict[str, Any]:
    """What the list of episodes shows of one.

    `step` counts as the statistics do: for an on-policy run, the training step that the episode was played for, or that it
    was played after to evaluate; 0 outside training.
    """
    evaluates = info.is_eval or info.weight_version is None
    return {
        "kind": "eval" if evaluates else "train",
        "step": (info.weight_version or 0) + (not evaluates),
        "domain": info.domain,
        "task": info.task_id,
        "trial": trial,
        "reward": info.reward,
        "termination": info.termination,
        "failure": info.failure,
        "steps": info.steps,
        "turns": len(info.turns),
        "malformed": sum(turn.malformed is not None for turn in info.turns),
        "tokens": sum(turn.completion_tokens for turn in info.turns),
        "seconds": round(info.simulation.duration, 2),
    }


def conversation(info: Tau2RunInfo) -> dict[str, Any]:
    """All that the page shows of an opened episode, as JSON data."""
    turns = {turn.completion_id: turn for turn in info.turns}
    shown: dict[str, Any] = {
        "messages": [_message(message, turns, info) for message in info.simulation.messages]
    }
    if info.simulation.reward_info:
        shown["reward"] = info.simulation.reward_info.model_dump(mode="json", exclude_none=True)
    try:
        played = tasks.find_task_row(tasks.dataset_row(info.task_id), info.domain)
        if played.task.id != info.task_id:
            raise LookupError(f"the tasks file has changed: this is now {played.task.id!r}")
    except (LookupError, ValueError, OSError) as error:
        return {**shown, "problem": f"what the task expects cannot be shown: {error}"}
    shown["task"] = _describe(played.task, info.solo_mode)
    shown["actions"] = [
        {
            **compared,
            **{side: _call(**compared[side]) for side in ("expected", "done") if side in compared},
        }
        for compared in comparison.actions(played.task, info.simulation.messages)
    ]
    check = info.simulation.reward_info and info.simulation.reward_info.db_check
    try:
        differences = (
            [] if check and check.db_match else comparison.database_differences(info, played)
        )
        shown["database"] = [
            {
                "path": ".".join(map(str, found.pop("path"))),
                **{side: _text(value) for side, value in found.items()},
            }
            for found in differences
        ]
    except (
        Exception
    ) as error:  # whatever tau2's replay raises: the rest of the episode is worth showing
        shown["problem"] = (
            f"the databases cannot be compared, for the conversation cannot be replayed: {error}"
        )
    return shown


def _message(message: Message, turns: dict[str, AgentTurn], info: Tau2RunInfo) -> dict[str, Any]:
    raw = message.raw_data or {} if message.role != "tool" else {}
    text = raw.get("content") or message.content or ""
    shown = {"role": message.role, "text": text}
    if message.role == "tool":
        with suppress(ValueError, RecursionError):  # no JSON
            shown["text"] = _text(json.loads(text))
        return {**shown, "id": message.id, "requestor": message.requestor, "error": message.error}
    if turn := turns.get(raw.get("completion_id")):
        shown |= {
            "reward": info.rewards.get(turn.completion_id),
            "malformed": turn.malformed,
            "finish": turn.finish_reason,
            "tokens": [turn.prompt_tokens, turn.completion_tokens],
            "seconds": round(turn.seconds, 2),
        }
    shown["calls"] = [
        {"id": call.id, **_call(call.name, call.arguments, call.requestor)}
        for call in message.tool_calls or []
    ]
    return shown


def _call(name: str, arguments: dict[str, Any], requestor: str) -> dict[str, str]:
    brief = ", ".join(f"{key}={_text(value, indent=None)}" for key, value in arguments.items())
    return {"name": name, "brief": brief, "arguments": _text(arguments), "requestor": requestor}


def _text(value: Any, indent: int | None = 2) -> str:
    """JSON made here: JavaScript has other numbers."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _bounded(value: Any) -> Any:
    """With texts that a browser can lay out."""
    if isinstance(value, dict):
        return {key: _bounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_bounded(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if len(value) > MAX_TEXT:
        value = (
            f"{value[:MAX_TEXT]}\n[{len(value) - MAX_TEXT:,} more characters are in the trajectory]"
        )
    return _RUN.sub("\\g<0>\u200b", value)


_RUN = re.compile(rf"\S{{{MAX_RUN}}}(?=\S)")


def _describe(task: Task, solo_mode: bool) -> str:
    return task.ticket if solo_mode and task.ticket else str(task.user_scenario)


def packed(documents: Iterable[Any]) -> Iterator[tuple[list[tuple[int, int]], str]]:
    """Chunks of about `CHUNK` bytes of JSON, deflated, as base64 text, each with the (chunk, position) of its documents."""
    number, waiting, size = 0, [], 0

    def chunk() -> tuple[list[tuple[int, int]], str]:
        packed = base64.b64encode(
            zlib.compress(f"[{','.join(waiting)}]".encode("utf-8", "replace"))
        ).decode()
        return [(number, position) for position in range(len(waiting))], packed

    for document in documents:
        waiting.append(as_json(document))
        size += len(waiting[-1])
        if size >= CHUNK:
            yield chunk()
            number, waiting, size = number + 1, [], 0
    if waiting:
        yield chunk()


def as_json(value: Any) -> str:
    """JSON as browsers have it: null for what is no finite number."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
    return text


def training_charts(records: list[dict[str, float]]) -> list[dict[str, Any]]:
    """The curves of a training run from its `statistics.jsonl`; those of which nothing was recorded are left out."""
    steps = [record["step"] for record in records]

    def scatter(title: str, keys: dict[str, str], axis: str = "", **yaxis: Any) -> dict[str, Any]:
        traces = [
            graph_objects.Scatter(
                x=[record["step"] for record in records if key in record],
                y=[record[key] for record in records if key in record],
                name=name,
                mode="lines+markers" if len(records) < 60 else "lines",
            )
            for name, key in keys.items()
            if any(key in record for record in records)
        ]
        return _chart(title, traces, "step", axis, **yaxis)

    def stacked(title: str, prefix: str, axis: str, negligible: float) -> dict[str, Any]:
        names = {
            key
            for record in records
            for key in record
            if key.startswith(prefix) and not key.endswith("__count")
        }
        values = {name: [record.get(name, 0.0) for record in records] for name in sorted(names)}
        traces = [
            graph_objects.Bar(x=steps, y=value, name=name.removeprefix(prefix))
            for name, value in values.items()
            if max(value) > negligible
        ]
        return _chart(title, traces, "step", axis, barmode="stack")

    def both(name: str) -> dict[str, str]:
        return {"train": f"rollout/{name}", "eval": f"eval-rollout/{name}"}

    update = "ppo_actor/update"
    charts = [
        scatter("Reward", both("episode/reward"), "mean of episodes"),
        scatter(
            "Solved",
            {**both("episode/solved"), "train, rejected": "rollout/episode/rejected"},
            "share of episodes",
            tickformat=".0%",
        ),
        scatter("Loss", {"train": "sft/loss/avg", "eval": "sft-eval/loss/avg"}, "nats per token"),
        stacked("Why training episodes ended", "rollout/termination/", "share of episodes", 0.0),
        scatter(
            "Length",
            {
                "steps": "rollout/episode/steps",
                "turns": "rollout/agent/turns",
                "malformed": "rollout/agent/malformed_turns",
            },
            "per episode",
        ),
        scatter(
            "Tokens",
            {
                "agent, completion": "rollout/agent/completion_tokens",
                "agent, prompt": "rollout/agent/prompt_tokens",
                "user, completion": "rollout/user/completion_tokens",
            },
            "per episode",
            type="log",
        ),
        stacked("Seconds by phase", "timeperf/", "seconds", 0.05),
        scatter(
            "Gradient norm",
            {"of the policy": f"{update}/grad_norm", "of imitation": "sft/grad_norm"},
        ),
        scatter(
            "KL divergence",
            {
                "of training from rollout": f"{update}/behave_approx_kl/avg",
                "of the update": f"{update}/approx_kl/avg",
                "from the reference model": "ppo_actor/kl_rewards/avg",
            },
            "estimate per token",
        ),
    ]
    return [chart for chart in charts if chart["data"]]


def evaluation_charts(rows: list[dict[str, Any]], summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What an evaluation, or a folder of episodes without statistics, comes to."""
    if not rows:
        return []
    passed = {key: summary[key] for key in summary if re.fullmatch(r"pass\^\d+", key)}
    intervals = [summary.get(f"{key}_interval", (value, value)) for key, value in passed.items()]
    bars = graph_objects.Bar(
        x=list(passed),
        y=list(passed.values()),
        error_y={
            "array": [
                high - value for value, (_, high) in zip(passed.values(), intervals, strict=True)
            ],
            "arrayminus": [
                value - low for value, (low, _) in zip(passed.values(), intervals, strict=True)
            ],
        },
    )
    rewards: dict[str, list[float]] = defaultdict(list)
    for episode in rows:
        rewards[episode["task"]].append(episode["reward"])
    means = sorted((sum(values) / len(values), task) for task, values in rewards.items())
    ended = Counter(episode["termination"] for episode in rows)
    by_task = graph_objects.Bar(
        x=list(range(1, len(means) + 1)),
        y=[mean for mean, _ in means],
        text=[html.escape(task) for _, task in means],  # Plotly takes texts for HTML
        textposition="none",
    )
    reasons = [reason for reason in TERMINATIONS if ended[reason]]
    return [
        *(
            [_chart("pass^k, 95% intervals", [bars], "", "share of tasks", range=[0, 1])]
            if passed
            else []
        ),
        _chart("Reward by task", [by_task], "task, by reward", "mean reward", range=[0, 1]),
        _chart(
            "Why episodes ended",
            [graph_objects.Bar(x=reasons, y=[ended[name] for name in reasons])],
            "",
            "episodes",
        ),
        _chart(
            "Length",
            [graph_objects.Histogram(x=[episode["steps"] for episode in rows])],
            "steps",
            "episodes",
        ),
    ]


def _chart(
    title: str, traces: list, x: str, y: str, barmode: str = "group", **yaxis: Any
) -> dict[str, Any]:
    layout = {
        "barmode": barmode,
        "xaxis": {"title": {"text": x}, "automargin": True},
        "yaxis": {"title": {"text": y}, "automargin": True, "rangemode": "tozero", **yaxis},
        "showlegend": len(traces) > 1,
    }
    return {"title": title, **graph_objects.Figure(traces, layout).to_plotly_json()}


def facts(
    records: list[dict[str, float]], rows: list[dict[str, Any]], summary: dict[str, Any]
) -> dict[str, str]:
    """The few numbers at the top of the page."""
    found: dict[str, str] = {}
    if records:
        found["training steps"] = f"{records[-1]['step']:g}"
        for name, key in (
            ("reward", "rollout/episode/reward"),
            ("eval reward", "eval-rollout/episode/reward"),
            ("loss", "sft/loss/avg"),
        ):
            values = [record[key] for record in records if key in record]
            if values:
                found[f"{name}, first → last"] = f"{values[0]:.3f} → {values[-1]:.3f}"
        seconds = sum(record.get("seconds", 0.0) for record in records)
        found["training time"] = (
            f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
        )
    else:
        if rows:
            found["mean reward"] = f"{sum(episode['reward'] for episode in rows) / len(rows):.3f}"
        for key in summary:
            if f"{key}_interval" in summary and key.startswith("pass"):
                low, high = summary[f"{key}_interval"]
                found[key] = f"{summary[key]:.3f} [{low:.3f}, {high:.3f}]"
        if missing := summary.get("missing"):
            found["trials missing"] = str(len(missing))
    return found


def write(folder: Path, output: Path | None = None, limit: int = EPISODES) -> Path:
    """Write the page, by default to `<folder>/report.html`, and return its path.

    Raises:
        ValueError: there is nothing to report in the folder.
        OSError: it cannot be read or written.
    """
    output = (
        folder / "report.html"
        if output is None
        else output / "report.html"
        if output.is_dir()
        else output
    ).resolve()
    records, unreadable = statistics(folder / "statistics.jsonl")
    found = sources(folder)
    if not (records or found):
        raise ValueError(
            f"nothing has been recorded in {folder}: no step in statistics.jsonl, no episode"
        )
    chosen = evenly(found, limit)
    rows: list[dict[str, Any]] = []

    def documents() -> Iterator[dict[str, Any]]:
        for source in tqdm(chosen, unit="episode", disable=len(found) < 100):
            try:
                info = source.read()
            except (ValueError, OSError) as error:
                unreadable.append(
                    f"{source.content if isinstance(source.content, Path) else source.trial}: {error}"
                )
                continue
            rows.append(row(info, source.trial))
            yield _bounded(conversation(info))

    chunks = []
    places: list[tuple[int, int]] = []
    for where, chunk in packed(documents()):
        places += where
        chunks.append(chunk)
    for episode, (number, position) in zip(rows, places, strict=True):
        episode |= {"chunk": number, "position": position}
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (ValueError, OSError):
        summary = {}
    if summary.get("episodes") != len(
        found
    ):  # it is of others: the evaluation goes on, or was of some of the tasks
        summary = {}
    charts = training_charts(records) if records else evaluation_charts(rows, summary)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "viewer/page"), autoescape=True
    )
    page = templates.get_template("report.html").stream(
        title=" / ".join(folder.resolve().parts[-2:]).encode("utf-8", "replace").decode(),
        time=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        facts=facts(records, rows, summary),
        left_out=len(found) - len(chosen),
        unreadable=unreadable,
        data=json.loads(as_json({"rows": rows, "charts": charts})),
        chunks=chunks,
        nonce=secrets.token_urlsafe(16),
        plotly=get_plotlyjs(),
    )
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="replace") as file:
            page.dump(file)
        partial.replace(output)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return output


def statistics(path: Path) -> tuple[list[dict[str, float]], list[str]]:
    """The records of a `statistics.jsonl` that may be growing, and which lines are none; neither without the file."""
    records, unreadable = [], []
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if line.endswith("\n") and line.strip():
            try:
                record = {
                    name: value
                    for name, value in json.loads(line).items()
                    if isinstance(value, int | float)
                }
                records.append({"step": record.pop("step"), **record})
            except (ValueError, AttributeError, KeyError) as error:
                unreadable.append(f"{path}, line {number}: {error}")
    return records, unreadable


def main(argv: list[str]) -> int:
    """Exit status: 0 the page is written, 2 there is nothing to write it from."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="run folder")
    parser.add_argument("--output", type=Path, help="default: report.html in the folder")
    parser.add_argument(
        "--episodes",
        type=int,
        default=EPISODES,
        help=f"at most, in whole groups from all over the run (default: {EPISODES})",
    )
    options = parser.parse_args(argv)
    if options.episodes < 1:
        parser.error("--episodes must be at least 1")
    try:
        print(write(options.folder, options.output, options.episodes))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
