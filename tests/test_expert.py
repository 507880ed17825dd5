"""The command expert.py writes the turns of expected actions and of earlier rollouts.

Only dialogs that earn the full reward are written.
"""

import asyncio
import json
from pathlib import Path

import pytest
from huggingface_hub import constants
from openai.types.chat import ChatCompletion

from examples.tau2 import expert
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.data.turns import Turn, read_turns
from examples.tau2.episode import environment
from examples.tau2.episode.judge import needs_judge
from tests.commands import run
from tests.hub import lunches, running_hub
from tests.own_tasks import mock_db, mock_entry, write
from tests.scripted import in_turn, say
from tests.stock_runs import run_stock_tau2

CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})
SOLO = {"domain": "mock", "solo_mode": True}


def turns(path: Path) -> list[Turn]:
    return read_turns(path, lambda turn: turn)


def called(turn: Turn) -> list[str]:
    return [call["function"]["name"] for call in turn.answer.get("tool_calls", [])]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "domain, options",
    [
        ("airline", ["--split", "test"]),
        ("retail", []),
        ("telecom", ["--solo-mode"]),
        ("telecom", []),
    ],
)
def test_expected_actions_earn_the_full_reward(tmp_path, domain, options):
    path = tmp_path / "turns.jsonl"
    assert expert.main([str(path), "--domain", domain, *options]) == 0
    written = rows(path)
    # nobody judges assertions here
    tasks = environment.task_splits(domain)["test" if "test" in options else "train"]
    dialogs = sum(not needs_judge(environment.find_task(domain, task_id)) for task_id in tasks)
    assert len({row["metadata"]["source_dialog_id"] for row in written}) == dialogs
    earned = {(row["metadata"]["correct"], row["metadata"]["reward"]) for row in written}
    assert earned == {(1, 1.0)}
    solo = "--solo-mode" in options
    for turn in turns(path):
        assert turn.tools == environment.agent_schemas(domain, solo)
        assert set(called(turn)) <= {tool["function"]["name"] for tool in turn.tools}
        assert bool(called(turn)) or not solo


def test_a_task_whose_expected_actions_earn_less_is_left_out_and_named(tmp_path, capsys):
    path = tmp_path / "turns.jsonl"
    assert expert.main([str(path), "--domain", "mock", "--split", "base", "--solo-mode"]) == 0
    assert "update_task_with_initialization_data" in capsys.readouterr().err
    first, second = turns(path)[:2]
    assert (called(first), called(second)) == (["create_task"], ["done"])
    assert [message["role"] for message in first.messages] == ["system"]
    assert [message["role"] for message in second.messages] == ["system", "assistant", "tool"]
    assert second.messages[1] == first.answer


def test_tasks_and_databases_of_ones_own(tmp_path):
    # two tasks with the same id
    entries = [mock_entry(user, "Lunch", db_path=f"db/{user}.json") for user in ("ann", "bob")]
    path = write(tmp_path, entries, ann=mock_db("ann"), bob=mock_db("bob"))
    options = ["--domain", "mock", "--tasks-file", path, "--solo-mode"]
    assert expert.main([f"{tmp_path}/turns.jsonl", *options]) == 0
    written = rows(tmp_path / "turns.jsonl")
    assert len({row["metadata"]["source_dialog_id"] for row in written}) == 2
    for task in ({"tasks_file": path, "row": 1}, {"tasks_file": path, "row": 2}):
        said = [say(None, ("create_task", {"user_id": "ann", "title": "Lunch"})), DONE]
        asyncio.run(rollout({**SOLO}, tmp_path / "generated", said, task=task))
    assert expert.main([f"{tmp_path}/again.jsonl", "--trajectories", f"{tmp_path}/generated"]) == 0
    imitated = turns(tmp_path / "again.jsonl")
    # only the first rollout succeeded: bob's database has no ann
    assert [called(turn) for turn in imitated] == [["create_task"], ["done"]]
    assert imitated[0].messages == turns(tmp_path / "turns.jsonl")[0].messages


async def rollout(
    econfig: dict,
    folder: Path,
    agent: list[dict],
    user: list[dict] = (),
    task: dict | None = None,
) -> float:
    """Play a task, create_task_1 by default, with these completions; return the reward.

    The trajectory goes to the folder.
    """

    def llm(completions):
        answer = in_turn(*completions)

        async def call(messages, tools, tool_choice):
            return ChatCompletion.model_validate(answer({}))

        return call

    workflow = Tau2AgentWorkflow({"user_llm": "scripted", **econfig}, output_dir=str(folder))
    workflow.user_llm = llm(user) if user else None
    info = await workflow.play_with(llm(agent), task or {"task_id": "create_task_1"})
    await workflow._write(info)
    return info.reward


@pytest.fixture
def from_rollouts(tmp_path):
    """Return a function that plays rollouts, and returns the turns that `expert.py` writes of them.

    It takes the arguments of each call of `rollout` as a tuple, without the folder.
    """

    def write(*rollouts: tuple) -> list[Turn]:
        for econfig, *completions in rollouts:
            asyncio.run(rollout(econfig, tmp_path / "generated", *completions))
        path = tmp_path / "turns.jsonl"
        path.unlink(missing_ok=True)
        status = expert.main([str(path), "--trajectories", str(tmp_path / "generated")])
        assert status == (0 if path.exists() else 1)
        return turns(path) if path.exists() else []

    return write


DONE = say(None, ("done", {}))


def test_rollouts_that_failed_are_not_imitated(from_rollouts):
    assert from_rollouts((SOLO, [DONE])) == []
    assert len(from_rollouts((SOLO, [say(None, CREATE), DONE]))) == 2


def test_a_rollout_is_imitated_with_its_detours_and_thoughts_but_without_malformed_turns(
    from_rollouts,
):
    first = say("<think>\nWho?\n</think>\n\n", ("get_users", {}))
    unknown, both = say(None, ("no_such_tool", {})), say("I create it.", CREATE)
    written = from_rollouts((SOLO, [first, unknown, both, DONE]))
    assert [called(turn) for turn in written] == [["get_users"], ["done"]]
    assert written[0].answer["content"] == "<think>\nWho?\n</think>\n\n"
    assert [message["role"] for message in written[1].messages] == [
        "system",
        *["assistant", "tool"] * 3,
    ]


def test_dialogs_of_the_same_words_are_written_once(from_rollouts):
    # the calls of the two dialogs have different ids
    calls = [[say(None, CREATE), DONE] for _ in range(2)]
    other = [say(None, ("get_users", {})), say(None, CREATE), DONE]
    assert len(from_rollouts(*((SOLO, said) for said in [*calls, other]))) == 2 + 3


def test_a_rollout_with_a_user_and_the_thinking_tool(from_rollouts):
    think = say(None, ("think", {"thought": "Who?"}))
    agent = [say("For whom?"), think, say(None, CREATE), say("Done.")]
    user = [say("A task, please."), say("For user_1."), say("###STOP###")]
    written = from_rollouts(({"domain": "mock", "add_thinking_tool": True}, agent, user))
    assert [called(turn) for turn in written] == [[], ["think"], ["create_task"], []]
    assert [message["role"] for message in written[1].messages] == [
        "system",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert written[1].tools == environment.agent_schemas("mock", False, True)


def test_a_trajectory_that_does_not_earn_its_reward_again_is_left_out(from_rollouts, tmp_path):
    assert len(from_rollouts((SOLO, [say(None, CREATE), DONE]))) == 2
    (path,) = (tmp_path / "generated").rglob("*.json")
    path.write_text(path.read_text().replace("Important Meeting", "Another Meeting"))
    assert from_rollouts() == []


def test_what_tau2_wrote_is_imitated_as_if_it_were_played_here(from_rollouts, tmp_path):
    task = environment.find_task("mock", "create_task_1")
    run_stock_tau2(tmp_path / "results.json", "mock", task, [say(None, CREATE), DONE])
    path = tmp_path / "new" / "turns.jsonl"
    assert expert.main([str(path), "--trajectories", f"{tmp_path}/results.json"]) == 0
    ours, tau2s = from_rollouts((SOLO, [say(None, CREATE), DONE])), turns(path)
    assert [called(turn) for turn in tau2s] == [called(turn) for turn in ours]
    assert [turn.messages[0] for turn in tau2s] == [turn.messages[0] for turn in ours]


def test_a_home_folder_is_expanded(from_rollouts, tmp_path, monkeypatch):
    written = from_rollouts((SOLO, [say(None, CREATE), DONE]))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expert.main(["~/again.jsonl", "--trajectories", "~/generated"]) == 0
    assert turns(tmp_path / "again.jsonl") == written


def test_the_turns_cannot_be_a_folder(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        expert.main([str(tmp_path), "--domain", "mock"])
    assert f"{tmp_path} is a folder; name the file of turns to write" in capsys.readouterr().err


def test_the_episodes_of_an_evaluation_are_trajectories_too(from_rollouts, tmp_path):
    written = from_rollouts((SOLO, [say(None, CREATE), DONE]))
    (path,) = (tmp_path / "generated").rglob("*.json")
    record = tmp_path / "episodes.jsonl"
    record.write_bytes(b"0 %b\n" % json.dumps(json.loads(path.read_bytes())).encode())
    assert expert.main([f"{tmp_path}/again.jsonl", "--trajectories", str(record)]) == 0
    assert turns(tmp_path / "again.jsonl") == written


@pytest.mark.parametrize(
    "argv, expected",
    [
        ([], "name either --trajectories or a --domain"),
        (["--domain", "mock", "--trajectories", "x"], "name either --trajectories or a --domain"),
        (["--domain", "mock"], "domain mock has no split 'train'"),
        (["--domain", "airline", "--solo-mode"], "domain airline has no solo mode"),
        (["--trajectories", "nowhere.jsonl"], "error: nowhere.jsonl: no such file or directory"),
        (["--trajectories", "x", "--solo-mode", "--split", "a"], "leave out --split, --solo-mode"),
        (["--domain", "mock", "--tasks-file", "x", "--split", "a"], "name either a --split or a"),
        (["--trajectories", "README.md"], "README.md: this is text that is no JSON; trajectories"),
        (["--domain", "mock", "--tasks-file", "README.json"], "README.json: no such file"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, capsys, argv, expected):
    with pytest.raises(SystemExit, match="2"):
        expert.main([str(tmp_path / "turns.jsonl"), *argv])
    assert expected in capsys.readouterr().err


@pytest.mark.processes
def test_tasks_of_the_hub_are_named_by_their_commit(tmp_path, monkeypatch):
    """A process of its own reads HF_ENDPOINT, and fills the cache; another needs no hub."""
    path = tmp_path / "turns.jsonl"
    options = [str(path), "--domain", "mock", "--solo-mode"]
    options += ["--tasks-file", "hf://datasets/ann/lunches/tasks.jsonl"]
    with running_hub(tmp_path / "hub", monkeypatch) as hub:
        commit = hub.commit("ann/lunches", lunches("Lunch"))
        variables = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": 0, "HF_HOME": tmp_path}
        run("examples/tau2/expert.py", *options, **variables)
        assert hub.downloads == ["tasks.jsonl", "mock.json"]
        (turn, *_) = played = rows(path)
        name = f"mock_hf://datasets/ann/lunches@{commit}/tasks.jsonl:1:mock_1"
        assert turn["metadata"]["source_dialog_id"] == name
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        path.unlink()
        assert expert.main(options) == 0
    assert rows(path) == played
