"""Measure a model on tau2's tasks: pass^k by tau2's own rules, for any OpenAI-compatible endpoint.

    python3 examples/tau2/evaluate.py --domain airline --split test --trials 4 \
        --base-url http://localhost:30000/v1 --model qwen3 \
        --user-base-url http://localhost:8000/v1 --user-model Qwen2.5-72B

The command needs no AReaL. It reads keys from the environment: OPENAI_API_KEY for the model,
TAU2_USER_LLM_API_KEY for the user simulator, TAU2_JUDGE_LLM_API_KEY for the judge. It writes each
episode when the episode ends; the same command again plays what is missing. `--leaderboard`
evaluates by the leaderboard's rules. `--compare A B` compares the folders of two evaluations.
"""

import argparse
import asyncio
import json
import shlex
import sys
from contextlib import closing
from pathlib import Path

if __name__ == "__main__":
    # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from examples.tau2 import quiet_tau2

    quiet_tau2()

from examples.tau2.data.wrong_gold import REMEDY, wrong_gold
from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.solo_tickets import count_completed
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.episode.variables import require_variables
from examples.tau2.evaluation.compare import compare, comparison_lines
from examples.tau2.evaluation.leaderboard import (
    Leaderboard,
    check_rules,
    leaderboard_options,
)
from examples.tau2.evaluation.options import options_parser
from examples.tau2.evaluation.player import play_missing
from examples.tau2.evaluation.settings import EvaluationSettings, TrialKey, settings_from_options
from examples.tau2.evaluation.store import TrialStore, open_store
from examples.tau2.evaluation.summary import summarize, summary_lines
from examples.tau2.evaluation.tau2_results import write_results


def main(argv: list[str]) -> int:
    """Run the command, and return its exit status.

    0: all trials are there, 1: some are missing, 2: nothing can be played, 130: Ctrl-C was pressed.
    """
    parser = options_parser()
    options = parser.parse_args(argv)
    if options.compare:
        return compare_results(*options.compare)
    try:
        require_variables()
        training_yaml = options.config
        if options.leaderboard:
            options = leaderboard_options(options)
        settings = settings_from_options(options)
        board = check_rules(settings, training_yaml) if options.leaderboard else None
    except (ValueError, OSError) as error:
        parser.error(str(error))
    folder = options.output or Path("evaluations") / settings.folder_name()
    try:
        store = open_store(folder, settings.identity())
    except (OSError, ValueError) as error:
        _tell(error)
        return 2
    with closing(store):
        try:
            return run(settings, board, store, folder, options)
        except ConnectionError as error:
            _tell(error)
        except OSError as error:
            _tell(f"{folder}: {error.strerror}; the same command plays the rest")
        return 2


def run(
    settings: EvaluationSettings,
    board: Leaderboard | None,
    store: TrialStore,
    folder: Path,
    options: argparse.Namespace,
) -> int:
    """Play what is missing, write and print the results, and return the exit status."""
    tasks = f"{len(settings.rows)} tasks of {' and '.join(settings.domains)}"
    _tell(f"{tasks} x {settings.num_trials} trials; results in {folder}")
    _tell(tau2_source(settings.domains))
    rows = [settings.task_row(task_id) for task_id in settings.rows]
    wrong = wrong_gold(rows)
    if wrong:
        _tell(f"wrong gold: {wrong}; {REMEDY}, or leave the tasks out by --exclude")
    if settings.econfig.solo_mode and (completed := count_completed(row.task for row in rows)):
        _tell(f"tickets of solo mode that this project completes: {completed} (docs/evaluation.md)")
    if board:
        _tell("\n".join(board.lines()))
    interrupted = False
    failures: dict[TrialKey, str] = {}
    try:
        failures = asyncio.run(play_missing(settings, store, options.concurrency, options.attempts))
    except KeyboardInterrupt:
        interrupted = True
        _tell("\nInterrupted; the same command plays the rest.")

    # the trials of a task stand together
    keys = [TrialKey(task_id, n) for task_id in settings.rows for n in range(settings.num_trials)]
    trials = [store.trials[key] for key in keys if key in store.trials]
    missing = {key: failures.get(key, "not played") for key in keys if key not in store.trials}
    summary = summarize(settings, trials, missing, options.missing_as_failures)
    measured = summary.to_json()
    if board:
        measured["leaderboard"] = board.to_json()
    write_results(folder / "results.json", settings, store, trials, failures)
    with atomic_file(folder / "summary.json") as file:
        json.dump(measured, file, indent=1)
    _tell("\n".join(summary_lines(summary)))
    _tell(f"\nlook at the episodes: python3 examples/tau2/report.py {shlex.quote(str(folder))}")
    if board and not missing:
        results = shlex.quote(str(folder / "results.json"))
        _tell(f"submit them: tau2 submit prepare {results} --output FOLDER")
    del measured["by_task"], measured["failures_by_task"]
    print(json.dumps(measured))
    if interrupted:
        return 130
    return 1 if missing else 0


def compare_results(folder_a: Path, folder_b: Path) -> int:
    """Print how the results in two folders differ, and return the exit status."""
    try:
        comparison = compare(folder_a, folder_b)
    except (ValueError, OSError) as error:
        _tell(error)
        return 2
    _tell("\n".join(comparison_lines(comparison)))
    print(json.dumps(comparison.to_json()))
    return 0


def _tell(text: object) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
