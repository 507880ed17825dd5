"""Write turns to fine-tune on, for `sft.py`: of dialogs that earned the full reward, and of nothing else. Needs no AReaL.

The expected actions of tasks, with a user who says what is needed:

    python3 examples/tau2/expert.py turns.jsonl --domain telecom --split train --solo-mode

or the episodes of earlier rollouts, by `train.py` (a folder of trajectories) or `evaluate.py` (its episodes.jsonl):

    python3 examples/tau2/expert.py turns.jsonl --trajectories generated/train evaluations/mock-qwen3-1f2e3d4c/episodes.jsonl

Either way each dialog is a script, which is played, anew, in the real environment and evaluated by tau2.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":  # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from examples.tau2 import quiet_tau2

    quiet_tau2()


from openai.types.chat import ChatCompletion
from tau2.data_model.message import AssistantMessage, UserMessage
from tau2.data_model.tasks import Task

from examples.tau2.data import tasks
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks import TaskRow
from examples.tau2.data.turns import write_turns
from examples.tau2.episode import environment
from examples.tau2.episode.completions import assistant_entry, chat_completion
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.messages import to_openai
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator
from examples.tau2.episode.trajectory import Tau2RunInfo

STOP = "###STOP###"  # a user's last word, to tau2


@dataclass
class Script:
    """What agent and user say in a dialog on a task, each message an assistant's entry of an OpenAI history."""

    dialog: str
    played: Tau2EnvConfig
    row: TaskRow
    agent: list[dict]
    user: list[dict]

    def key(self) -> tuple:
        """What two scripts that say the same have in common."""
        said = [
            (m["content"], [c["function"] for c in m.get("tool_calls", [])])
            for m in (*self.agent, *self.user)
        ]
        return self.row.domain, self.row.task.id, json.dumps(said)


def ground_truth(played: Tau2EnvConfig, row: TaskRow) -> Script:
    """The agent does the expected actions in order, or asks the user for those that are the user's; then it tells what the
    task wants to be communicated."""
    task = row.task
    agent, user = [], [] if played.solo_mode else [assistant_entry(_request(task), [])]
    for number, action in enumerate(task.evaluation_criteria.actions or []):
        arguments = json.dumps(action.arguments, ensure_ascii=False)
        call = assistant_entry(None, [(f"call_{number}", action.name, arguments)])
        if played.solo_mode or action.requestor == "assistant":
            agent.append(call)
        else:
            agent.append(assistant_entry(f"Please {action.name.replace('_', ' ')}.", []))
            user += [call, assistant_entry("Done.", [])]
    told = " ".join(
        ["Everything is taken care of.", *(task.evaluation_criteria.communicate_info or [])]
    )
    agent.append(
        assistant_entry(None, [("call_done", "done", "{}")])
        if played.solo_mode
        else assistant_entry(told, [])
    )
    if not played.solo_mode:
        user.append(assistant_entry(STOP, []))
    return Script(task.id, replace(played, domain=row.domain), row, agent, user)


def _request(task: Task) -> str:
    """What the user opens with."""
    instructions = task.user_scenario.instructions
    if isinstance(instructions, str):
        return instructions
    return "\n".join(filter(None, (instructions.reason_for_call, instructions.known_info)))


def recorded(info: Tau2RunInfo) -> Script:
    """What was said in an episode, thoughts included."""
    played = Tau2EnvConfig(
        domain=info.domain,
        solo_mode=info.solo_mode,
        add_thinking_tool=info.add_thinking_tool,
        max_steps=info.steps + 1,
    )
    row = tasks.find_task_row(tasks.dataset_row(info.task_id), info.domain)
    history = (row.task.initial_state and row.task.initial_state.message_history) or []
    said = info.simulation.messages[len(history) :]
    user = [
        entry
        for message in said
        if isinstance(message, UserMessage)
        for entry in to_openai(message, speaker="user")
    ]
    agent = [
        {
            key: message.raw_data[key]
            for key in ("role", "content", "tool_calls")
            if key in message.raw_data
        }
        for message in said
        if isinstance(message, AssistantMessage) and message.raw_data  # tau2's greeting has none
    ]
    return Script(info.simulation.id, played, row, agent, user)


async def perform(script: Script) -> tuple[float, list[tuple[list[dict], dict]]]:
    """The reward of the dialog, played in the real environment, and its well-formed agent turns: (history, message said)."""
    said: list[tuple[list[dict], dict]] = []
    agent, user = iter(script.agent), iter(script.user)

    # where the dialog takes another course than its script, the agent falls silent, which is a failure, and the user leaves
    async def call_agent(messages: list[dict], tools, tool_choice) -> ChatCompletion:
        line = next(agent, assistant_entry(None, []))
        said.append((list(messages), line))
        return chat_completion(line)

    async def call_user(messages: list[dict], tools, tool_choice) -> ChatCompletion:
        return chat_completion(next(user, assistant_entry(STOP, [])))

    played, row = script.played, script.row
    episode = AsyncOrchestrator(played, row.task, call_agent, call_user, row.db_path)
    await episode.converse()
    kind = (played.domain, played.solo_mode, played.add_thinking_tool)
    reward = evaluate_episode(episode.simulation_run(), row.task, *kind, row.db_path).reward
    return reward, [
        turn for turn, made in zip(said, episode.agent.turns, strict=True) if not made.malformed
    ]


def trajectories(paths: list[Path]) -> Iterator[Tau2RunInfo]:
    """The episodes with the full reward in folders of trajectories and in records of `evaluate.py`."""
    for path in paths:
        if path.is_dir():
            lines = (file.read_bytes() for file in sorted(path.rglob("*.json")))
        else:
            lines = (line.partition(b" ")[2] for line in path.read_bytes().splitlines())
        yield from (info for info in map(Tau2RunInfo.from_json, lines) if info.reward == 1.0)


def scripts(options: argparse.Namespace) -> Iterator[Script]:
    if options.trajectories:
        yield from {
            script.key(): script for script in map(recorded, trajectories(options.trajectories))
        }.values()
        return
    played = Tau2EnvConfig(
        domain=options.domain,
        solo_mode=options.solo_mode,
        add_thinking_tool=options.add_thinking_tool,
    )
    for data in task_rows(
        played.domain, options.tasks_file or f"tau2/{options.split}", played.solo_mode
    ):
        yield ground_truth(played, tasks.find_task_row(data, played.domain))


def main(argv: list[str]) -> int:
    """Exit status: 0 turns were written, 1 no dialog earned the full reward, 2 the options make no sense."""
    parser = argparse.ArgumentParser(
        description="Write turns to fine-tune on, of dialogs that earn the full reward."
    )
    parser.add_argument("turns", type=Path, help="the file to write, JSONL")
    parser.add_argument(
        "--trajectories",
        nargs="+",
        type=Path,
        help="folders of train.py's, or episodes.jsonl of evaluate.py; else:",
    )
    parser.add_argument(
        "--domain", choices=environment.DOMAINS, help="the tasks whose expected actions are played"
    )
    parser.add_argument("--split", default="train", help="of the domain's tasks (default: train)")
    parser.add_argument(
        "--tasks-file", metavar="FILE", help="tasks of one's own instead; see the README"
    )
    parser.add_argument("--solo-mode", action="store_true", help="no user: the agent gets a ticket")
    parser.add_argument("--add-thinking-tool", action="store_true", help="offer tau2's `think`")
    options = parser.parse_args(argv)
    if bool(options.trajectories) == bool(options.domain):
        parser.error("name either --trajectories or a --domain")
    kept, failed = [], []
    try:
        for script in scripts(options):
            reward, turns = asyncio.run(perform(script))
            if reward == 1.0:
                kept.append((f"{script.played.domain}_{script.dialog}", script.played, turns))
            else:
                failed.append(script.dialog)
    except (OSError, ValueError, LookupError) as error:
        parser.error(str(error))
    if failed:
        print(
            f"{len(failed)} dialogs earned less and are left out: {', '.join(failed)}",
            file=sys.stderr,
        )
    if kept:
        print(f"{write_turns(options.turns, kept)} turns of {len(kept)} dialogs in {options.turns}")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
