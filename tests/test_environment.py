"""Cheap private environments against tau2's own: same results, same errors, equal hashes at the same times."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import tau2.utils
from tau2.data_model.message import ToolCall
from tau2.environment.environment import Environment
from tau2.registry import registry

from examples.tau2 import environment
from examples.tau2.database import TableView
from examples.tau2.environment import make_environment

KINDS = [("mock", False), ("mock", True), ("airline", False), ("retail", False), ("telecom", False), ("telecom", True)]


def stock(domain: str, solo_mode: bool = False) -> Environment:
    return registry.get_env_constructor(domain)(solo_mode=solo_mode)


def expected_calls(domain: str) -> list[ToolCall]:
    """The actions of the base tasks: valid calls with valid arguments."""
    tasks = environment.load_tasks(domain)
    return [
        ToolCall(id="x", name=action.name, arguments=action.arguments, requestor=action.requestor)
        for id in environment.task_splits(domain)["base"]
        for action in (tasks[id].evaluation_criteria.actions or [])
    ]


def random_calls(domain: str, solo_mode: bool, seed: int, count: int) -> list[ToolCall]:
    """Calls of every tool: those expected somewhere, in random order, some altered, and calls with arguments mixed up."""
    rng = random.Random(seed)
    known = expected_calls(domain)
    values = [value for call in known for value in call.arguments.values()] or ["x"]
    tools = [(tool, "assistant") for tool in environment.agent_tools(domain, solo_mode) if tool.name != "done"]
    if not solo_mode:
        tools += [(tool, "user") for tool in environment.user_tools(domain) or ()]
    calls = []
    for number in range(count):
        if known and rng.random() < 0.6:
            call = rng.choice(known).model_copy(deep=True)
            if call.arguments and rng.random() < 0.3:
                call.arguments[rng.choice(list(call.arguments))] = rng.choice(values)
        else:
            tool, requestor = tools[number % len(tools)]
            arguments = {name: rng.choice(values) for name in tool.params.model_fields}
            call = ToolCall(id="x", name=tool.name, arguments=arguments, requestor=requestor)
        if solo_mode:
            call.requestor = "assistant"
        calls.append(call)
    return calls


def outcome(env: Environment, call: ToolCall) -> tuple:
    message = env.get_response(call)
    return message.content, message.error


@pytest.mark.parametrize("domain, solo_mode", KINDS)
def test_random_calls_give_what_tau2_gives(domain, solo_mode):
    """Also the pattern of equal hashes: whenever tau2's database returns to an earlier state, so does ours."""
    for seed in range(3):
        theirs, mine = stock(domain, solo_mode), make_environment(domain, solo_mode)
        seen: list[tuple] = [
            ((theirs.get_db_hash(), theirs.get_user_db_hash()), (mine.get_db_hash(), mine.get_user_db_hash()))
        ]
        for number, call in enumerate(random_calls(domain, solo_mode, seed, 60)):
            assert outcome(mine, call) == outcome(theirs, call), call
            if number % 6 == 0:
                seen.append(
                    (
                        (theirs.get_db_hash(), theirs.get_user_db_hash()),
                        (mine.get_db_hash(), mine.get_user_db_hash()),
                    )
                )
        for their_a, my_a in seen:
            for their_b, my_b in seen:
                assert (their_a == their_b) == (my_a == my_b)


@pytest.mark.parametrize("domain, solo_mode", KINDS)
def test_interleaved_episodes_never_see_each_other_and_the_frozen_database_stays(domain, solo_mode):
    """Every tool is called, those that tau2 marks as reading too: none writes to what it shares with other episodes."""
    frozen = environment._pristine_environment(domain, solo_mode, False)
    before = [kit and json.dumps(kit.db.model_dump(), default=str) for kit in (frozen.tools, frozen.user_tools)]
    calls = random_calls(domain, solo_mode, seed=7, count=80)
    alone = make_environment(domain, solo_mode)
    expected = [outcome(alone, call) for call in calls]
    first, second = make_environment(domain, solo_mode), make_environment(domain, solo_mode)
    noise = random_calls(domain, solo_mode, seed=8, count=80)
    for call, disturbance, result in zip(calls, noise, expected, strict=True):
        outcome(second, disturbance)
        assert outcome(first, call) == result
    after = [kit and json.dumps(kit.db.model_dump(), default=str) for kit in (frozen.tools, frozen.user_tools)]
    assert after == before


@pytest.mark.parametrize("domain, solo_mode", KINDS)
def test_initial_states_are_tau2s(domain, solo_mode):
    compared = 0
    for id in environment.task_splits(domain)["base"]:
        state = environment.load_tasks(domain)[id].initial_state
        if state is None or (solo_mode and not environment.playable_solo(environment.load_tasks(domain)[id])):
            continue
        theirs, mine = stock(domain, solo_mode), make_environment(domain, solo_mode)
        for env in (theirs, mine):
            env.set_state(state.initialization_data, state.initialization_actions, state.message_history or [])
        for kit in ("tools", "user_tools"):
            if getattr(theirs, kit) is not None:
                assert contents(getattr(mine, kit).db) == contents(getattr(theirs, kit).db)
        compared += 1
        if compared == 20:
            break
    assert compared or domain in ("airline", "retail")


def contents(db) -> dict:
    fields = {name: getattr(db, name) for name in type(db).model_fields}
    return {
        name: {key: item.model_dump() for key, item in value.items()} if isinstance(value, (TableView, dict)) else value
        for name, value in fields.items()
    }


@pytest.fixture
def table() -> tuple[TableView, dict]:
    plain = dict(stock("mock").tools.db.users)
    return TableView(plain), dict(stock("mock").tools.db.users)


@pytest.mark.parametrize(
    "use",
    [
        lambda t: (list(t), len(t), "user_1" in t, "nobody" in t, t.get("nobody")),
        lambda t: (t.pop("user_1").name, list(t), len(t), "user_1" in t),
        lambda t: (t.update(new=t["user_1"]), list(t), len(t), [key for key, _ in t.items()]),
        lambda t: (t.pop("user_1"), t.update(user_1=None), len(t), "user_1" in t, t["user_1"]),
        lambda t: [item.name for item in t.values()],
    ],
)
def test_a_table_view_behaves_like_a_dict(table, use: Callable):
    view, plain = table
    assert use(view) == use(plain)


def test_missing_keys_and_deleted_keys_raise(table):
    view, _ = table
    del view["user_1"]
    for key in ("user_1", "nobody"):
        with pytest.raises(KeyError):
            view[key]
        with pytest.raises(KeyError):
            del view[key]


def test_data_of_another_checkout(tmp_path):
    """`TAU2_DATA_DIR`, which the tau2 on PyPI ignores, replaces the data that came with it."""
    shutil.copytree(tau2.utils.DATA_DIR, tmp_path / "data")
    policy = tmp_path / "data/tau2/domains/mock/policy.md"
    policy.write_text("Be kind.")
    script = "from examples.tau2 import environment as e; print(e.make_environment('mock').get_policy())"
    variables = {**os.environ, "TAU2_DATA_DIR": str(tmp_path / "data")}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=variables, check=True)
    assert run.stdout.strip() == "Be kind."


def test_thinking_tool_is_answered_without_a_trace():
    for domain in environment.DOMAINS:
        env = make_environment(domain, thinking_tool=True)
        before = env.get_db_hash()
        assert outcome(env, ToolCall(id="x", name="think", arguments={"thought": "hm"})) == ("", False)
        assert env.get_db_hash() == before == make_environment(domain).get_db_hash()
        names = {tool.name for tool in environment.agent_tools(domain, thinking_tool=True)}
        assert names - {tool.name for tool in environment.agent_tools(domain)} == {"think"}


@pytest.mark.parametrize("domain", ["airline", "retail"])
def test_calculate_ends(domain):
    env = make_environment(domain)
    calculate = {"id": "x", "name": "calculate"}
    assert outcome(env, ToolCall(**calculate, arguments={"expression": "9**9**9"})) == (
        "Error: Invalid characters in expression",
        True,
    )
    assert outcome(env, ToolCall(**calculate, arguments={"expression": "2 * 3"})) == ("6.0", False)
    (tool,) = [tool for tool in environment.agent_tools(domain) if tool.name == "calculate"]
    (theirs,) = [tool for tool in stock(domain).get_tools() if tool.name == "calculate"]
    assert tool.openai_schema == theirs.openai_schema


def test_assertions_that_raise_are_not_met_but_initial_ones_still_raise():
    task = environment.find_task("mock", "create_task_1_with_env_assertions")
    (assertion,) = task.evaluation_criteria.env_assertions
    env = make_environment("mock")
    assert env.run_env_assertion(assertion, raise_assertion_error=False) is False
    with pytest.raises(ValueError, match="task_2 not found"):
        env.run_env_assertion(assertion, raise_assertion_error=True)
