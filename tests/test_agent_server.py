"""What the workflow asks of an OpenAI-compatible server, without AReaL."""

import asyncio
import threading

import pytest
from areal.api.cli_args import GenerationHyperparameters

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.episodes import SOLO, TASK
from tests.scripted import LLMServer, in_turn, say
from tests.waiting import until


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
    """64 episodes at once need no more threads than the one that writes trajectories."""
    episodes = 64
    counted = threading.Event()

    def answer(_request: dict) -> dict:
        counted.wait()
        return say(None, ("done", {}))

    async def threads_of_all_at_once(agent: LLMServer) -> list[threading.Thread]:
        workflow = Tau2AgentWorkflow(SOLO)
        running = [
            asyncio.create_task(workflow.run(TASK, agent.base_url, "key")) for _ in range(episodes)
        ]
        await asyncio.to_thread(until, lambda: len(agent.requests) == episodes)
        # without the threads of the scripted server
        threads = [
            thread for thread in threading.enumerate() if "process_request" not in thread.name
        ]
        counted.set()
        await asyncio.gather(*running)
        return threads

    with LLMServer(answer) as agent:
        assert len(asyncio.run(threads_of_all_at_once(agent))) < 40


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
