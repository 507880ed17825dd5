"""Episodes through AReaL's real proxy server and real HTTP servers: what AReaL gets to train on, and every fault."""

import asyncio
import json
import logging
import threading
import time
from pathlib import Path

import pytest
from areal.api.cli_args import GenerationHyperparameters
from areal.infra import workflow_context
from areal.infra.remote_inf_engine import GroupedRolloutWorkflow
from areal.utils import stats_tracker
from areal.utils.data import concat_padded_tensors

from examples.tau2 import agent as agent_module
from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow, has_mixed_rewards
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.areal_proxy import Proxy, tool_call
from tests.calls import base_tasks, stock
from tests.own_tasks import entry, mock_db, mock_entry, write
from tests.scripted import LLMServer, ground_truth, in_turn, replay, say

CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Important Meeting"}')
DONE = tool_call("done", "{}")
BAD_CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Lunch"}')
SOLO = {"domain": "mock", "solo_mode": True}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 512}
TASK = {"task_id": "create_task_1"}


def episode(
    answers: list,
    econfig: dict | None = None,
    discount: float = 1.0,
    task: dict = TASK,
    **agent_config,
):
    """Play one episode through the proxy; returns AReaL's interactions in order."""
    with Proxy(in_turn(*answers), turn_discount=discount, **agent_config) as proxy:
        workflow = proxy.workflow(Tau2AgentWorkflow({**SOLO, **(econfig or {})}, SAMPLING))
        return list(asyncio.run(workflow.arun_episode(None, task)).values())


def rewards(interactions) -> list[float]:
    return [round(interaction.reward, 6) for interaction in interactions]


@pytest.mark.parametrize(
    "discount, expected", [(1.0, [1.0, 1.0]), (0.5, [0.5, 1.0]), (0.0, [0.0, 1.0])]
)
def test_turn_discount_is_what_areal_trains_on(discount, expected):
    interactions = episode([CREATE, DONE], discount=discount)
    assert rewards(interactions) == expected
    tensors = concat_padded_tensors([interaction.to_tensor_dict() for interaction in interactions])
    assert tensors["rewards"].tolist() == expected
    assert (tensors["loss_mask"].sum(1) > 0).all()


LUNCH = mock_entry("user_1", "Lunch")
DINNER = {
    "name": "create_task",
    "arguments": {"user_id": "user_1", "title": "Dinner"},
    "action_id": "1",
}


def two_actions(folder: Path) -> dict:
    """A row that expects two tasks to be created."""
    criteria = json.loads(LUNCH["evaluation_criteria"])
    criteria["actions"].append(DINNER)
    return {"tasks_file": write(folder, [{**LUNCH, "evaluation_criteria": criteria}]), "row": 1}


@pytest.mark.parametrize(
    "says, earned",
    [
        ([BAD_CREATE, CREATE, DONE], [0.2, 0.0, 0.0]),  # BAD_CREATE is Lunch: one of two actions
        (
            [BAD_CREATE, tool_call("create_task", json.dumps(DINNER["arguments"])), CREATE, DONE],
            [0.2, 0.2, 0.0, 0.0],
        ),
        (
            [BAD_CREATE, tool_call("create_task", json.dumps(DINNER["arguments"])), DONE],
            [0.2, 0.2, 0.6],
        ),
        (
            [BAD_CREATE, BAD_CREATE, DONE],
            [0.2, 0.0, 0.0],
        ),  # what is done already earns nothing again
        ([DONE], [0.0]),
    ],
    ids=["half", "all, and more", "solved", "twice", "nothing"],
)
def test_turns_earn_rewards_for_expected_actions(says, earned, tmp_path):
    interactions = episode(says, {"action_reward": 0.4}, discount=0.0, task=two_actions(tmp_path))
    assert rewards(interactions) == earned
    tensors = concat_padded_tensors([interaction.to_tensor_dict() for interaction in interactions])
    assert tensors["rewards"].tolist() == pytest.approx(earned)
    unshaped = episode(says, discount=0.0, task=two_actions(tmp_path))
    assert sum(rewards(unshaped)) == float(sum(earned) == pytest.approx(1.0)) and sum(earned) in (
        0,
        0.2,
        0.4,
        1.0,
    )


def test_a_failed_episode_is_a_zero():
    assert rewards(episode([BAD_CREATE, DONE])) == [0.0, 0.0]


@pytest.mark.parametrize(
    "malformed, then, expected",
    [
        (tool_call("no_such_tool", "{}"), [CREATE, DONE], [-0.25, 0, 1]),
        ("I create it." + CREATE, [DONE], [-0.25, 1]),
        (tool_call("create_task", '{"user_id": '), [], [-0.25]),
        ("<think>\nnothing to say\n</think>", [], [-0.25]),
        ("Shall I create it?", [], [-0.25]),
    ],
    ids=["unknown tool", "text and call", "unparsable", "empty", "text in solo mode"],
)
def test_format_penalty_is_subtracted_from_the_malformed_turn(
    malformed, then, expected, monkeypatch
):
    monkeypatch.setenv("SGLANG_FORWARD_UNKNOWN_TOOLS", "1")  # as the configs have it
    econfig = {"invalid_format_penalty": 0.25}
    # undiscounted and unpropagated (discount 0): the rewards of the turns themselves
    assert rewards(episode([malformed, *then], econfig, discount=0.0)) == expected
    returns = [sum(expected[i:]) for i in range(len(expected))]
    assert rewards(episode([malformed, *then], econfig, discount=1.0)) == returns


def test_thinking_before_a_call_is_not_malformed():
    assert rewards(episode(["<think>\nhm\n</think>\n\n" + CREATE, DONE])) == [1.0, 1.0]


def test_thinking_tool_is_offered_and_answered_and_costs_nothing():
    think = tool_call("think", '{"thought": "A task is wanted."}')
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        return [think, CREATE, DONE][len(prompts) - 1]

    with Proxy(answer) as proxy:
        workflow = proxy.workflow(Tau2AgentWorkflow({**SOLO, "add_thinking_tool": True}, SAMPLING))
        interactions = asyncio.run(workflow.arun_episode(None, TASK))
    assert rewards(interactions.values()) == [1.0, 1.0, 1.0]
    assert '"think"' in prompts[0] and "Error" not in prompts[1]
    assert rewards(episode([think, CREATE, DONE])) != [
        1.0,
        1.0,
        1.0,
    ]  # not offered: an unknown tool


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
        "max_new_tokens (-9) is non-positive! max_tokens=32768, prompt_len=32777, max_new_tokens=512."
    )
    assert play([CREATE, refusal], tmp_path).termination == "context_window_exceeded"


def play(answers: list, folder: Path, econfig: dict | None = None, **agent_config) -> Tau2RunInfo:
    """Play one episode through the proxy; returns what was written to disk."""
    with Proxy(in_turn(*answers), **agent_config) as proxy:
        agent = Tau2AgentWorkflow({**SOLO, **(econfig or {})}, SAMPLING, output_dir=str(folder))
        interactions = asyncio.run(proxy.workflow(agent).arun_episode(None, TASK))
    (path,) = folder.rglob("*.json")
    info = Tau2RunInfo.from_json(path.read_bytes())
    assert [interactions[id].reward for id in list(interactions)[-1:]] == [
        info.rewards[info.turns[-1].completion_id]
    ]
    return info


ONLY_STOP_TOKENS = ValueError(
    "All output_tokens are EOS or PAD tokens; cannot strip stop tokens without removing entire output."
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
    with pytest.raises(EpisodeRejected, match="create_task_1.*Connect call failed"):
        asyncio.run(Tau2AgentWorkflow(SOLO).run(TASK, "http://127.0.0.1:9", "key"))


def test_an_unknown_task_is_rejected_by_name():
    with pytest.raises(EpisodeRejected, match="mock task 'nonsense'.*has no task"):
        asyncio.run(
            Tau2AgentWorkflow(SOLO).run({"task_id": "nonsense"}, "http://127.0.0.1:9", "key")
        )


def test_an_assertion_that_raises_is_not_met(tmp_path):
    """mock's assertion on task_2 raises when the agent created none."""
    assert rewards(episode([DONE], task={"task_id": "create_task_1_with_env_assertions"})) == [0.0]
    assert rewards(
        episode([CREATE, DONE], task={"task_id": "create_task_1_with_env_assertions"})
    ) == [1.0, 1.0]


def test_whatever_else_the_evaluation_raises_rejects_the_episode(monkeypatch):
    task = agent_module.environment.find_task("mock", "create_task_1").model_copy(deep=True)
    task.evaluation_criteria.reward_basis = ["NL_ASSERTION"]
    monkeypatch.setattr(agent_module.environment, "find_task", lambda domain, id: task)
    with pytest.raises(EpisodeRejected, match="NL assertions"):
        episode([CREATE, DONE])


@pytest.mark.parametrize("reject", [False, True])
def test_deadline(reject):
    def answer(prompt):
        if "Success" in prompt or "task_2" in prompt:
            time.sleep(4)
            return DONE
        return CREATE

    with Proxy(answer) as proxy:
        agent = Tau2AgentWorkflow({**SOLO, "timeout": 3.0, "reject_on_timeout": reject}, SAMPLING)
        play = proxy.workflow(agent).arun_episode(None, TASK)
        if reject:
            with pytest.raises(EpisodeRejected, match="create_task_1.*deadline of 3"):
                asyncio.run(play)
        else:
            assert rewards(asyncio.run(play).values())[0] == 0.0


def test_max_steps_and_too_many_errors_are_valid_episodes(tmp_path):
    looking = tool_call("get_users", "{}")
    assert play([looking], tmp_path / "a", {"max_steps": 4}).termination == "max_steps"
    wrong = tool_call("create_task", '{"user_id": "nobody", "title": "t"}')
    assert play([wrong], tmp_path / "b").termination == "too_many_errors"


# -- tasks files -------------------------------------------------------------------------------------------------------


def create(user: str, title: str) -> list[dict]:
    return [say(None, ("create_task", {"user_id": user, "title": title})), say(None, ("done", {}))]


def test_rows_of_one_id_are_played_on_their_own_databases_and_told_apart(tmp_path):
    rows = [
        mock_entry("ann", "Lunch", db_path="db/a.json"),
        mock_entry("bob", "Lunch", db_path="db/b.json"),
        mock_entry("ann", "Dinner", db_path="db/a.json"),
    ]
    path = write(tmp_path, rows, a=mock_db("ann"), b=mock_db("bob"))
    says = [create("ann", "Lunch"), create("ann", "Lunch"), create("ann", "Dinner")]
    workflow = Tau2AgentWorkflow(SOLO, datasets=[(path, {})])

    async def all_at_once():
        plays = [
            workflow.play_with(replay(said), {"tasks_file": path, "row": n})
            for n, said in enumerate(says, 1)
        ]
        return await asyncio.gather(*plays)

    played = asyncio.run(all_at_once())
    assert [info.reward for info in played] == [1.0, 0.0, 1.0]  # bob's database has no ann
    assert [info.task_id for info in played] == [f"{path}:{number}:mock_1" for number in (1, 2, 3)]
    assert [info.simulation.task_id for info in played] == [info.task_id for info in played]
    assert "Error: User ann not found" in played[1].simulation.messages[1].content


@pytest.mark.parametrize(
    "domain, solo_mode",
    [("airline", False), ("retail", False), ("telecom", False), ("telecom", True)],
)
def test_each_row_is_played_in_its_domain(domain, solo_mode, tmp_path):
    """By a workflow whose own domain is mock, on a copy of the domain's database, which is read before the episode."""
    task = max(
        base_tasks(domain, solo_mode), key=lambda task: len(task.evaluation_criteria.actions or [])
    )
    db = stock(domain).tools.db.model_dump(mode="json")
    path = write(
        tmp_path,
        [mock_entry("user_1", "Lunch"), entry(domain, task.id, db_path="db/copy.json")],
        copy=db,
    )
    says, listens = ground_truth(task, solo_mode)
    econfig = {"domain": "mock", "solo_mode": solo_mode, "user_llm": "none"}
    workflow = Tau2AgentWorkflow(econfig, datasets=[(path, {})])
    (tmp_path / "db/copy.json").unlink()
    workflow.user_llm = replay(listens)
    data = {"tasks_file": path, "row": 2}
    info = asyncio.run(workflow.play_with(replay(says), data))
    assert (info.domain, info.reward) == (domain, 1.0)
    workflow.user_llm = replay([say("Hello."), say("###STOP###")])
    lazy = [say(None, ("done", {}))] if solo_mode else [say("Bye.")]
    assert asyncio.run(workflow.play_with(replay(lazy), data)).reward == 0.0


def test_areal_plays_a_group_of_a_row(tmp_path):
    path = write(tmp_path, [mock_entry("ann", "Lunch", db_path="db/a.json")] * 2, a=mock_db("ann"))
    right = tool_call("create_task", '{"user_id": "ann", "title": "Lunch"}')
    folder = tmp_path / "generated"
    with Proxy(in_turn(right, DONE, CREATE, DONE)) as proxy:
        for expected in (1.0, 0.0):
            agent = Tau2AgentWorkflow(
                SOLO, SAMPLING, str(folder), datasets=[[path, {"domains": ["mock"]}]]
            )
            row = {"tasks_file": path, "row": 2}
            assert (
                rewards(asyncio.run(proxy.workflow(agent).arun_episode(None, row)).values())[-1]
                == expected
            )
    names = [file.name for file in folder.rglob("*.json")]
    assert len(names) == 2 and all("tasks.jsonl_2_mock_1-" in name for name in names)


def test_a_row_that_is_not_there_is_rejected_by_file_and_number(tmp_path):
    path = write(tmp_path, [mock_entry("user_1", "Lunch")])
    with pytest.raises(EpisodeRejected, match=f"task {path}:7: .*no task in row 7"):
        asyncio.run(
            Tau2AgentWorkflow(SOLO).run({"tasks_file": path, "row": 7}, "http://127.0.0.1:9", "key")
        )


def test_a_worker_without_the_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        Tau2AgentWorkflow(SOLO, datasets=[(str(tmp_path / "none.jsonl"), {})])


# -- groups, statistics, the event loop --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers, accepted", [([CREATE], False), ([BAD_CREATE], False), ([CREATE, BAD_CREATE], True)]
)
@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_groups_with_equal_rewards_are_filtered(answers, accepted, discount):
    """As AReaL's executor does it: one task id for the group, the filter called with the group's tensors."""
    count = iter(range(100))

    def answer(prompt):
        return DONE if "<tool_response>\n{" in prompt else answers[next(count) % len(answers)]

    async def group(proxy):
        workflow_context.set(workflow_context.WorkflowContext(task_id=7))
        grouped = GroupedRolloutWorkflow(
            proxy.workflow(Tau2AgentWorkflow(SOLO, SAMPLING)), 4, logging.getLogger()
        )
        interactions = await grouped.arun_episode(None, TASK)
        return has_mixed_rewards(
            concat_padded_tensors([item.to_tensor_dict() for item in interactions.values()])
        )

    with Proxy(answer, turn_discount=discount) as proxy:
        assert asyncio.run(group(proxy)) is accepted
    assert not agent_module._rewards


def test_statistics_reach_areals_tracker_train_and_eval_apart():
    async def both(proxy):
        for is_eval in (False, True):
            workflow_context.set(workflow_context.WorkflowContext(is_eval=is_eval, task_id=1))
            await proxy.workflow(Tau2AgentWorkflow(SOLO, SAMPLING)).arun_episode(None, TASK)

    for scope in ("rollout", "eval-rollout"):
        stats_tracker.get(scope).export(reset=True)
    with Proxy(in_turn(CREATE, DONE, CREATE + CREATE, DONE)) as proxy:
        asyncio.run(both(proxy))
    train = stats_tracker.get("rollout").export(reset=True)
    evaluation = stats_tracker.get("eval-rollout").export(reset=True)
    assert (train["rollout/episode/reward"], evaluation["eval-rollout/episode/reward"]) == (
        1.0,
        0.0,
    )
    assert (train["rollout/tools/calls"], evaluation["eval-rollout/tools/calls"]) == (1, 2)
    assert (
        train["rollout/termination/agent_stop"] == 1.0
        and train["rollout/termination/max_steps"] == 0.0
    )
    assert (
        train["rollout/agent/completion_tokens"] > 10 and train["rollout/episode/rejected"] == 0.0
    )


def test_a_disk_that_cannot_be_written_costs_a_warning_not_the_episode(tmp_path, logged):
    (tmp_path / "generated").write_text("a file where the folder should be")
    with Proxy(in_turn(CREATE, DONE, CREATE, DONE)) as proxy, logged(agent_module) as lines:
        for _ in range(2):  # AReaL makes a workflow for every group
            agent = Tau2AgentWorkflow(SOLO, SAMPLING, output_dir=str(tmp_path / "generated"))
            assert asyncio.run(proxy.workflow(agent).arun_episode(None, TASK))
    assert len(lines) == 1 and "are lost" in lines[0]


def test_sampling_arguments_reach_the_agents_server():
    gconfig = GenerationHyperparameters(temperature=0.7, top_p=0.9, max_new_tokens=77)
    sampling = gconfig.to_openai_completions_args_dict(exclude_args=["n_samples"])
    with LLMServer(in_turn(say(None, ("done", {})))) as agent:
        asyncio.run(Tau2AgentWorkflow(SOLO, sampling, model="m").run(TASK, agent.base_url, "key"))
    (request,) = agent.requests
    assert (request["temperature"], request["top_p"], request["max_completion_tokens"]) == (
        0.7,
        0.9,
        77,
    )
    assert request["tool_choice"] == "required" and request["model"] == "m"


def test_the_agents_client_never_retries():
    with LLMServer(in_turn((500, {"error": {"message": "oops"}}))) as agent:
        with pytest.raises(EpisodeRejected, match="InternalServerError"):
            asyncio.run(Tau2AgentWorkflow(SOLO).run(TASK, agent.base_url, "key"))
        assert len(agent.requests) == 1


def test_episodes_share_threads():
    """No thread per episode: 64 at once need no more than the pool that writes trajectories."""
    with LLMServer(in_turn(say(None, ("done", {}))), delay=0.2) as agent:
        workflow = Tau2AgentWorkflow(SOLO)
        servers = set()

        async def all_at_once():
            running = [
                asyncio.create_task(workflow.run(TASK, agent.base_url, "key")) for _ in range(64)
            ]
            await asyncio.sleep(0.15)
            servers.update(
                thread for thread in threading.enumerate() if "process_request" not in thread.name
            )
            await asyncio.gather(*running)

        asyncio.run(all_at_once())
    assert len(servers) < 40


@pytest.mark.parametrize("depth", [40, 300, 900, 100_000])
def test_deeply_nested_arguments_are_malformed(depth, tmp_path):
    deep = '{"user_id": "user_1", "title": ' + "[" * depth + "]" * depth + "}"
    with LLMServer(in_turn(say(None, ("create_task", deep)))) as agent:
        workflow = Tau2AgentWorkflow(SOLO, output_dir=str(tmp_path))
        assert list(asyncio.run(workflow.run(TASK, agent.base_url, "key")).values()) == [-0.1]
    (path,) = tmp_path.rglob("*.json")
    assert Tau2RunInfo.from_json(path.read_bytes()).failure == "unparsable_tool_call"


def test_without_base_url_openais_variables_decide(monkeypatch):
    with LLMServer(in_turn(say(None, ("done", {})))) as agent:
        monkeypatch.setenv("OPENAI_BASE_URL", agent.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "session")
        assert list(asyncio.run(Tau2AgentWorkflow(SOLO).run(TASK)).values()) == [0.0]
        assert agent.requests[0]["key"] == "session"
