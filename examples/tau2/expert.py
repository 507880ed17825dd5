"""Write turns to fine-tune on, for `sft.py`, of dialogs that earn the full reward.

Either of the expected actions of tasks, with a user who says what is needed:

    python3 examples/tau2/expert.py turns.jsonl --domain telecom --split train --solo-mode

or of the episodes of earlier rollouts, by `train.py` (a folder of trajectories) or `evaluate.py`
(its episodes.jsonl):

    python3 examples/tau2/expert.py turns.jsonl \
        --trajectories generated/train evaluations/mock-qwen3-1f2e3d4c/episodes.jsonl

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
    successful_episodes,
)
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.turns import write_turns
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig


def options_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write turns to fine-tune on, of dialogs that earn the full reward."
    )
    add = parser.add_argument
    add("turns", type=Path, help="the file to write, JSONL")
    trajectories_help = "folders of train.py's, or episodes.jsonl of evaluate.py; else:"
    add("--trajectories", nargs="+", type=Path, help=trajectories_help)
    domain_help = "the tasks whose expected actions are played"
    add("--domain", choices=environment.DOMAINS, help=domain_help)
    add("--split", default="train", help="of the domain's tasks (default: train)")
    add("--tasks-file", metavar="FILE", help="tasks of one's own instead; see the README")
    add("--solo-mode", action="store_true", help="no user: the agent gets a ticket")
    add("--add-thinking-tool", action="store_true", help="offer tau2's `think`")
    return parser


def scripts_of_tasks(econfig: Tau2EnvConfig, dataset: str) -> Iterator[DialogScript]:
    """The scripts of the expected actions of a data set's tasks."""
    for row in task_rows(econfig.domain, dataset, econfig.solo_mode):
        yield script_of_expected_actions(econfig, find_task_row(row, econfig.domain))


def scripts_of_episodes(paths: list[Path]) -> list[DialogScript]:
    """The scripts of the successful episodes; of those that say the same, the last one."""
    scripts = [script_of_episode(info) for info in successful_episodes(paths)]
    return list({script.words(): script for script in scripts}.values())


def main(argv: list[str]) -> int:
    """Run the command; 0: turns are written, 1: no dialog earned the full reward, 2: an error."""
    parser = options_parser()
    options = parser.parse_args(argv)
    if bool(options.trajectories) == bool(options.domain):
        parser.error("name either --trajectories or a --domain")
    earned, failed = [], []
    try:
        if options.trajectories:
            scripts = scripts_of_episodes(options.trajectories)
        else:
            econfig = Tau2EnvConfig(
                domain=options.domain,
                solo_mode=options.solo_mode,
                add_thinking_tool=options.add_thinking_tool,
            )
            scripts = scripts_of_tasks(econfig, options.tasks_file or f"tau2/{options.split}")
        for script in scripts:
            dialog = asyncio.run(play_script(script))
            if dialog.reward == 1.0:
                dialog_id = f"{script.econfig.domain}_{script.dialog_id}"
                earned.append((dialog_id, script.econfig, dialog.turns))
            else:
                failed.append(script.dialog_id)
    except (OSError, ValueError, LookupError) as error:
        parser.error(str(error))
    if failed:
        names = ", ".join(failed)
        print(f"{len(failed)} dialogs earned less and are left out: {names}", file=sys.stderr)
    if not earned:
        return 1
    number = write_turns(options.turns, earned)
    print(f"{number} turns of {len(earned)} dialogs in {options.turns}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
