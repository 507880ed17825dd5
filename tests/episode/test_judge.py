"""The judge: tau2's request and reading of the answer; no agent pays for a judge that fails."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from tau2.data_model.message import AssistantMessage, Message, ToolMessage, UserMessage
from tau2.data_model.simulation import RewardInfo, SimulationRun, TerminationReason
from tau2.data_model.tasks import RewardType, Task
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment, judge, retries
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.failures import JudgeError
from examples.tau2.episode.judge import Judge, Verdicts, assertions_to_judge, make_judge
from examples.tau2.episode.reward import evaluate_episode
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.calls import register_stock
from tests.scripted import LLMServer, ground_truth, in_turn, replay, say
from tests.waiting import Deadline

ASSERTIONS = ["The agent is kind.", "The agent says goodbye."]
CONVERSATION = [
    UserMessage(role="user", content="Hello, {you}"),
    AssistantMessage(role="assistant", content="Bye\nbye."),
    UserMessage(role="user", content="###STOP###"),
]


def answer(*met: object, **more: object) -> dict:
    """Make the answer of a judge that gives these verdicts."""
    results = [
        {"expectedOutcome": text, "reasoning": "so it is", "metExpectation": value}
        for text, value in zip([*ASSERTIONS, "More."], met, strict=False)
    ]
    return say(json.dumps({"results": results, **more}))


def judged_task() -> Task:
    task = environment.find_task("mock", "create_task_1").model_copy(deep=True)
    task.evaluation_criteria.reward_basis = [RewardType.DB, RewardType.NL_ASSERTION]
    task.evaluation_criteria.nl_assertions = ASSERTIONS
    task.evaluation_criteria.actions = []
    return task


def simulation(reason=TerminationReason.USER_STOP, messages=CONVERSATION) -> SimulationRun:
    return SimulationRun(
        id="x",
        task_id="create_task_1",
        start_time="",
        end_time="",
        duration=0.0,
        termination_reason=reason,
        messages=messages,
    )


def our_reward(server: LLMServer, task: Task, run: SimulationRun) -> RewardInfo:
    config = Tau2EnvConfig("mock", judge_llm="openai/judge", judge_llm_base_url=server.base_url)
    assertions = assertions_to_judge(run, task)
    verdicts = Verdicts([])
    if assertions:
        verdicts = asyncio.run(make_judge(config).judge(run.messages, assertions))
    return evaluate_episode(run, task, "mock", False, False, verdicts=verdicts.checks)


def tau2s_reward(
    server: LLMServer, task: Task, run: SimulationRun, monkeypatch: pytest.MonkeyPatch
) -> RewardInfo:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    return evaluate_simulation(
        run, task, EvaluationType.ALL_WITH_NL_ASSERTIONS, False, register_stock("mock")
    )


@pytest.mark.parametrize(
    "verdicts, reward",
    [
        (answer(True, True), 1.0),
        (answer(True, False), 0.0),
        (answer(False, False, note="more than was asked for"), 0.0),
        (answer(True, False, note="The agent says </think>."), 0.0),
        (answer("yes", "true"), 1.0),
        (answer("yes", "false"), 0.0),
        # more verdicts than assertions
        (answer(True, True, True), 1.0),
        (answer(True, True, False), 0.0),
    ],
)
def test_verdicts_count_as_in_tau2s_own_evaluator(verdicts, reward, monkeypatch):
    task, run = judged_task(), simulation()
    with LLMServer(in_turn(verdicts)) as theirs, LLMServer(in_turn(verdicts)) as ours:
        expected = tau2s_reward(theirs, task, run, monkeypatch)
        found = our_reward(ours, task, run)
    assert found == expected
    assert (found.reward, found.reward_breakdown[RewardType.NL_ASSERTION]) == (reward, reward)
    for name in ("messages", "temperature"):
        assert ours.requests[0][name] == theirs.requests[0][name]


@pytest.mark.parametrize(
    "useless",
    [
        say('{"results": [{"metExp'),
        say('```json\n{"results": []}\n```'),
        say("[]"),
        say('{"results": [{"metExpectation": true}]}'),
        answer("perhaps", "perhaps"),
    ],
)
def test_what_tau2_cannot_read_is_asked_for_again(useless, monkeypatch):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)
    task, run = judged_task(), simulation()
    with LLMServer(in_turn(useless)) as theirs, LLMServer(in_turn(useless, answer(1, 1))) as ours:
        # tau2 checks nothing
        with pytest.raises((ValueError, KeyError, AttributeError)):
            tau2s_reward(theirs, task, run, monkeypatch)
        assert our_reward(ours, task, run).reward == 1.0
    assert [request["temperature"] for request in ours.requests] == [0.0, 1.0]


@pytest.mark.parametrize("fewer", [answer(True), answer(), say("{}")])
def test_a_missing_verdict_is_asked_for_again_where_tau2_takes_it_for_met(fewer, monkeypatch):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)
    task, run = judged_task(), simulation()
    with LLMServer(in_turn(fewer)) as theirs:
        assert tau2s_reward(theirs, task, run, monkeypatch).reward == 1.0
    with LLMServer(in_turn(fewer, answer(True, False))) as ours:
        assert our_reward(ours, task, run).reward == 0.0


def test_an_episode_that_ended_early_and_a_task_without_assertions_are_not_judged(monkeypatch):
    none = judged_task()
    none.evaluation_criteria.nl_assertions = None
    early = simulation(TerminationReason.MAX_STEPS)
    with LLMServer(in_turn((401, {}))) as server:
        for task, run, reward in ((judged_task(), early, 0.0), (none, simulation(), 1.0)):
            found = our_reward(server, task, run)
            assert found == tau2s_reward(server, task, run, monkeypatch)
            assert found.reward == reward
    assert server.requests == []
    with pytest.raises(ValueError, match="need the verdicts of a judge"):
        evaluate_episode(simulation(), judged_task(), "mock", False, False)


def ask_at_once(
    server: LLMServer, *conversations: Sequence[Message], timeout: float = 60.0
) -> list[Verdicts | BaseException]:
    config = Tau2EnvConfig(judge_llm_base_url=server.base_url, timeout=timeout)
    found = make_judge(config)

    async def ask() -> list[Verdicts | BaseException]:
        asked = (found.judge(conversation, ASSERTIONS) for conversation in conversations)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(ask())


def test_equal_conversations_are_judged_once_also_in_other_workflows():
    other = [*CONVERSATION, ToolMessage(id="1", role="tool", content="more")]
    with LLMServer(in_turn(answer(True, False))) as server:
        first, second, third = ask_at_once(server, CONVERSATION, CONVERSATION, other)
        (later,) = ask_at_once(server, CONVERSATION)
        assert len(server.requests) == 2
    assert (first.prompt_tokens, first.completion_tokens) == (100, 10)
    assert second == later == Verdicts(first.checks) and third.prompt_tokens == 100


def test_a_failing_judge_is_asked_again_and_all_its_tokens_count(monkeypatch):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)
    faults = [None, (429, {}), (500, {}), b'{"choices": [', say(""), say("<think>hm</think>")]
    with LLMServer(in_turn(*faults, answer(True, True))) as server:
        (verdicts,) = ask_at_once(server, CONVERSATION)
    assert [check.met for check in verdicts.checks] == [True, True]
    assert verdicts.prompt_tokens == 300
    # the outage began with the first failed call, and is over
    assert judge.judge_outage.failures and judge.judge_outage.since is None


@pytest.mark.parametrize(
    "fault, calls, cause",
    [
        ((401, {"error": {"message": "no such key"}}), 1, "401: no such key"),
        (say("I cannot judge."), 4, "no verdicts can be read in 'I cannot judge.'"),
        (answer(True), 4, "1 verdicts on 2 assertions"),
    ],
)
def test_a_judge_without_verdicts_fails_all_who_wait_and_is_asked_anew_later(
    fault, calls, cause, monkeypatch
):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)
    with LLMServer(in_turn(*[fault] * calls, answer(True, True))) as server:
        failures = ask_at_once(server, CONVERSATION, CONVERSATION)
        assert all(isinstance(each, JudgeError) and cause in str(each) for each in failures)
        assert len(server.requests) == calls
        (verdicts,) = ask_at_once(server, CONVERSATION)
    assert len(verdicts.checks) == 2


def test_a_judge_that_stays_down_fails_at_its_own_deadline(monkeypatch):
    deadline = Deadline(monkeypatch, judge, 7.0)

    def busy(_request):
        if len(server.requests) == 2:
            deadline.passes()
        return 503, {"error": {"message": "busy"}}

    with LLMServer(busy) as server:
        (failure,) = ask_at_once(server, CONVERSATION, timeout=7.0)
    assert isinstance(failure, JudgeError) and "within 7 s" in str(failure)
    assert "503: busy" in str(failure)


def test_one_who_waits_may_be_cancelled_without_the_others():
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def call(messages, tools, tool_choice):
        asked.set()
        await may_answer.wait()
        return await replay([answer(True, True)])(messages, tools, tool_choice)

    async def ask() -> Verdicts:
        shared = Judge(call, 60.0)
        first, second = (
            asyncio.create_task(shared.judge(CONVERSATION, ASSERTIONS)) for _ in range(2)
        )
        await asked.wait()
        first.cancel()
        may_answer.set()
        return await second

    assert len(asyncio.run(ask()).checks) == 2


def test_two_event_loops_may_have_equal_conversations_judged_at_once():
    async def call(messages, tools, tool_choice):
        if not in_other_loop:
            in_other_loop.append(True)
            # meanwhile another thread asks for the same verdicts
            await asyncio.to_thread(other.submit(ask).result, 30)
        return await replay([answer(True, True)])(messages, tools, tool_choice)

    def ask() -> Verdicts:
        return asyncio.run(shared.judge(CONVERSATION, ASSERTIONS))

    in_other_loop: list[bool] = []
    shared = Judge(call, 60.0)
    with ThreadPoolExecutor(1) as other:
        assert len(ask().checks) == 2
        assert len(ask().checks) == 2


def test_a_seed_is_not_sent_again_after_an_unusable_answer(monkeypatch):
    monkeypatch.setattr(retries, "MAX_BACKOFF", 0.0)
    with LLMServer(in_turn(say("Hm."), answer(True, True))) as server:
        config = Tau2EnvConfig(judge_llm_base_url=server.base_url, judge_llm_args={"seed": 7})
        asyncio.run(make_judge(config).judge(CONVERSATION, ASSERTIONS))
    assert [request.get("seed") for request in server.requests] == [7, None]


def test_the_judge_keeps_a_limited_number_of_verdicts(monkeypatch):
    monkeypatch.setattr(judge, "MAX_KEPT", 2)
    others = [[*CONVERSATION, UserMessage(role="user", content=text)] for text in "abc"]
    with LLMServer(in_turn(answer(True, True))) as server:
        ask_at_once(server, *others)
        ask_at_once(server, *others[1:])
        assert len(server.requests) == 3
        ask_at_once(server, others[0])
        assert len(server.requests) == 4


def play(task: Task, judge_answers: list, monkeypatch, **econfig) -> Tau2RunInfo:
    """Play a task's expected actions in the mock domain."""
    monkeypatch.setattr(environment, "find_task", lambda domain, task_id: task)
    agent, user = ground_truth(task)
    with LLMServer(in_turn(*judge_answers)) as server:
        config = {"domain": "mock", "user_llm": "u", "judge_llm_base_url": server.base_url}
        workflow = Tau2AgentWorkflow({**config, **econfig})
        workflow.user_llm = replay(user)
        return asyncio.run(workflow.play_with(replay(agent), {"task_id": task.id}))


def test_the_verdicts_and_their_costs_are_in_the_trajectory(monkeypatch):
    info = play(judged_task(), [answer(True, False)], monkeypatch)
    assert (info.reward, info.termination) == (0.0, "user_stop")
    read = Tau2RunInfo.from_json(info.to_json())
    checks = read.simulation.reward_info.nl_assertions
    assert [(check.nl_assertion, check.met) for check in checks] == [
        (ASSERTIONS[0], True),
        (ASSERTIONS[1], False),
    ]
    statistics = read.statistics()
    assert statistics["judge/prompt_tokens"] == 100 and statistics["judge/usd"] == 0.0
    assert statistics["judge/completion_tokens"] == 10
    assert ASSERTIONS[1] in info.to_text()


def test_an_episode_without_verdicts_is_rejected_and_not_scored(monkeypatch):
    with pytest.raises(JudgeError, match="401"):
        play(judged_task(), [(401, {})], monkeypatch)


def test_the_key_of_the_environment_goes_to_the_judge_alone(monkeypatch):
    monkeypatch.setenv("TAU2_JUDGE_LLM_API_KEY", "sk-judge")
    monkeypatch.setenv("TAU2_USER_LLM_API_KEY", "sk-user")
    args = {"temperature": None, "max_tokens": 50}
    with LLMServer(in_turn(answer(True, True))) as server:
        config = Tau2EnvConfig(
            judge_llm="openai/j", judge_llm_base_url=server.base_url, judge_llm_args=args
        )
        asyncio.run(make_judge(config).judge(CONVERSATION, ASSERTIONS))
    (request,) = server.requests
    assert (request["key"], request["model"], request["max_tokens"]) == ("sk-judge", "j", 50)
    assert "temperature" not in request and "tools" not in request


def test_the_price_of_a_hosted_judge_counts(monkeypatch):
    hosted = {**answer(True, True), "model": "gpt-4o-mini"}
    with LLMServer(in_turn(hosted)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        found = make_judge(Tau2EnvConfig(judge_llm="gpt-4o-mini"))
        verdicts = asyncio.run(found.judge(CONVERSATION, ASSERTIONS))
    assert verdicts.usd > 0 and server.requests[0]["temperature"] == 0.0


def test_a_config_without_a_judge():
    assert make_judge(Tau2EnvConfig()) is None
