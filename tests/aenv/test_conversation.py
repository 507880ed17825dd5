"""The policy is shown in AEnvironment what it is shown without it, and earns the same."""

import json
import re

import pytest

from tests.aenv.episodes import CREATE, MOCK, play, play_directly
from tests.calls import base_tasks
from tests.scripted import ground_truth, say

# turns that are not a single call of a known tool with valid arguments
ODD_TURNS = [
    say("Let me see.", ("get_users", {})),
    say(None, ("get_users", {}), ("get_users", {})),
    say(None, ("no_such_tool", {"a": 1})),
    say(None, ("get_users", {}), ("no_such_tool", {})),
    say(None, ("create_task", {"user_id": "nobody", "title": "\ud800"})),
]
TEXT_LIKE_A_CALL = say(json.dumps({"name": CREATE[0], "arguments": CREATE[1]}))
WITH_USER = {**MOCK, "solo_mode": False}

# the data, the policy's turns, and the user's, if there is a user
CONVERSATIONS = {
    "odd turns": (MOCK, [*ODD_TURNS, say(None, CREATE), say(None, ("done", {}))], None),
    "a call that does not parse": (MOCK, [say(None, ("create_task", '{"user_id": '))], None),
    "arguments that are not JSON for all": (
        MOCK,
        [say(None, ("create_task", '{"user_id": NaN, "title": 1e999}'))],
        None,
    ),
    "deep arguments": (MOCK, [say(None, ("create_task", '{"a":' * 40 + "1" + "}" * 40))], None),
    "text in solo mode": (MOCK, [say("I am done.")], None),
    "text that looks like a call, or like the end": (
        WITH_USER,
        [TEXT_LIKE_A_CALL, say("###STOP###"), say(None, CREATE), say("Done.")],
        [say("Create it."), say("So?"), say("Go on."), say("###STOP###")],
    ),
    "only text that looks like a call": (
        WITH_USER,
        [TEXT_LIKE_A_CALL, say("Done.")],
        [say("Create it."), say("So?"), say("###STOP###")],
    ),
    "a history before the episode": (
        {"domain": "mock", "task_id": "update_task_with_message_history", "solo_mode": False},
        [
            say(None, ("update_task_status", {"task_id": "task_1", "status": "completed"})),
            say("Done."),
        ],
        [say("Go on."), say("Thanks. ###STOP###")],
    ),
    "thirty calls": (
        MOCK,
        [
            *(say(None, ("get_users", {})) for _ in range(30)),
            say(None, CREATE),
            say(None, ("done", {})),
        ],
        None,
    ),
    "too many steps": (
        {**MOCK, "max_steps": 5},
        [say(None, ("get_users", {})) for _ in range(9)],
        None,
    ),
    "the think tool": (
        {**MOCK, "add_thinking_tool": True},
        [say(None, ("think", {"thought": "hm"})), say(None, CREATE), say(None, ("done", {}))],
        None,
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_policy_is_shown_and_earns_what_it_does_without_aenvironment(name, aenv_service):
    reward, requests = play(*CONVERSATIONS[name])
    expected, expected_requests = play_directly(*CONVERSATIONS[name])
    assert reward == expected
    assert_same_messages(requests, expected_requests)
    assert_same_tools(requests[0], expected_requests[0])


@pytest.mark.parametrize(
    "domain, solo_mode",
    [("telecom", True), ("telecom", False), ("airline", False), ("retail", False)],
)
def test_the_longest_tasks_are_solved_with_their_whole_history(domain, solo_mode, aenv_service):
    task = max(
        base_tasks(domain, solo_mode), key=lambda task: len(task.evaluation_criteria.actions or [])
    )
    data = {"domain": domain, "task_id": task.id, "solo_mode": solo_mode}
    agent_turns, user_turns = ground_truth(task, solo_mode)
    reward, requests = play(data, agent_turns, user_turns or None)
    expected, expected_requests = play_directly(data, agent_turns, user_turns or None)
    assert reward == expected == 1.0
    assert_same_messages(requests, expected_requests)
    assert len(requests) == len(agent_turns) >= 12
    assert_same_tools(requests[0], expected_requests[0])
    assert ("done" in {tool["function"]["name"] for tool in requests[0]["tools"]}) == solo_mode
    assert ("<ticket>" in requests[0]["messages"][0]["content"]) == solo_mode


def test_tool_calls_whose_ids_are_not_unique_leave_no_hole_in_the_history(aenv_service):
    twice = say(None, ("get_users", {}), ("get_users", {}))
    first, second = twice["choices"][0]["message"]["tool_calls"]
    second["id"] = first["id"]
    reward, requests = play(MOCK, [twice, twice, say(None, CREATE), say(None, ("done", {}))])
    assert reward == 1.0
    roles = ["system", *["assistant", "tool", "tool"] * 2, "assistant", "tool"]
    assert [message["role"] for message in requests[-1]["messages"]] == roles


def assert_same_messages(requests: list[dict], expected: list[dict]) -> None:
    messages = [request["messages"] for request in requests]
    assert messages == [request["messages"] for request in expected]


def assert_same_tools(request: dict, expected: dict) -> None:
    assert request["tool_choice"] == expected["tool_choice"]
    for tool in request["tools"]:
        assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", tool["function"]["name"])
    # a chat template shows their order, too
    assert json.dumps(request["tools"]) == json.dumps(expected["tools"])
