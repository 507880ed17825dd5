"""Measure a model on tau2's tasks: pass^k, by tau2's own rules, for any OpenAI-compatible endpoint. Needs no AReaL.

    python3 examples/tau2/evaluate.py --domain airline --split test --trials 4 \
        --base-url http://localhost:30000/v1 --model qwen3 --user-base-url http://localhost:8000/v1 --user-model Qwen2.5-72B

Keys are read from the environment: OPENAI_API_KEY for the model, TAU2_USER_LLM_API_KEY for the user simulator. Episodes are
written as they end; the same command again plays what is missing.
"""

import argparse
import asyncio
import fcntl
import hashlib
import json
import os
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from examples.tau2 import quiet_tau2

    quiet_tau2()

import numpy as np
from tau2.data_model.simulation import Results
from tau2.data_model.tasks import Task
from tau2.environment.environment import EnvironmentInfo
from tau2.metrics.agent_metrics import compute_metrics, get_tasks_pass_hat_k, is_successful
from tau2.run import get_info
from tqdm import tqdm

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.data import tasks
from examples.tau2.data.dataset import BadTasks, absolute_path, is_tasks_file, task_rows
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import (
    CallLLM,
    agent_llm,
    describe_error,
    policy,
    probe,
    provider_llm,
    shared_client,
)
from examples.tau2.episode.trajectory import Tau2RunInfo

RESAMPLES = 10_000  # of the tasks, for a confidence interval
SHOWN_K = 8  # pass^k of more trials are in summary.json
SAMPLING = ("temperature", "top_p", "max_completion_tokens")


@dataclass
class Plan:
    """What is played.

    `datasets` are paths, `rows` what is played of them, by the tasks' ids. `training` is what a training YAML says of the same,
    for comparison; empty without one.
    """

    econfig: Tau2EnvConfig
    sampling: dict[str, Any]
    base_url: str | None
    model: str | None
    datasets: list[str]
    rows: dict[str, dict[str, Any]]
    trials: int
    training: dict[str, Any]
    tool_choice: str | None  # None: tau2's own

    def find(self, id: str) -> tasks.TaskRow:
        return tasks.find_task_row(self.rows[id], self.econfig.domain)

    def domains(self) -> list[str]:
        return sorted({self.find(id).domain for id in self.rows})

    def identity(self) -> dict[str, Any]:
        """All that an episode depends on but its task: runs that agree in it share their episodes."""
        files = {
            path: tasks.tasks_file_digest(path, self.econfig.domain)
            for path in self.datasets
            if is_tasks_file(path)
        }
        return {
            "econfig": asdict(self.econfig),
            "sampling": self.sampling,
            "base_url": self.base_url,
            "model": self.model,
            **({"tasks_files": files} if files else {}),
            **({"tool_choice": self.tool_choice} if self.tool_choice else {}),
        }

    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[
            :8
        ]
        return re.sub(
            r"[^A-Za-z0-9_.-]+",
            "_",
            f"{'+'.join(self.domains())}-{self.model or 'default'}-{digest}",
        )


@dataclass
class Trial:
    """One episode of the evaluation, finished."""

    number: int
    info: Tau2RunInfo

    @property
    def key(self) -> tuple[str, int]:
        return self.info.task_id, self.number


class Record:
    """The finished trials in a file, a line each; one that was being written when the process was killed does not count.

    Raises:
        OSError: the file cannot be written, or another process is at it.
    """

    def __init__(self, path: Path):
        self.trials: dict[tuple[str, int], Trial] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another evaluation is writing to {path}") from None
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        if whole != lines:
            path.write_bytes(b"".join(whole))
        for line in whole:
            number, _, info = line.partition(b" ")
            trial = Trial(int(number), Tau2RunInfo.from_json(info))
            self.trials[trial.key] = trial

    def add(self, trial: Trial) -> None:
        self._file.write(b"%d %b\n" % (trial.number, trial.info.to_json(indent=None)))
        self.trials[trial.key] = trial

    def close(self) -> None:
        self._file.close()


async def play(
    plan: Plan, record: Record, concurrency: int, attempts: int
) -> dict[tuple[str, int], str]:
    """Play what is missing in `record`; return why trials still are, by task and number.

    Raises:
        ConnectionError: the model or the user simulator does not answer at all.
    """
    datasets = [(path, {}) for path in plan.datasets]
    workflow = Tau2AgentWorkflow(
        asdict(plan.econfig), model=plan.model or "default", datasets=datasets
    )
    llm = await _policy(plan)
    keys = [(id, number) for number in range(plan.trials) for id in plan.rows]
    missing = [key for key in keys if key not in record.trials]
    for name, call in {"model": llm, "user simulator": workflow.user_llm}.items():
        try:
            if missing and call is not None:
                await probe(call)
        except Exception as error:
            raise ConnectionError(f"the {name} does not answer: {describe_error(error)}") from error
    queue = iter(missing)
    failures: dict[tuple[str, int], str] = {}
    with tqdm(
        total=len(keys), initial=sum(key in record.trials for key in keys), unit="episode"
    ) as progress:

        async def work() -> None:
            for id, number in queue:
                for attempt in range(attempts):
                    try:
                        info = await workflow.play_with(llm, plan.rows[id])
                    except Exception as error:
                        failures[id, number] = (
                            str(error)
                            if isinstance(error, EpisodeRejected)
                            else describe_error(error)
                        )
                        if attempt + 1 < attempts:
                            await asyncio.sleep(2**attempt)
                    else:
                        failures.pop((id, number), None)
                        record.add(Trial(number, info))
                        break
                solved = [is_successful(trial.info.reward) for trial in record.trials.values()]
                progress.set_postfix(solved=f"{np.mean(solved or [0]):.0%}", failed=len(failures))
                progress.update((id, number) in record.trials)

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return failures


async def _policy(plan: Plan) -> CallLLM:
    if plan.base_url is None:
        call = policy(provider_llm(plan.model, plan.sampling))
    else:
        client = await shared_client(plan.base_url, os.environ.get("OPENAI_API_KEY") or "EMPTY")
        call = agent_llm(client, plan.model or "default", plan.sampling)
    return lambda messages, tools, tool_choice: call(
        messages, tools, plan.tool_choice or tool_choice
    )


def tau2_results(plan: Plan, trials: list[Trial]) -> Results:
    """The trials in tau2's own format, for `tau2 view` and its metrics."""
    config, domains = plan.econfig, plan.domains()
    simulations = [
        trial.info.simulation.model_copy(update={"trial": trial.number}) for trial in trials
    ]
    info = get_info(
        domain=domains[0],
        agent="llm_agent_solo" if config.solo_mode else "llm_agent",
        user="dummy_user" if config.solo_mode else "user_simulator",
        llm_agent=plan.model,
        llm_args_agent=plan.sampling,
        llm_user=config.user_llm,
        llm_args_user=config.user_llm_args,
        num_trials=plan.trials,
        max_steps=config.max_steps,
    )
    if len(domains) > 1:
        policies = [
            environment.make_environment(domain, config.solo_mode).get_policy()
            for domain in domains
        ]
        info.environment_info = EnvironmentInfo(
            domain_name="+".join(domains), policy="\n\n".join(policies)
        )
    played = {simulation.task_id for simulation in simulations}
    return Results(
        info=info,
        tasks=[plan.find(id).task for id in plan.rows if id in played],
        simulations=simulations,
    )


def metrics(results: Results) -> dict[str, Any]:
    """tau2's own average reward and pass^k (arXiv 2406.12045), each with a 95% interval.

    Tasks are resampled for the interval (percentile bootstrap). k goes up to the smallest number of trials of a task.
    """
    if not results.simulations:
        return {"tasks": 0, "episodes": 0}
    measured = compute_metrics(results)
    rewards: dict[str, list[float]] = defaultdict(list)
    for simulation in results.simulations:
        rewards[simulation.task_id].append(simulation.reward_info.reward)
    sums = np.array([[sum(values), len(values)] for values in rewards.values()])
    by_task = get_tasks_pass_hat_k(results)
    values = {
        "tasks": len(rewards),
        "episodes": len(results.simulations),
        "reward": float(measured.avg_reward),
        "reward_interval": interval(
            sums, lambda chosen: chosen[..., 0].sum(1) / chosen[..., 1].sum(1)
        ),
    }
    for k, mean in measured.pass_hat_ks.items():
        values[f"pass^{k}"] = float(mean)
        values[f"pass^{k}_interval"] = interval(
            by_task[f"pass^{k}"].to_numpy(), lambda chosen: chosen.mean(1)
        )
    return values


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """The ends of a 95% interval of a statistic of `values`, a row per task (percentile bootstrap).

    `statistic` maps (resamples, tasks, ...) to (resamples,).
    """
    chosen = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return [float(end) for end in np.percentile(statistic(values[chosen]), [2.5, 97.5])]


def summary(plan: Plan, trials: list[Trial], missing: dict[tuple[str, int], str]) -> dict[str, Any]:
    """All that is measured, as JSON; `missing`: why, by task and number."""
    results = tau2_results(plan, trials)
    statistics = [trial.info.statistics() for trial in trials]
    names = [name for name in (statistics or [{}])[0] if not name.startswith("termination/")]
    return {
        **plan.identity(),
        "trials": plan.trials,
        **metrics(results),
        "expecting_actions": metrics(
            _only(results, {task.id for task in results.tasks if _expects_actions(task)})
        ),
        "by_domain": {
            domain: metrics(
                _only(results, {id for id in plan.rows if plan.find(id).domain == domain})
            )
            for domain in plan.domains()
        },
        "terminations": dict(Counter(trial.info.termination for trial in trials).most_common()),
        "means": {name: float(np.mean([row[name] for row in statistics])) for name in names},
        "missing": [
            {"task_id": id, "trial": number, "cause": cause}
            for (id, number), cause in sorted(missing.items())
        ],
        "differs_from_training": plan.training,
        "by_task": {task.id: metrics(_only(results, {task.id})) for task in results.tasks},
    }


def _only(results: Results, ids: set[str]) -> Results:
    chosen = [simulation for simulation in results.simulations if simulation.task_id in ids]
    return results.model_copy(update={"simulations": chosen})


def _expects_actions(task: Task) -> bool:
    return bool(task.evaluation_criteria and task.evaluation_criteria.actions)


def report(measured: dict[str, Any]) -> Iterator[str]:
    """The summary for human readers, line by line."""
    parts = {"all tasks": measured, "tasks that expect actions": measured["expecting_actions"]}
    if len(measured["by_domain"]) > 1:
        parts |= measured["by_domain"]
    for name, values in parts.items():
        yield f"\n{name}: {values['tasks']}, {values['episodes']} episodes"
        for key in ("reward", *(f"pass^{k}" for k in range(1, SHOWN_K + 1))):
            if f"{key}_interval" in values:
                low, high = values[f"{key}_interval"]
                yield f"  {key:8} {values[key]:.3f}  [{low:.3f}, {high:.3f}]"
    if measured["episodes"]:
        yield from _details(measured)
    for name, (trained, evaluated) in measured["differs_from_training"].items():
        yield f"differs from training: {name} is {evaluated}, in training {trained}"
    causes: dict[str, list[str]] = defaultdict(list)
    for missing in measured["missing"]:
        causes[missing["cause"]].append(f"task {missing['task_id']}, trial {missing['trial']}")
    for cause, where in causes.items():
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        yield f"missing: {where[0]}{more}: {cause}"


def _details(measured: dict[str, Any]) -> Iterator[str]:
    yield "\nby task      trials  reward  pass^k"
    for id, values in measured["by_task"].items():
        ks = " ".join(
            f"{values[f'pass^{k}']:.2f}" for k in range(1, SHOWN_K + 1) if f"pass^{k}" in values
        )
        yield f"  {values['episodes']:3}  {values['reward']:.2f}  {ks}  {id}"
    yield "\nended by: " + ", ".join(
        f"{reason} {number}" for reason, number in measured["terminations"].items()
    )
    means = measured["means"]
    for names in (
        ("episode/steps", "agent/turns", "episode/seconds"),
        ("agent/prompt_tokens", "agent/completion_tokens"),
    ):
        yield "means: " + ", ".join(f"{name} {means[name]:.1f}" for name in names if name in means)


def make_plan(argv: list[str]) -> tuple[Plan, argparse.Namespace]:
    """The plan of a command line; exits with status 2 if there is none."""
    parser = argparse.ArgumentParser(
        description="Measure a model on tau2's tasks: pass^k with 95% intervals."
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="a training YAML: its econfig and eval_gconfig, but for options given",
    )
    parser.add_argument("--domain", help=f"{', '.join(environment.DOMAINS)} (default: telecom)")
    parser.add_argument(
        "--split",
        nargs="+",
        default=[],
        help="of the domain's tasks (default: test, or none with files)",
    )
    parser.add_argument(
        "--tasks-file",
        nargs="+",
        default=[],
        metavar="FILE",
        help="tasks of one's own; see the README",
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="ID", help="only these of them, by their ids as printed"
    )
    parser.add_argument("--trials", type=int, default=4, help="episodes of a task (default: 4)")
    parser.add_argument(
        "--base-url", help="the model's server; default: litellm's provider for --model"
    )
    parser.add_argument("--model")
    parser.add_argument(
        "--user-base-url", help="the user simulator's server; default: litellm's provider"
    )
    parser.add_argument("--user-model")
    parser.add_argument(
        "--solo-mode", action=argparse.BooleanOptionalAction, help="no user simulator"
    )
    parser.add_argument(
        "--add-thinking-tool", action=argparse.BooleanOptionalAction, help="offer tau2's `think`"
    )
    parser.add_argument("--max-steps", type=int, help="of an episode (default: 100)")
    parser.add_argument("--timeout", type=float, help="of an episode in seconds (default: 600)")
    parser.add_argument("--temperature", type=float, help="default: 0")
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--max-completion-tokens", type=int, help="of a turn")
    parser.add_argument(
        "--tool-choice",
        choices=["auto", "required"],
        help="default: tau2's, required in solo mode and auto elsewhere; AReaL's proxy takes no notice of it, like auto",
    )
    parser.add_argument(
        "--concurrency", type=int, default=16, help="episodes at once (default: 16)"
    )
    parser.add_argument(
        "--attempts",
        type=int,
        default=3,
        help="at an episode that fails by no doing of the model (default: 3)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder (default: evaluations/<domain>-<model>-<hash of the settings>)",
    )
    options = parser.parse_args(argv)
    try:
        plan = _plan(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return plan, options


def _plan(options: argparse.Namespace) -> Plan:
    trained, evaluated, trained_sampling = (
        _settings(options.config) if options.config else ({}, {"temperature": 0.0}, {})
    )
    names = {"user_llm_base_url": "user_base_url", "user_llm": "user_model"}
    given = {
        f.name: getattr(options, names.get(f.name, f.name), None) for f in fields(Tau2EnvConfig)
    }
    econfig = Tau2EnvConfig(
        **{**trained, **{name: value for name, value in given.items() if value is not None}}
    )
    sampling = {
        **evaluated,
        **{name: getattr(options, name) for name in SAMPLING if getattr(options, name) is not None},
    }
    if econfig.domain not in environment.DOMAINS:
        raise ValueError(
            f"--domain {econfig.domain}: choose one of {', '.join(environment.DOMAINS)}"
        )
    if not (options.base_url or options.model):
        raise ValueError("name the model: --base-url of its server, --model, or both")
    if not (econfig.solo_mode or econfig.user_llm_base_url or econfig.user_llm):
        raise ValueError(
            "name the user simulator: --user-base-url of its server, --user-model, or both; or --solo-mode"
        )
    for name in ("trials", "concurrency", "attempts"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    for name in ("max_steps", "timeout"):
        if not getattr(econfig, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be greater than 0")
    splits = options.split or ([] if options.tasks_file else ["test"])
    if splits and econfig.solo_mode and econfig.domain not in environment.SOLO_DOMAINS:
        raise ValueError(f"--solo-mode: {econfig.domain} cannot be played solo")
    datasets = [f"tau2/{split}" for split in splits] + [
        absolute_path(path) for path in options.tasks_file
    ]
    rows = {}
    for path in datasets:
        try:
            found = task_rows(econfig.domain, path, econfig.solo_mode)
        except BadTasks as error:
            raise ValueError("\n  ".join([f"{path}:", *error.problems])) from error
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: {tasks.explain_error(error)}") from error
        rows |= {tasks.find_task_row(row, econfig.domain).task.id: row for row in found}
    if unknown := [id for id in options.tasks or [] if id not in rows]:
        raise ValueError(f"--tasks {unknown[0]}: no task of {' or '.join(datasets)}")
    rows = {id: row for id, row in rows.items() if not options.tasks or id in options.tasks}
    played = {**asdict(econfig), **sampling}
    training = {
        name: [value, played.get(name)]
        for name, value in {**trained, **trained_sampling}.items()
        if value != played.get(name)
    }
    if trained.get("invalid_format_penalty"):
        training["penalty of a malformed turn"] = [trained["invalid_format_penalty"], 0.0]
    tool_choice = options.tool_choice or ("required" if econfig.solo_mode else "auto")
    if trained and tool_choice == "required":
        training["tool_choice"] = ["auto", tool_choice]
    return Plan(
        econfig,
        sampling,
        options.base_url,
        options.model,
        datasets,
        rows,
        options.trials,
        training,
        options.tool_choice,
    )


def _settings(path: Path) -> tuple[dict, dict, dict]:
    """`econfig`, and the sampling arguments of evaluation and of training, of a training YAML."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(path)
    if "econfig" not in config and "defaults" not in config:
        raise ValueError(f"--config {path} has no econfig: it is no config of train.py")
    if "defaults" in config:
        raise ValueError(
            f"--config {path} builds on another file: name that one, and give its options here"
        )

    def sampling(section: str) -> dict[str, Any]:
        node = config.get(section) or {}
        names = {
            "temperature": "temperature",
            "top_p": "top_p",
            "max_new_tokens": "max_completion_tokens",
        }
        return {names[name]: node[name] for name in names if name in node}

    known = {field.name for field in fields(Tau2EnvConfig)}
    econfig = OmegaConf.to_container(config.econfig, resolve=True)
    return (
        {name: value for name, value in econfig.items() if name in known},
        sampling("eval_gconfig"),
        sampling("gconfig"),
    )


def main(argv: list[str]) -> int:
    """Exit status: 0 all trials are there, 1 some are missing, 2 nothing can be played, 130 Ctrl-C."""
    plan, options = make_plan(argv)
    folder = options.output or Path("evaluations") / plan.name()
    settings = folder / "settings.json"
    if settings.exists() and json.loads(settings.read_text()) != plan.identity():
        print(
            f"{folder} holds episodes of other settings, see {settings}: choose another --output",
            file=sys.stderr,
        )
        return 2
    try:
        record = Record(folder / "episodes.jsonl")
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    with closing(record):
        settings.write_text(json.dumps(plan.identity(), indent=1))
        return run(plan, options, folder, record)


def run(plan: Plan, options: argparse.Namespace, folder: Path, record: Record) -> int:
    """Play what is missing, write and print what all trials come to; returns the exit status."""
    print(
        f"{len(plan.rows)} tasks of {' and '.join(plan.domains())} x {plan.trials} trials; results in {folder}",
        file=sys.stderr,
    )
    interrupted, failures = False, {}
    try:
        failures = asyncio.run(play(plan, record, options.concurrency, options.attempts))
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted; the same command plays the rest.", file=sys.stderr)
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return 2
    wanted = [(id, number) for id in plan.rows for number in range(plan.trials)]
    trials = [record.trials[key] for key in wanted if key in record.trials]
    missing = {key: failures.get(key, "not played") for key in wanted if key not in record.trials}
    measured = summary(plan, trials, missing)
    tau2_results(plan, trials).save(folder / "results.json")
    partial = folder / "summary.json.partial"
    partial.write_text(json.dumps(measured, indent=1))
    partial.replace(folder / "summary.json")
    print("\n".join(report(measured)), file=sys.stderr)
    print(
        f"\nlook at the episodes: python3 examples/tau2/report.py {shlex.quote(str(folder))}",
        file=sys.stderr,
    )
    print(json.dumps({name: value for name, value in measured.items() if name != "by_task"}))
    return 130 if interrupted else int(bool(measured["missing"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
