"""The file of finished trials."""

import asyncio
import resource
from contextlib import closing

import pytest

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.evaluation.settings import TrialKey
from examples.tau2.evaluation.store import TrialStore, open_store
from tests.scripted import replay, say


def episode() -> Tau2RunInfo:
    workflow = Tau2AgentWorkflow({"domain": "mock", "solo_mode": True})
    llm = replay([say(None, ("done", {}))])
    return asyncio.run(workflow.play_with(llm, {"task_id": "create_task_1"}))


def test_trials_are_read_again_and_a_line_without_an_end_is_dropped(tmp_path):
    path, info = tmp_path / "new/episodes.jsonl", episode()
    with closing(TrialStore(path)) as store:
        for number in range(2):
            store.add(number, info)
    with path.open("a") as file:
        file.write('2 {"domain": "mock", "task')
    with closing(TrialStore(path)) as store:
        store.add(2, info)
        assert list(store.trials) == [TrialKey("create_task_1", number) for number in range(3)]
        episodes = store.episodes(store.trials[key] for key in reversed(store.trials))
        assert [Tau2RunInfo.from_json(episode) for episode in episodes] == [info] * 3
        assert {trial.reward for trial in store.trials.values()} == {info.reward}
    assert [line[:2] for line in path.read_text().splitlines()] == ["0 ", "1 ", "2 "]


def test_one_process_at_a_time_writes_a_store(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with closing(TrialStore(path)), pytest.raises(OSError, match="another evaluation is writing"):
        TrialStore(path)
    TrialStore(path).close()


def test_a_folder_keeps_its_identity(tmp_path):
    open_store(tmp_path, {"model": "m"}).close()
    open_store(tmp_path, {"model": "m"}).close()
    with pytest.raises(ValueError, match="holds episodes of other settings"):
        open_store(tmp_path, {"model": "n"})
    (tmp_path / "settings.json").write_text("")
    with pytest.raises(ValueError, match="holds episodes of other settings"):
        open_store(tmp_path, {"model": "m"})


def test_a_line_that_is_no_trial_is_named(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text('0 {"domain": "mock"}\n')
    with pytest.raises(ValueError, match="the line at byte 0 is no trial"):
        TrialStore(path)


def test_a_trial_that_the_disk_has_no_room_for_leaves_the_file_as_it_was(tmp_path):
    path, info = tmp_path / "episodes.jsonl", episode()
    with closing(TrialStore(path)) as store:
        store.add(0, info)
        whole = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, hard))
        try:
            with pytest.raises(OSError, match=str(path)):
                store.add(1, info)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == whole
        store.add(1, info)
    with closing(TrialStore(path)) as store:
        assert [key.number for key in store.trials] == [0, 1]
