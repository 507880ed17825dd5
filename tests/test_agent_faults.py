"""What ends an episode early, or rejects it, through AReaL's real proxy server."""

import asyncio

import pytest

from examples.tau2 import agent as agent_module
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from tests.areal_proxy import Proxy, tool_call
from tests.episodes import CREATE, DONE, SAMPLING, SOLO, TASK, episode, play, rewards
from tests.scripted import in_turn
from tests.waiting import Deadline


def test_answer_cut_at_the_token_limit_is_a_valid_episode():
    with Proxy(in_turn(CREATE)) as proxy:
        agent = Tau2AgentWorkflow(SOLO, {**SAMPLING, "max_completion_tokens": 20})
        interactions = asyncio.run(proxy.workflow(agent).arun_episode(None, TASK))
    assert rewards(interactions.values()) == [-0.1]


def test_context_window_exceeded_is_a_valid_episode(tmp_path):
    answers = [CREATE, tool_call("transfer_to_human_agents", '{"summary": "x"}')]
    first = play(answers, tmp_path / "first", {"max_steps": 3}).turns[0]
    info = play(
        answers,
        tmp_path / "second",
        engine_max_tokens=first.prompt_tokens + first.completion_tokens + 10,
    )
    assert (info.reward, info.termination, len(info.turns)) == (0.0, "context_window_exceeded", 1)
    assert info.simulation.termination_reason == "agent_error"


def test_context_window_of_areals_engine_exceeded_is_a_valid_episode(tmp_path):
    refusal = RuntimeError(
        "max_new_tokens (-9) is non-positive! max_tokens=32768, prompt_len=32777, "
        "max_new_tokens=512."
    )
    assert play([CREATE, refusal], tmp_path).termination == "context_window_exceeded"


ONLY_STOP_TOKENS = ValueError(
    "All output_tokens are EOS or PAD tokens; cannot strip stop tokens without removing entire "
    "output."
)


def test_nothing_but_stop_tokens_is_an_empty_turn_after_the_first(tmp_path):
    info = play([CREATE, ONLY_STOP_TOKENS], tmp_path)
    assert (info.reward, info.termination, info.failure) == (0.0, "agent_error", "empty")


def test_nothing_but_stop_tokens_at_first_rejects_the_episode():
    with pytest.raises(EpisodeRejected, match="mock task 'create_task_1'.*nothing to train on"):
        episode([ONLY_STOP_TOKENS])


def test_a_fault_of_the_inference_server_rejects_the_episode():
    with pytest.raises(EpisodeRejected, match="create_task_1.*InternalServerError.*CUDA"):
        episode([CREATE, RuntimeError("CUDA error: device-side assert")])


def test_an_unreachable_proxy_rejects_the_episode():
    with pytest.raises(EpisodeRejected, match="create_task_1.*refused"):
        asyncio.run(Tau2AgentWorkflow(SOLO).run(TASK, "http://127.0.0.1:9", "key"))


def test_an_unknown_task_is_rejected_by_name():
    with pytest.raises(EpisodeRejected, match="mock task 'nonsense'.*has no task"):
        asyncio.run(
            Tau2AgentWorkflow(SOLO).run({"task_id": "nonsense"}, "http://127.0.0.1:9", "key")
        )


def test_an_assertion_that_raises_is_not_met():
    """mock's assertion on task_2 raises if the agent has created no task."""
    task = {"task_id": "create_task_1_with_env_assertions"}
    assert rewards(episode([DONE], task=task)) == [0.0]
    assert rewards(episode([CREATE, DONE], task=task)) == [1.0, 1.0]


def test_an_episode_that_nobody_can_judge_is_not_played(monkeypatch):
    task = agent_module.environment.find_task("mock", "create_task_1").model_copy(deep=True)
    task.evaluation_criteria.reward_basis = ["NL_ASSERTION"]
    monkeypatch.setattr(agent_module.environment, "find_task", lambda domain, task_id: task)
    with pytest.raises(EpisodeRejected, match="create_task_1.*name one by econfig.judge_llm"):
        episode([])


@pytest.mark.parametrize("reject", [False, True])
def test_deadline(reject, monkeypatch):
    deadline = Deadline(monkeypatch, agent_module, 3.0)

    def answer(prompt):
        if "Success" in prompt or "task_2" in prompt:
            deadline.passes()
            return DONE
        return CREATE

    with Proxy(answer) as proxy:
        agent = Tau2AgentWorkflow({**SOLO, "timeout": 3.0, "reject_on_timeout": reject}, SAMPLING)
        playing = proxy.workflow(agent).arun_episode(None, TASK)
        if reject:
            with pytest.raises(EpisodeRejected, match="create_task_1.*deadline of 3"):
                asyncio.run(playing)
        else:
            assert rewards(asyncio.run(playing).values())[0] == 0.0


def test_max_steps_and_too_many_errors_are_valid_episodes(tmp_path):
    looking = tool_call("get_users", "{}")
    assert play([looking], tmp_path / "a", {"max_steps": 4}).termination == "max_steps"
    wrong = tool_call("create_task", '{"user_id": "nobody", "title": "t"}')
    assert play([wrong], tmp_path / "b").termination == "too_many_errors"


def test_a_disk_that_cannot_be_written_costs_a_warning_not_the_episode(tmp_path, logged):
    (tmp_path / "generated").write_text("a file where the folder should be")
    with Proxy(in_turn(CREATE, DONE, CREATE, DONE)) as proxy, logged(agent_module) as lines:
        # AReaL makes a workflow for every group
        for _ in range(2):
            agent = Tau2AgentWorkflow(SOLO, SAMPLING, output_dir=str(tmp_path / "generated"))
            assert asyncio.run(proxy.workflow(agent).arun_episode(None, TASK))
    assert len(lines) == 1 and "are lost" in lines[0]
