"""Records groups of episodes of airline tasks, as AReaL would train on them.

The episodes go through this package's workflow and AReaL's own proxy. Agent and user simulator are
scripted, and the episodes of a group differ as sampled ones do.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from areal.experimental.openai.proxy.workflow import OpenAIProxyWorkflow
from areal.experimental.openai.tool_call_parser import process_tool_calls
from tau2.data_model.tasks import StructuredUserInstructions, Task
from tau2.environment.toolkit import ToolType
from transformers import PreTrainedTokenizerFast

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.dataset import task_rows
from examples.tau2.episode import environment
from examples.tau2.utils import Tau2PPOConfig
from tests.areal_proxy import Proxy, tool_call
from tests.scripted import LLMServer, say

DOMAIN = "airline"
TASKS = "tau2/train"
# options of `rollout.agent` that the proxy needs
PROXY_OPTIONS = (
    "export_style",
    "tool_call_parser",
    "reasoning_parser",
    "engine_max_tokens",
    "chat_template_type",
    "turn_discount",
)

# A turn: input_ids, attention_mask, loss_mask, logprobs, versions [1, tokens]; rewards [1].
Sample = dict[str, torch.Tensor]
# The episodes of a task, each a list of turns.
Group = list[list[Sample]]
# A tool's name and its arguments.
Call = tuple[str, dict]


@dataclass
class Script:
    """What is still to be said in an episode: texts of the agent, completions of the user's LLM."""

    agent: Iterator[str]
    user: Iterator[dict]


def record(
    config: Tau2PPOConfig,
    tokenizer: PreTrainedTokenizerFast,
    tasks: list[Task],
    episodes: int,
    thinking: int,
) -> list[Group]:
    """Play `episodes` of each task; every other one fails.

    `thinking` is the number of words that the agent thinks before each turn.
    """
    script = Script(iter(()), iter(()))
    agent_options = asdict(config.rollout.agent)
    proxy_options = {name: agent_options[name] for name in PROXY_OPTIONS}
    sampling = {
        "temperature": config.gconfig.temperature,
        "top_p": config.gconfig.top_p,
        "max_completion_tokens": config.gconfig.max_new_tokens,
    }
    proxy = Proxy(lambda prompt: next(script.agent), tokenizer, **proxy_options)
    rng = random.Random(config.seed)

    async def play_groups(user_llm_base_url: str) -> list[Group]:
        changed = {"domain": DOMAIN, "user_llm_base_url": user_llm_base_url}
        agent = Tau2AgentWorkflow({**asdict(config.econfig), **changed}, sampling)
        workflow = proxy.workflow(agent)
        groups = []
        for task in tasks:
            group = []
            for number in range(episodes):
                agent_says, user_says = conversation(task, number % 2 == 0, thinking, rng)
                script.agent, script.user = iter(agent_says), iter(user_says)
                group.append(await play(workflow, task))
            groups.append(group)
        return groups

    with proxy, LLMServer(lambda request: next(script.user)) as user_simulator:
        return asyncio.run(play_groups(user_simulator.base_url))


def parses_tool_calls(config: Tau2PPOConfig) -> bool:
    """Tell whether AReaL's proxy finds the tool calls in what the scripted agent says.

    It finds none if no library with parsers can be imported, or if the parser is of another format.

    Raises:
        ValueError: there is no parser of this name.
        ImportError: a library with parsers is damaged.
    """
    tools = environment.agent_schemas(DOMAIN)
    options = config.rollout.agent
    text = tool_call(tools[0]["function"]["name"], "{}")
    calls, _, _ = process_tool_calls(
        text, tools, options.tool_call_parser, options.reasoning_parser, "stop"
    )
    return bool(calls)


async def play(workflow: OpenAIProxyWorkflow, task: Task) -> list[Sample]:
    """Play one episode; return its turns as AReaL exports them."""
    # pyrefly: ignore[bad-specialization]  # the workflow does not use the engine
    turns = await workflow.arun_episode(None, {"task_id": task.id})
    if turns is None:
        raise RuntimeError(f"the scripted episode of task {task.id} has no turns")
    return [turn.to_tensor_dict() for turn in turns.values()]


def solved(group: Group) -> int:
    """Count the episodes of the group that got a reward."""
    return sum(episode[-1]["rewards"].item() > 0 for episode in group)


def tasks_that_change_the_database() -> list[Task]:
    """Return the training tasks that expect changes of the database.

    An episode that leaves out such a change fails.
    """
    tasks = [environment.find_task(DOMAIN, row["task_id"]) for row in task_rows(DOMAIN, TASKS)]
    return [task for task in tasks if any(changes(name) for name, _ in expected_calls(task))]


def expected_calls(task: Task) -> list[Call]:
    return [(action.name, action.arguments) for action in environment.expected_actions(task)]


def changes(tool: str) -> bool:
    """Return whether the tool changes the database."""
    toolkit = environment.make_environment(DOMAIN).tools
    assert toolkit is not None
    return toolkit.tool_type(tool) is ToolType.WRITE


def conversation(
    task: Task, succeed: bool, thinking: int, rng: random.Random
) -> tuple[list[str], list[dict]]:
    """Write an episode: the texts that the agent generates, the completions of the user's LLM.

    Its thoughts and words are random, it may make one call more than expected, and without
    `succeed` it leaves out one change of the database.
    """
    instructions = task.user_scenario.instructions
    assert isinstance(instructions, StructuredUserInstructions)
    calls = made_calls(task, succeed, rng)
    greeting = rng.choice(["Of course. ", "I can help with that. ", "Certainly. "])
    agent = [greeting + "Who am I talking to?"]
    user = [
        say(instructions.reason_for_call),
        say(instructions.known_info or "I have told you all I know."),
    ]
    for name, arguments in calls:
        # the policy wants a change to be confirmed
        if changes(name):
            intent = rng.choice(["I will do this", "This is my plan"])
            agent.append(f"{intent}: {name} {json.dumps(arguments)}. Is it right?")
            user.append(say("Yes, please."))
        agent.append(tool_call(name, json.dumps(arguments)))
    criteria = task.evaluation_criteria
    information = (criteria.communicate_info if criteria else None) or []
    farewell = rng.choice(["All is done.", "That is done now."])
    agent.append(f"{farewell} {' '.join(information)}")
    user.append(say("###STOP###"))
    sentences = environment.make_environment(DOMAIN).get_policy().split(". ")
    with_thoughts = [
        f"<think>\n{thoughts(sentences, thinking, rng)}\n</think>\n\n{text}" for text in agent
    ]
    return with_thoughts, user


def made_calls(task: Task, succeed: bool, rng: random.Random) -> list[Call]:
    """Return the expected calls, perhaps with a needless one.

    Without `succeed`, a call that changes the database is missing.
    """
    calls = expected_calls(task)
    if not succeed:
        calls.remove(rng.choice([call for call in calls if changes(call[0])]))
    if rng.random() < 0.5:
        calls.insert(rng.randrange(len(calls) + 1), ("list_all_airports", {}))
    return calls


def thoughts(sentences: list[str], count: int, rng: random.Random) -> str:
    """Return `count` words of sentences in random order."""
    words: list[str] = []
    while len(words) <= count:
        words += rng.choice(sentences).split()
    return " ".join(words[:count])
