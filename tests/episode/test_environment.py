"""Environments of episodes against tau2's own: the same results, errors and equal hashes."""

import json
import re
from contextlib import suppress

import pytest
from tau2.data_model.message import ToolCall
from tau2.environment.environment import Environment
from tau2.environment.toolkit import ToolType

from examples.tau2.episode import environment
from examples.tau2.episode.environment import make_environment
from tests.calls import MODES, base_tasks, contents, random_calls, stock, untimed


def outcome(env: Environment, call: ToolCall) -> tuple:
    message = env.get_response(call)
    # telecom opens bills under random ids
    content = re.sub(r"\bB[0-9a-f]{8}\b", "<bill>", message.content)
    return untimed(content), message.error


def hashes(env: Environment) -> tuple:
    return env.get_db_hash(), env.get_user_db_hash()


@pytest.mark.parametrize("domain, solo_mode", MODES)
def test_random_calls_of_every_tool_give_what_tau2_gives(domain, solo_mode):
    """Hashes are equal at the same times: if tau2's database is as it was earlier, so is ours."""
    called, succeeded = set(), set()
    for seed in range(3):
        theirs, mine = stock(domain, solo_mode), make_environment(domain, solo_mode)
        seen = [(hashes(theirs), hashes(mine))]
        for number, call in enumerate(random_calls(domain, solo_mode, seed, 150)):
            result = outcome(mine, call)
            assert result == outcome(theirs, call), call
            called.add(call.name)
            if not result[1]:
                succeeded.add(call.name)
            if number % 15 == 0:
                seen.append((hashes(theirs), hashes(mine)))
        for their_a, my_a in seen:
            for their_b, my_b in seen:
                assert (their_a == their_b) == (my_a == my_b)
    tools = {tool.name for tool in environment.agent_tools(domain, solo_mode)} - {"done"}
    assert called >= tools and len(succeeded) > 0.8 * len(called), called - succeeded


@pytest.mark.parametrize("domain, solo_mode", MODES)
def test_interleaved_episodes_never_see_each_other_and_the_frozen_database_stays(domain, solo_mode):
    before = contents(make_environment(domain, solo_mode))
    calls = random_calls(domain, solo_mode, seed=7, count=150)
    alone = make_environment(domain, solo_mode)
    expected = [outcome(alone, call) for call in calls]
    first, second = make_environment(domain, solo_mode), make_environment(domain, solo_mode)
    noise = random_calls(domain, solo_mode, seed=8, count=150)
    for call, disturbance, result in zip(calls, noise, expected, strict=True):
        outcome(second, disturbance)
        assert outcome(first, call) == result
    assert contents(make_environment(domain, solo_mode)) == before


@pytest.mark.parametrize("domain, solo_mode", MODES)
def test_no_tool_writes_that_tau2_marks_as_reading(domain, solo_mode):
    """This test is about tau2's own toolkits. In ours, such a tool could only write to copies."""
    env = stock(domain, solo_mode)
    reading = 0
    for call in random_calls(domain, solo_mode, seed=9, count=120):
        for kit in filter(None, (env.tools, env.user_tools)):
            if kit.has_tool(call.name) and kit.tool_type(call.name) != ToolType.WRITE:
                before = kit.db.model_dump_json(warnings=False)
                with suppress(Exception):
                    kit.use_tool(call.name, **call.arguments)
                assert kit.db.model_dump_json(warnings=False) == before, call.name
                reading += 1
        outcome(env, call)
    assert reading > 20


@pytest.mark.parametrize("domain, solo_mode", MODES)
def test_initial_states_are_tau2s(domain, solo_mode):
    states = [
        task.initial_state
        for task in base_tasks(domain, solo_mode)
        if task.initial_state is not None
    ]
    for state in states:
        theirs, mine = stock(domain, solo_mode), make_environment(domain, solo_mode)
        for env in (theirs, mine):
            env.set_state(
                state.initialization_data, state.initialization_actions, state.message_history or []
            )
        assert contents(mine) == contents(theirs)
    assert states or domain in ("airline", "retail")


def test_a_data_folder_without_splits_is_told(tmp_path, monkeypatch):
    for domain in ("airline", "telecom"):
        variable = f"tau2.domains.{domain}.environment.{domain.upper()}_TASK_SET_PATH"
        monkeypatch.setattr(variable, tmp_path / "tasks.json")
        with pytest.raises(ValueError, match=f"tau2's data of {domain} in .*split_tasks.json"):
            environment.task_splits.__wrapped__(domain)


def test_a_database_file_replaces_the_domains_and_is_read_once(tmp_path):
    path = tmp_path / "db.json"
    db = stock("mock").tools.db.model_dump(mode="json")
    db["users"]["user_2"] = {**db["users"]["user_1"], "user_id": "user_2", "name": "Another"}
    path.write_text(json.dumps(db))
    first = make_environment("mock", db_path=str(path))
    path.unlink()
    second = make_environment("mock", True, db_path=str(path))
    expected = stock("mock").tools.db.model_validate(db).model_dump()
    assert contents(first)[0] == contents(second)[0] == expected
    assert len(contents(make_environment("mock"))[0]["users"]) == 1
    assert environment.register_environment(
        "mock", db_path=str(path)
    ) != environment.register_environment("mock")


def test_tasks_are_parsed_once():
    assert environment.load_tasks("telecom") is environment.load_tasks("telecom")


def test_thinking_tool_is_answered_without_a_trace():
    for domain in environment.DOMAINS:
        env = make_environment(domain, thinking_tool=True)
        before = env.get_db_hash()
        assert outcome(env, ToolCall(id="x", name="think", arguments={"thought": "hm"})) == (
            "",
            False,
        )
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
