"""The results of an evaluation in tau2's format."""

import asyncio
import json
from contextlib import closing
from dataclasses import asdict

from tau2.data_model.simulation import Results

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.evaluation.options import options_parser
from examples.tau2.evaluation.settings import TrialKey, settings_from_options
from examples.tau2.evaluation.store import TrialStore
from examples.tau2.evaluation.tau2_results import write_results
from tests.scripted import replay, say

TASK_ID = "create_task_1"
OPTIONS = ["--domain", "mock", "--split", "base", "--solo-mode", "--tasks", TASK_ID]
OPTIONS += ["--model", "m", "--seed", "300", "--trials", "3"]


def test_tau2_reads_the_settings_and_the_trials(tmp_path):
    settings = settings_from_options(options_parser().parse_args(OPTIONS))
    workflow = Tau2AgentWorkflow(asdict(settings.econfig))
    llm = replay([say(None, ("done", {}))])
    info = asyncio.run(workflow.play_with(llm, {"task_id": TASK_ID}))
    path = tmp_path / "results.json"
    with closing(TrialStore(tmp_path / "episodes.jsonl")) as store:
        store.add(1, info)
        failures = {TrialKey(TASK_ID, 2): "overloaded"}
        write_results(path, settings, store, list(store.trials.values()), failures)
    results = Results.load(path)
    assert (results.info.seed, results.info.num_trials) == (300, 3)
    assert results.info.agent_info.llm_args == {"temperature": 0.0}
    assert results.tasks == [settings.task_row(TASK_ID).task]
    # the seeds that tau2 draws for the trials 1 and 2
    trials = [(each.trial, each.seed) for each in results.simulations]
    assert trials[0] == (1, 373753) and trials[1:] in ([], [(2, 361454)])
    assert json.loads(path.read_text())["info"]["tau2"] == asdict(tau2_source(["mock"]))
