"""Write the turns of dialogs that earn the full reward, for `sft.py` to fine-tune on.

The dialogs are the expected actions of tasks, with a user who says what is needed:

    python3 examples/tau2/expert.py turns.jsonl --domain telecom --split train --solo-mode

or earlier episodes, from a run of `train.py` or `evaluate.py`, or from tau2's results, which
`tau2 run` writes:

    python3 examples/tau2/expert.py turns.jsonl \
        --trajectories <run folder> evaluations/mock-qwen3-1f2e3d4c data/simulations/mine.json

In both cases the command plays each dialog anew, in the real environment, and tau2 evaluates it.
The command needs no AReaL.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from examples.tau2 import quiet_tau2

    quiet_tau2()

from examples.tau2.data.dataset import task_rows
from examples.tau2.data.dialogs import (
    DialogScript,
    play_script,
    script_of_episode,
    script_of_expected_actions,
)
from examples.tau2.data.files import expanded_path
from examples.tau2.data.recorded import successful_episodes
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.tasks_file import explain_error
from examples.tau2.data.turns import write_turns
from examples.tau2.data.wrong_gold import REMEDY, wrong_gold
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of the command's options."""
    parser = argparse.ArgumentParser(
        description="Write the turns of dialogs that earn the full reward, to fine-tune on."
    )
    add = parser.add_argument
    add("turns", type=expanded_path, help="the file to write, JSONL")
    trajectories_help = "folders of runs, trajectories, episodes.jsonl, or tau2's results"
    add("--trajectories", nargs="+", type=expanded_path, help=trajectories_help)
    domain_help = "play the expected actions of this domain's tasks instead"
    add("--domain", choices=environment.DOMAINS, help=domain_help)
    add("--split", help="split of the domain's tasks (default: train)")
    add("--tasks-file", metavar="FILE", help="file of your own tasks instead; see docs/data.md")
    add("--solo-mode", action="store_true", help="no user: the agent gets a ticket")
    add("--add-thinking-tool", action="store_true", help="offer tau2's `think`")
    return parser


def scripts_of_tasks(econfig: Tau2EnvConfig, dataset: str) -> Iterator[DialogScript]:
    """Write a script of the expected actions of each task of a data set."""
    try:
        rows = task_rows(econfig.domain, dataset, econfig.solo_mode)
    except (OSError, ValueError) as error:
        raise ValueError(f"{dataset}: {explain_error(error)}") from error
    tasks = [find_task_row(row, econfig.domain) for row in rows]
    wrong = wrong_gold(tasks)
    if wrong:
        print(f"wrong gold: {wrong}; {REMEDY}", file=sys.stderr)
    for row in tasks:
        yield script_of_expected_actions(econfig, row)


def scripts_of_episodes(paths: list[Path]) -> list[DialogScript]:
    """Write the scripts of the successful episodes; of those that say the same, keep the last."""
    scripts: dict[tuple[str, str, str], DialogScript] = {}
    for episode in successful_episodes(paths):
        script = script_of_episode(episode)
        scripts[script.content_key()] = script
    return list(scripts.values())


def main(argv: list[str]) -> int:
    """Run the command, and return its exit status.

    0: turns are written, 1: no dialog earned the full reward, 2: an error.
    """
    parser = options_parser()
    options = parser.parse_args(argv)
    if bool(options.trajectories) == bool(options.domain):
        parser.error("name either --trajectories or a --domain")
    of_tasks = ("split", "tasks_file", "solo_mode", "add_thinking_tool")
    given = [f"--{name.replace('_', '-')}" for name in of_tasks if getattr(options, name)]
    if options.trajectories and given:
        parser.error(f"--trajectories are played as they were: leave out {', '.join(given)}")
    if options.tasks_file and options.split:
        parser.error("name either a --split or a --tasks-file")
    if options.turns.is_dir():
        parser.error(f"{options.turns} is a folder; name the file of turns to write")
    earned, failed = [], []
    try:
        options.turns.parent.mkdir(parents=True, exist_ok=True)
        if options.trajectories:
            scripts = scripts_of_episodes(options.trajectories)
        else:
            econfig = Tau2EnvConfig(
                domain=options.domain,
                solo_mode=options.solo_mode,
                add_thinking_tool=options.add_thinking_tool,
            )
            scripts = scripts_of_tasks(
                econfig, options.tasks_file or f"tau2/{options.split or 'train'}"
            )
        for script in scripts:
            try:
                dialog = asyncio.run(play_script(script))
            except ValueError as error:
                # tau2 cannot evaluate it
                failed.append(f"{script.dialog_id} ({error})")
                continue
            if dialog.reward == 1.0:
                dialog_id = f"{script.econfig.domain}_{script.dialog_id}"
                earned.append((dialog_id, script.econfig, dialog.turns))
            else:
                failed.append(script.dialog_id)
        number = write_turns(options.turns, earned) if earned else 0
    except OSError as error:
        parser.error(f"{error.filename or options.turns}: {explain_error(error)}")
    except (ValueError, LookupError) as error:
        parser.error(str(error))
    if failed:
        left_out = ", ".join(failed)
        print(
            f"{len(failed)} dialogs did not earn the full reward and are left out: {left_out}",
            file=sys.stderr,
        )
    if not earned:
        print("no dialog earned the full reward: nothing is written", file=sys.stderr)
        return 1
    print(f"{number} turns of {len(earned)} dialogs in {options.turns}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
