"""Trajectories on disk, and what is counted in them."""

import asyncio
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tau2.data_model.simulation import SimulationRun

from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.participants import AgentTurn
from examples.tau2.episode.reward import completion_rewards, evaluate_episode
from examples.tau2.episode.simulation import AsyncOrchestrator
from examples.tau2.episode.trajectory import Tau2RunInfo, write_trajectory
from tests.scripted import ground_truth, replay, say


def played(agent_says: list[dict], task_id="create_task_1", **fields) -> Tau2RunInfo:
    task = environment.find_task("mock", task_id)
    config = Tau2EnvConfig(domain="mock", solo_mode=True)
    episode = AsyncOrchestrator(config, task, replay(agent_says), None)
    asyncio.run(episode.converse())
    run = episode.simulation_run()
    run.reward_info = evaluate_episode(run, task, "mock", True, False)
    reward = run.reward_info.reward
    known = {
        "domain": "mock",
        "task_id": task_id,
        "solo_mode": True,
        "is_eval": False,
        "weight_version": 3,
        "reward": reward,
        "rewards": completion_rewards(episode.agent.turns, reward, 0.1),
        "failure": episode.failure,
        "steps": episode.step_count,
        "turns": episode.agent.turns,
        "simulation": run,
        "user_prompt_tokens": 0,
        "user_completion_tokens": 0,
        "user_seconds": 0.0,
        "user_lost_seconds": 0.0,
    }
    return Tau2RunInfo(**{**known, **fields})


def solved() -> Tau2RunInfo:
    return played(ground_truth(environment.find_task("mock", "create_task_1"), solo_mode=True)[0])


def test_files_by_weight_version_train_apart_from_eval(tmp_path):
    trained = write_trajectory(solved(), tmp_path)
    evaluated = write_trajectory(played([say(None, ("done", {}))], is_eval=True), tmp_path)
    assert trained.parent == tmp_path / "train/3" and evaluated.parent == tmp_path / "eval/3"
    suffixes = sorted(path.suffix for path in tmp_path.rglob("*.*"))
    assert suffixes == [".json", ".json", ".txt", ".txt"]


def test_json_loads_back_and_holds_tau2s_own_record(tmp_path):
    info = solved()
    loaded = Tau2RunInfo.from_json(write_trajectory(info, tmp_path).read_bytes())
    assert loaded == info and loaded.reward == 1.0
    assert (
        isinstance(loaded.simulation, SimulationRun)
        and loaded.simulation.reward_info.db_check.db_match
    )
    assert SimulationRun.model_validate_json(loaded.simulation.model_dump_json()) == info.simulation


def test_text_shows_the_conversation_and_its_faults():
    text = played([say(None, ("nope", {})), say("Hello.")]).to_text()
    for part in (
        "create_task_1",
        "(malformed: unknown_tool)",
        "-> nope({})",
        "(error)",
        "Hello.",
        "agent_error",
    ):
        assert part in text


def test_task_ids_become_file_names_and_files_never_collide(tmp_path):
    info = played([say(None, ("done", {}))])
    info.task_id = "[mobile_data_issue]a|b/../c[PERSONA:None]" + "x" * 300
    paths = {write_trajectory(info, tmp_path) for _ in range(20)}
    assert len(paths) == 20 and all(path.parent == tmp_path / "train" / "3" for path in paths)


@pytest.mark.parametrize("too_big", ["the text", "the json"])
def test_a_disk_that_fills_up_leaves_neither_file(too_big, tmp_path):
    info = solved()
    text_size = len(info.to_text().encode())
    assert len(info.to_json()) > text_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = text_size - 1 if too_big == "the text" else text_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_trajectory(info, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.*"))


def test_statistics():
    statistics = solved().statistics()
    assert statistics["episode/reward"] == statistics["episode/solved"] == 1.0
    assert (
        statistics["tools/calls"] == 1
        and statistics["agent/turns"] == 2
        and statistics["episode/steps"] == 2
    )
    assert statistics["agent/prompt_tokens"] == 200 and statistics["agent/completion_tokens"] == 20
    assert statistics["termination/agent_stop"] == 1.0
    assert statistics["agent/usd"] == statistics["user/usd"] == 0.0
    paid = played([{**say(None, ("done", {})), "cost": 0.25}]).statistics()
    assert paid["agent/usd"] == 0.25
    failed = played([say(None, ("nope", {})), say("Hello.")]).statistics()
    assert (
        failed["agent/malformed_turns"] == 2
        and failed["tools/errors"] == 1
        and failed["termination/agent_error"] == 1.0
    )
    for counted in (statistics, failed):
        assert sum(value for key, value in counted.items() if key.startswith("termination/")) == 1.0


def turns(*malformed: str | None) -> list[AgentTurn]:
    return [AgentTurn(f"c{i}", fault, "stop", 1, 1, 0.1) for i, fault in enumerate(malformed)]


def test_rewards_by_completion():
    assert completion_rewards(turns(None, None), 1.0, 0.1) == {"c1": 1.0}
    assert completion_rewards(turns("empty", None), 1, 0.1) == {"c0": -0.1, "c1": 1.0}
    assert completion_rewards(turns(None, "empty"), 0.0, 0.25) == {"c1": -0.25}
    assert all(
        type(reward) is float for reward in completion_rewards(turns("empty", None), 1, 1).values()
    )


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_shaped_rewards_come_to_one_where_solved_and_to_less_elsewhere(
    parts, reward, action_reward, done
):
    shares = {f"c{i}": done * part / (sum(parts) or 1) for i, part in enumerate(parts)}
    rewards = completion_rewards(turns(*[None] * len(parts)), reward, 0.1, shares, action_reward)
    total = sum(rewards.values())
    partial = action_reward * sum(shares.values())
    assert total == pytest.approx(reward + (1 - reward) * partial)
    assert total == pytest.approx(1.0) if reward == 1.0 else reward <= total + 1e-9 < 1.0
