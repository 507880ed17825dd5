"""The multi-node launch on a real Slurm cluster of this machine, with the demo's tiny model."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.slurm_cluster import ask, cluster, missing
from tests.stack import ROOT, command, folder_of, run_to_the_end, running, wait_for
from tests.waiting import until

STEPS = 2
# In place of apptainer, which Debian does not have: it runs the command with the variables that it
# is given, and notes its other arguments.
SINGULARITY = """#!/usr/bin/env python3
import os, sys
words = sys.argv[2:]
with open(os.environ["SINGULARITY_LOG"], "a") as log:
    while words[0].startswith("--"):
        word = words.pop(0)
        if word == "--env":
            name, _, value = words.pop(0).partition("=")
            os.environ[name] = value
        else:
            log.write(word + "\\n")
            if word == "--bind":
                log.write(words.pop(0) + "\\n")
    log.write(words.pop(0) + "\\n")
os.execvp(words[0], words)
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of Slurm's commands."""
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "bin").mkdir()
    (folder / "bin/singularity").write_text(SINGULARITY)
    (folder / "bin/singularity").chmod(0o755)
    paths = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "SINGULARITY_LOG": f"{folder}/singularity.log",
    }
    with cluster(folder / "cluster") as variables:
        yield {**os.environ, **paths, **variables}


def words(fileroot: Path, container: str, *overrides: str) -> list[str]:
    """The command of a run on two nodes."""
    return command(
        fileroot,
        "scheduler.type=slurm",
        "cluster.n_nodes=2",
        f"actor.scheduling_spec[0].container_type={container}",
        f"actor.scheduling_spec[0].mount={ROOT}:{ROOT}",
        *overrides,
    )


def wait_until_no_job_is_left(slurm: dict[str, str]) -> None:
    until(lambda: not ask(slurm, "squeue", "--noheader"))


def test_two_steps_on_two_nodes_in_containers(slurm, model, tmp_path):
    options = (f"total_train_steps={STEPS}", f"actor.path={model}")
    run_to_the_end(words(tmp_path, "apptainer", *options), tmp_path / "printed", env=slurm)
    folder = folder_of(tmp_path)
    assert [json.loads(line)["step"] for line in (folder / "statistics.jsonl").open()] == [1, 2]
    assert list(folder.glob("generated/train/*/*.json")) and (folder / "report.html").exists()
    assert list(tmp_path.glob("checkpoints/*/test/trial/default/epoch*/model*.safetensors"))
    jobs = ask(slurm, "scontrol", "show", "jobs", "--oneliner")
    nodes = dict(re.findall(r"JobName=test_trial:(\S+) .* NodeList=(\S+)", jobs))
    assert nodes == {"actor": "n1", "rollout": "n2"}
    wait_until_no_job_is_left(slurm)
    contained = Path(slurm["SINGULARITY_LOG"]).read_text().split()
    assert contained.count(f"{ROOT}:{ROOT}") == 2


def test_a_drained_node_goes_on_and_a_cancelled_job_ends_the_run_without_a_container(
    slurm, model, tmp_path
):
    output = tmp_path / "printed"
    options = ("total_train_steps=1000", f"actor.path={model}")
    with running(words(tmp_path, "none", *options), output, env=slurm) as process:
        wait_for("step 1/", process, output)
        ask(slurm, "scontrol", "update", "nodename=n2", "state=drain", "reason=test")
        wait_for("step 2/", process, output)
        (job,) = ask(slurm, "squeue", "--noheader", "--format=%A", "--nodelist=n2").split()
        ask(slurm, "scancel", job)
        assert process.wait() not in (0, 124), output.read_text()
    failed = output.read_text().partition("The run failed: ")[2]
    # AReaL says it, or, where AReaL would wait, we do
    assert re.search(rf"job {job}\b.*CANCELLED", failed, re.IGNORECASE)
    wait_until_no_job_is_left(slurm)
