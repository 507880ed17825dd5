"""The tool calls of conversations, compared with the actions that tasks expect."""

from tau2.data_model.message import AssistantMessage, ToolCall, ToolMessage
from tau2.data_model.tasks import Task

from examples.tau2.episode.actions import compare_actions


def task(*expected: tuple[str, dict]) -> Task:
    return Task.model_validate(
        {
            "id": "t",
            "user_scenario": {"instructions": "Ask."},
            "evaluation_criteria": {
                "actions": [
                    {"action_id": str(number), "name": name, "arguments": arguments}
                    for number, (name, arguments) in enumerate(expected)
                ]
            },
        }
    )


def calls(*made: tuple[str, dict]) -> list[AssistantMessage]:
    return [
        AssistantMessage(
            role="assistant", tool_calls=[ToolCall(id="", name=name, arguments=arguments)]
        )
        for name, arguments in made
    ]


def compared(expected: list, made: list) -> list[tuple]:
    """Compare calls with expected ones.

    The result has (status, expected arguments, arguments of the call, index of the message).
    """
    found = []
    for action in compare_actions(task(*expected), calls(*made)):
        expected_arguments = action.expected and action.expected.arguments
        done_arguments = action.done and action.done.arguments
        found.append((action.status, expected_arguments, done_arguments, action.message))
    return found


def test_actions_are_matched_missing_extra_or_differ_in_their_arguments():
    expected = [("a", {"x": 1}), ("b", {}), ("c", {"y": 1}), ("d", {})]
    made = [("e", {}), ("a", {"x": 1}), ("c", {"y": 2}), ("c", {"y": 3})]
    assert compared(expected, made) == [
        ("extra", None, {}, 0),
        ("matched", {"x": 1}, {"x": 1}, 1),
        ("missing", {}, None, None),
        ("differs", {"y": 1}, {"y": 2}, 2),
        ("missing", {}, None, None),
        ("extra", None, {"y": 3}, 3),
    ]


def test_a_call_counts_once_and_an_exact_match_comes_before_one_that_differs():
    found = compared([("a", {"x": 2}), ("a", {"x": 1})], [("a", {"x": 1}), ("a", {"x": 3})])
    assert found == [
        ("matched", {"x": 1}, {"x": 1}, 0),
        ("differs", {"x": 2}, {"x": 3}, 1),
    ]
    twice = compared([("a", {}), ("a", {})], [("a", {})])
    assert [status for status, *_ in twice] == ["matched", "missing"]


def test_nothing_expected_and_nothing_done():
    assert compared([], []) == [] and compared([], [("a", {})]) == [("extra", None, {}, 0)]
    assert compare_actions(task().model_copy(update={"evaluation_criteria": None}), []) == []


def test_a_tool_that_calls_another_is_compared_by_the_tool_that_it_calls():
    a, b, more_of_a = (
        ("call_discoverable_agent_tool", {"agent_tool_name": tool, "arguments": arguments})
        for tool, arguments in (("a", "{}"), ("b", "{}"), ("a", "[]"))
    )
    assert [status for status, *_ in compared([a], [b])] == ["missing", "extra"]
    assert [status for status, *_ in compared([a], [b, more_of_a])] == ["extra", "differs"]


def test_a_call_whose_result_is_an_error_has_failed():
    messages = calls(("a", {"x": 2}))
    messages[0].tool_calls.append(ToolCall(id="", name="b", arguments={}))
    results = [
        ToolMessage(id="", role="tool", requestor="assistant", error=e) for e in (False, True)
    ]
    found = compare_actions(task(("a", {"x": 1})), [*messages, *results])
    assert [(action.status, action.failed) for action in found] == [
        ("differs", False),
        ("extra", True),
    ]
    # an episode may end before the tools have answered
    assert not any(action.failed for action in compare_actions(task(), messages))


def test_a_call_that_failed_does_an_action_only_if_no_other_does():
    failing, done = calls(("a", {}), ("a", {"x": 1}))
    error, result = (
        ToolMessage(id="", role="tool", requestor="assistant", error=e) for e in (True, False)
    )
    # without arguments, the failing call matches by tau2's comparison
    found = compare_actions(task(("a", {"x": 1})), [failing, error, done, result])
    assert [(action.status, action.failed) for action in found] == [
        ("extra", True),
        ("matched", False),
    ]
    (alone,) = compare_actions(task(("a", {"x": 1})), [failing, error])
    assert (alone.status, alone.failed) == ("matched", True)
