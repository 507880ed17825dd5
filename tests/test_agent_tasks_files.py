"""Episodes of the tasks of a user's own files."""

import asyncio

import pytest

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.judge import needs_judge
from tests.areal_proxy import Proxy, tool_call
from tests.calls import base_tasks, stock
from tests.episodes import CREATE, DONE, SAMPLING, SOLO, rewards
from tests.own_tasks import entry, mock_db, mock_entry, write
from tests.scripted import ground_truth, in_turn, replay, say


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
        plays = []
        for number, said in enumerate(says, 1):
            row = {"tasks_file": path, "row": number}
            plays.append(workflow.play_with(replay(said), row))
        return await asyncio.gather(*plays)

    played = asyncio.run(all_at_once())
    # bob's database has no ann
    assert [info.reward for info in played] == [1.0, 0.0, 1.0]
    assert [info.task_id for info in played] == [f"{path}:{number}:mock_1" for number in (1, 2, 3)]
    assert [info.simulation.task_id for info in played] == [info.task_id for info in played]
    assert "Error: User ann not found" in played[1].simulation.messages[1].content


@pytest.mark.parametrize(
    "domain, solo_mode",
    [("airline", False), ("retail", False), ("telecom", False), ("telecom", True)],
)
def test_each_row_is_played_in_its_domain(domain, solo_mode, tmp_path):
    """The workflow's config names mock. The database file is read before the episode."""
    tasks = [
        task
        for task in base_tasks(domain, solo_mode)
        if not needs_judge(environment.find_task(domain, task.id))
    ]
    task = max(tasks, key=lambda task: len(task.evaluation_criteria.actions or []))
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
