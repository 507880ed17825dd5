"""Tries the model's own chat template on each kind of prompt that a run will have."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from areal.utils.hf_utils import load_hf_tokenizer
from openai.types.chat import ChatCompletion
from transformers import PreTrainedTokenizerFast

from examples.tau2.data.dataset import TaskFilter, task_rows
from examples.tau2.data.rendering import TemplateRefusal, render_text
from examples.tau2.data.tasks import find_task_row
from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode import environment
from examples.tau2.episode.completions import assistant_entry, chat_completion
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.failures import describe_error
from examples.tau2.episode.simulation import AsyncOrchestrator
from examples.tau2.training.checks.data import datasets_by_option
from examples.tau2.training.checks.placeholders import is_placeholder
from examples.tau2.training.samples import OTHER_TEMPLATE
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

# a call as a model may make it; the tool answers that it has no such arguments
_ARGUMENTS = '{"text": "a value", "number": 2, "flag": true, "list": [{"key": "value"}]}'
_CALL_ID = "call_0123456789abcdef01234567"
_THOUGHTS = "<think>\nHm.\n</think>\n\n"


@dataclass(frozen=True)
class Prompt:
    """A prompt of the agent: its `kind` for messages, its history, and the schemas of its tools."""

    kind: str
    messages: list[dict]
    tools: list[dict]

    def roles(self) -> str:
        """Return who speaks in the history: `system, assistant, user`."""
        return ", ".join(message["role"] for message in self.messages)


def probe_template(config: Tau2PPOConfig) -> Iterator[str]:
    """Render a prompt of each kind that the run will have; yield what the template makes wrong.

    The prompts are those of an episode's first turns in each domain of the data sets.
    """
    tokenizer, problems = load_tokenizer(config)
    yield from problems
    if tokenizer is None:
        return
    advice = OTHER_TEMPLATE
    if config.econfig.solo_mode:
        advice = f"set econfig.solo_mode=false, or {advice}"
    kinds: dict[str, str] = {}
    for row in _different_tasks(config):
        try:
            prompts = asyncio.run(first_prompts(config.econfig, row))
        except Exception as error:
            yield f"{row.place} of {row.domain} cannot be played ({describe_error(error)})"
            continue
        for prompt in prompts:
            for fault in find_faults(tokenizer, prompt):
                # the history of one prompt is in the next one: the first kind is at fault
                kinds.setdefault(fault, f"{prompt.kind} of {row.domain} ({prompt.roles()})")
    for fault, kind in kinds.items():
        yield f"tokenizer_path={config.tokenizer_path}, {kind}: {fault}; {advice}"


async def first_prompts(econfig: Tau2EnvConfig, row: TaskRow) -> list[Prompt]:
    """Play the first turns of an episode with an agent that follows a script.

    The agent answers with thoughts, unless it is in solo mode, and calls a tool, without and with
    thoughts.
    """
    tools = environment.agent_schemas(row.domain, econfig.solo_mode, econfig.add_thinking_tool)
    calls = [(_CALL_ID, tools[0]["function"]["name"], _ARGUMENTS)]
    turns = [
        (assistant_entry(None, calls), "a tool call in its history"),
        (assistant_entry(_THOUGHTS, calls), "thoughts and a tool call in its history"),
    ]
    if not econfig.solo_mode:
        turns.insert(0, (assistant_entry(f"{_THOUGHTS}Hm.", []), "thoughts in its history"))
    kinds = ["the first prompt", *(f"a prompt with {kind}" for _, kind in turns)]
    histories: list[list[dict]] = []
    # an empty answer ends the episode
    script = iter([*(entry for entry, _ in turns), assistant_entry(None, [])])

    async def call_agent(messages: list[dict], *_: object) -> ChatCompletion:
        histories.append(list(messages))
        return chat_completion(next(script))

    async def call_user(*_: object, **__: object) -> ChatCompletion:
        return chat_completion(assistant_entry("Please help me.", []))

    econfig = replace(econfig, domain=row.domain, max_steps=100)
    await AsyncOrchestrator(econfig, row.task, call_agent, call_user, row.db_path).converse()
    return [Prompt(kind, messages, tools) for kind, messages in zip(kinds, histories, strict=True)]


def find_faults(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> Iterator[str]:
    """Yield the refusal of the chat template, or what it leaves out of the prompt.

    A template leaves a part out if the prompt is the same when this part is another one.
    """
    messages, tools = prompt.messages, prompt.tools
    try:
        rendered = render_text(tokenizer, messages, tools)
    except TemplateRefusal as error:
        yield str(error)
        return
    others: dict[str, tuple[list[dict], list[dict]]] = {"the tools": (messages, [])}
    if messages[-1]["role"] == "tool":
        *earlier, said, result = messages
        other_call = assistant_entry(said["content"], [(_CALL_ID, "another", "{}")])
        others["tool calls"] = [*earlier, other_call, result], tools
        others["results of tools"] = [*earlier, said, {**result, "content": "another"}], tools
    for part, (other_messages, other_tools) in others.items():
        try:
            if render_text(tokenizer, other_messages, other_tools) == rendered:
                yield f"the chat template leaves {part} out"
        except TemplateRefusal:
            continue


def load_tokenizer(
    config: Tau2PPOConfig | Tau2SFTConfig,
) -> tuple[PreTrainedTokenizerFast | None, list[str]]:
    """Load the tokenizer of a run as AReaL does; return None and the problem if that fails.

    There is no problem if the path is a placeholder or a folder that does not exist: other checks
    tell of those.
    """
    path = config.tokenizer_path
    is_missing = path.startswith(("/", ".", "~")) and not Path(path).is_dir()
    if not path or is_placeholder(path) or is_missing:
        return None, []
    try:
        tokenizer = load_hf_tokenizer(path)
    except Exception as error:
        # what is in the folder is read by many libraries, with errors of their own
        return None, [
            f"tokenizer_path={path}: its tokenizer cannot be loaded ({describe_error(error)}); "
            "give the folder of a model, or its name on a model hub that can be reached"
        ]
    if not tokenizer.chat_template:
        return None, [f"tokenizer_path={path} has no chat template; {OTHER_TEMPLATE}"]
    if tokenizer.eos_token is None:
        return None, [
            f"tokenizer_path={path} has no eos_token, which ends a turn; name it in "
            "tokenizer_config.json, or take another model (actor.path)"
        ]
    return tokenizer, []


def _different_tasks(config: Tau2PPOConfig) -> list[TaskRow]:
    """Return up to two tasks of each domain: one with a message history, one without.

    There are none if the domain or a data set is wrong, which `check_data` tells.
    """
    chosen: dict[tuple[str, bool], TaskRow] = {}
    econfig = config.econfig
    if econfig.domain not in environment.DOMAINS:
        return []
    for dataset in datasets_by_option(config).values():
        try:
            task_filter = TaskFilter(**dataset.dataset_kwargs)
            rows = task_rows(econfig.domain, dataset.path, econfig.solo_mode, task_filter)
        except (ValueError, OSError):
            return []
        for data in rows:
            row = find_task_row(data, econfig.domain)
            state = row.task.initial_state
            has_history = state is not None and bool(state.message_history)
            chosen.setdefault((row.domain, has_history), row)
    return list(chosen.values())
