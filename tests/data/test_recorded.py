"""Recorded episodes are read from files of each kind, and from folders of them."""

import asyncio
import json
from pathlib import Path

import pytest
from tau2.data_model.simulation import Results

from examples.tau2.data.dialogs import play_script, script_of_episode
from examples.tau2.data.recorded import RecordedEpisode, successful_episodes
from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import write_trajectory
from tests.scripted import ground_truth
from tests.stock_runs import run_stock_tau2
from tests.viewer.runs import TASKS, solved, unsolved


def ids(*paths: Path) -> list[str]:
    return [episode.simulation.id for episode in successful_episodes(paths)]


def replayed(episode: RecordedEpisode) -> float:
    return asyncio.run(play_script(script_of_episode(episode))).reward


@pytest.fixture
def run(tmp_path):
    """A training run's folder with one solved and one failed episode, and the solved one's id."""
    folder, good = tmp_path / "run", solved(TASKS[0])
    for info in (good, unsolved(TASKS[0])):
        path = write_trajectory(info, folder / "generated")
    (folder / "statistics.jsonl").write_text('{"step": 1, "seconds": 2.0}\n')
    (folder / "report.html").write_text("<html>")
    (folder / "config.json").write_text('{"actor": 1}')
    return folder, path.parent, good.simulation.id


def test_a_run_and_each_folder_in_it(run, tmp_path):
    folder, versions, good = run
    for path in (folder, folder / "generated", versions.parent, versions, tmp_path):
        assert ids(path) == [good]
    (trajectory,) = (path for path in versions.glob("*.json") if ids(path))
    assert ids(trajectory, folder) == [good, good]


def test_an_evaluation_has_each_episode_once(tmp_path):
    good, bad = solved(TASKS[0]), unsolved(TASKS[1])
    lines = [b"%d %b\n" % (number, info.to_json(None)) for number, info in enumerate((bad, good))]
    # the last line is half-written
    (tmp_path / "episodes.jsonl").write_bytes(b"".join(lines) + lines[1][:-9])
    for name in ("settings.json", "summary.json"):
        (tmp_path / name).write_text('{"econfig": {}, "episodes": 2}')
    task = environment.find_task("mock", TASKS[0])
    agent, _ = ground_truth(task, solo_mode=True)
    run_stock_tau2(tmp_path / "results.json", "mock", task, agent)
    assert ids(tmp_path) == ids(tmp_path / "episodes.jsonl") == [good.simulation.id]
    assert len(ids(tmp_path / "results.json")) == 1


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_tau2s_results_of_solo_mode(tmp_path, field):
    path, task = tmp_path / "results.json", environment.find_task("mock", TASKS[0])
    agent, _ = ground_truth(task, solo_mode=True)
    agent[0]["choices"][0]["message"][field] = "Who?"
    run_stock_tau2(path, "mock", task, agent)
    (episode,) = successful_episodes([path])
    assert episode.econfig.solo_mode and not episode.econfig.add_thinking_tool
    script = script_of_episode(episode)
    names = [entry["tool_calls"][0]["function"]["name"] for entry in script.agent]
    assert names == ["create_task", "done"] and script.user == []
    assert script.agent[0]["content"] == "<think>\nWho?\n</think>\n\n"
    assert replayed(episode) == 1.0


def test_tau2s_results_of_a_user_with_tools(tmp_path):
    task_id = environment.task_splits("telecom")["small"][0]
    task = environment.find_task("telecom", task_id)
    agent, user = ground_truth(task)
    run_stock_tau2(tmp_path / "mine.json", "telecom", task, agent, user)
    # what `tau2 run` writes beside its results
    (tmp_path / "mine_results.json").write_text('{"num_simulations": 1, "metrics": {}}')
    (episode,) = successful_episodes([tmp_path])
    assert not episode.econfig.solo_mode and episode.row.domain == "telecom"
    script = script_of_episode(episode)
    assert len(script.agent) == len(agent) and len(script.user) == len(user)
    assert any(entry.get("tool_calls") for entry in script.user)
    assert replayed(episode) == 1.0


def results(path: Path, **changes) -> Path:
    """Write tau2's results of a solved and a failed episode, and change the first of them."""
    good, bad = solved(TASKS[0]), unsolved(TASKS[0])
    task = environment.find_task("mock", TASKS[0])
    agent, _ = ground_truth(task, solo_mode=True)
    written = json.loads(run_stock_tau2(path, "mock", task, agent).model_dump_json())
    simulations = [json.loads(info.simulation.model_dump_json()) for info in (good, bad)]
    simulations[0] |= changes.pop("simulation", {})
    path.write_text(json.dumps({**written, "simulations": simulations, **changes}))
    return path


def test_results_that_this_project_wrote(tmp_path):
    path = results(tmp_path / "results.json")
    assert len(Results.load(path).simulations) == 2
    (episode,) = successful_episodes([path])
    assert replayed(episode) == 1.0


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"simulation": {"messages": "none"}}, r"simulations\[0\]: messages: Input should be a"),
        ({"simulation": {"task_id": "gone"}}, r"simulations\[0\]: .* not have its task 'gone'"),
        ({"simulations": None}, "no results of tau2: simulations: Input should be a valid array"),
    ],
)
def test_results_that_are_not_valid_are_named(tmp_path, changes, problem):
    with pytest.raises(ValueError, match=f"^{tmp_path}/x.json.*{problem}"):
        ids(results(tmp_path / "x.json", **changes))


@pytest.mark.parametrize("domains", ["mock+retail", "airline+mock"])
def test_results_of_several_domains(tmp_path, domains):
    path = results(tmp_path / "results.json")
    path.write_text(
        path.read_text().replace('"domain_name": "mock"', f'"domain_name": "{domains}"')
    )
    (episode,) = successful_episodes([path])
    assert episode.row.domain == episode.econfig.domain == "mock"


def test_results_of_another_domain_are_named(tmp_path):
    path = results(tmp_path / "x.json")
    path.write_text(path.read_text().replace('"domain_name": "mock"', '"domain_name": "banking"'))
    with pytest.raises(ValueError, match="the domain 'banking' is none of airline, retail"):
        ids(path)


@pytest.mark.parametrize(
    "content, kind",
    [
        ("", "empty"),
        ('{"messages": [], "answer": {}}\n', "a file of turns"),
        (
            '{"task_id": "1", "solo_mode": true, "is_eval": true, "rew',
            "no episode: Invalid JSON: EOF while",
        ),
    ],
)
def test_a_file_without_episodes_is_named(tmp_path, content, kind):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^{path}: (this is )?{kind}"):
        ids(path)


def test_a_folder_without_episodes_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} has no episodes: it is an empty folder"):
        ids(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ids(tmp_path / "nowhere")
