"""Writes and plays scripts of dialogs: a task's expected actions, or an earlier episode."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from openai.types.chat import ChatCompletion
from tau2.data_model.message import AssistantMessage, UserMessage
from tau2.data_model.simulation import NLAssertionCheck
from tau2.data_model.tasks import Task

from examples.tau2.data.recorded import RecordedEpisode
from examples.tau2.data.tasks import is_tool
from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode import environment
from examples.tau2.episode.answers import to_completion
from examples.tau2.episode.completions import assistant_entry, chat_completion, function_calls
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.messages import to_openai
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator

# tau2's user ends the conversation with this text
USER_STOP = "###STOP###"
# an entry of an OpenAI history
Entry = dict[str, Any]


@dataclass(frozen=True)
class DialogScript:
    """What agent and user say in a dialog on a task.

    Each message of `agent` and `user` is an assistant's entry of an OpenAI history. `verdicts` are
    those of a judge who has read the dialog.
    """

    dialog_id: str
    econfig: Tau2EnvConfig
    row: TaskRow
    agent: list[Entry]
    user: list[Entry]
    verdicts: list[NLAssertionCheck] = field(default_factory=list)

    def content_key(self) -> tuple[str, str, str]:
        """Make a key that is equal for scripts that say the same on the same task."""
        said = []
        for entry in (*self.agent, *self.user):
            functions = [call["function"] for call in entry.get("tool_calls", [])]
            said.append((entry["content"], functions))
        return self.row.domain, self.row.task.id, json.dumps(said)


@dataclass(frozen=True)
class PlayedDialog:
    """The reward of a dialog, and its well-formed agent turns as (history, message said)."""

    reward: float
    turns: list[tuple[list[Entry], Entry]]


def script_of_expected_actions(econfig: Tau2EnvConfig, row: TaskRow) -> DialogScript:
    """Write the script in which the expected actions of a task are done in their order.

    The agent does its own actions, and asks the user for those of the user. At the end the agent
    says the information that the task wants to be communicated. An action without a tool in the
    installed tau2 is left out: it only reads.
    """
    task, criteria = row.task, row.task.evaluation_criteria
    told = (criteria and criteria.communicate_info) or []
    agent: list[Entry] = []
    user: list[Entry] = []
    if not econfig.solo_mode:
        user.append(assistant_entry(_request(task), []))
    for number, action in enumerate(environment.expected_actions(task)):
        if not is_tool(row.domain, action.name):
            continue
        arguments = json.dumps(action.arguments, ensure_ascii=False)
        call = assistant_entry(None, [(f"call_{number}", action.name, arguments)])
        if econfig.solo_mode or action.requestor == "assistant":
            agent.append(call)
        else:
            agent.append(assistant_entry(f"Please {action.name.replace('_', ' ')}.", []))
            user += [call, assistant_entry("Done.", [])]
    if econfig.solo_mode:
        agent.append(assistant_entry(None, [("call_done", "done", "{}")]))
    else:
        agent.append(assistant_entry(" ".join(["Everything is taken care of.", *told]), []))
        user.append(assistant_entry(USER_STOP, []))
    return DialogScript(task.id, replace(econfig, domain=row.domain), row, agent, user)


def script_of_episode(episode: RecordedEpisode) -> DialogScript:
    """Write the script of an episode: all that was said, with the agent's thoughts."""
    initial_state = episode.row.task.initial_state
    history = (initial_state and initial_state.message_history) or []
    # without a history, tau2 greets the user before the agent's first turn
    start = len(history) or (0 if episode.econfig.solo_mode else 1)
    agent: list[Entry] = []
    user: list[Entry] = []
    for message in episode.simulation.messages[start:]:
        if isinstance(message, UserMessage):
            user += to_openai(message, speaker="user")
        elif isinstance(message, AssistantMessage):
            agent.append(_agent_entry(message))
    return DialogScript(
        episode.simulation.id, episode.econfig, episode.row, agent, user, _verdicts(episode)
    )


async def play_script(script: DialogScript) -> PlayedDialog:
    """Play the dialog in the real environment, and have tau2 evaluate it.

    If the dialog differs from its script, a side may have nothing left to say. Then the agent gives
    an empty answer, which is a failure, or the user ends the conversation.
    """
    said: list[tuple[list[Entry], Entry]] = []
    agent, user = iter(script.agent), iter(script.user)

    async def call_agent(messages: list[Entry], tools: object, choice: object) -> ChatCompletion:
        entry = next(agent, assistant_entry(None, []))
        said.append((list(messages), entry))
        return chat_completion(entry)

    async def call_user(messages: list[Entry], tools: object, choice: object) -> ChatCompletion:
        return chat_completion(next(user, assistant_entry(USER_STOP, [])))

    econfig, row = script.econfig, script.row
    episode = AsyncOrchestrator(econfig, row.task, call_agent, call_user, row.db_path)
    await episode.converse()
    reward = evaluate_episode(
        episode.simulation_run(),
        row.task,
        econfig.domain,
        econfig.solo_mode,
        econfig.add_thinking_tool,
        row.db_path,
        script.verdicts,
    ).reward
    played = zip(said, episode.agent.turns, strict=True)
    return PlayedDialog(reward, [turn for turn, agent_turn in played if not agent_turn.malformed])


def _verdicts(episode: RecordedEpisode) -> list[NLAssertionCheck]:
    """List the recorded verdicts on the assertions that the task has today."""
    criteria, reward_info = episode.row.task.evaluation_criteria, episode.simulation.reward_info
    assertions = (criteria and criteria.nl_assertions) or []
    checks = (reward_info and reward_info.nl_assertions) or []
    return [check for check in checks if check.nl_assertion in assertions]


def _agent_entry(message: AssistantMessage) -> Entry:
    """Make the entry of what the agent's LLM answered, of which the message is tau2's reading."""
    raw = message.raw_data or {}
    # tau2 records the choice of a completion, and this project the choice's message
    answer = raw.get("message", raw)
    if "role" not in answer:
        return to_openai(message)[0]
    completion = to_completion({"choices": [{"message": answer}]})
    return assistant_entry(completion.choices[0].message.content, function_calls(completion))


def _request(task: Task) -> str:
    """Write the user's first message: why the user calls, and what the user knows.

    Instructions may name the tokens that end a conversation, such as `###STOP###`. The message
    must not have them.
    """
    instructions = task.user_scenario.instructions
    if isinstance(instructions, str):
        parts = [instructions]
    else:
        parts = [instructions.reason_for_call, instructions.known_info]
    return re.sub("###[A-Z-]+###", "", "\n".join(part for part in parts if part))
