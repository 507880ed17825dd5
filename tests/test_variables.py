"""Environment variables have their effect in each command that reads them.

tau2 reads its data folder when it is imported, so each command runs as a process here.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import tau2.utils

from tests.commands import ROOT, run
from tests.scripted import LLMServer, in_turn, say

pytestmark = pytest.mark.processes

POLICY = "This policy is another one."
GUIDELINES = "You are another customer."
CHECK = ["--config", "examples/tau2/config_cpu.yaml", "experiment_name=e", "trial_name=t"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data of the domain mock with a policy and guidelines of its own, and with one task."""
    folder = tmp_path / "data"
    for part in ("tau2/domains/mock", "tau2/user_simulator"):
        shutil.copytree(tau2.utils.DATA_DIR / part, folder / part)
    domain = folder / "tau2/domains/mock"
    for name in ("policy.md", "policy_solo.md"):
        (domain / name).write_text(POLICY)
    for path in (folder / "tau2/user_simulator").iterdir():
        path.write_text(GUIDELINES)
    [task] = [
        task
        for task in json.loads((domain / "tasks.json").read_text())
        if task["id"] == "create_task_1"
    ]
    (domain / "tasks.json").write_text(json.dumps([task]))
    (domain / "split_tasks.json").write_text(json.dumps({"base": [task["id"]]}))
    return folder


def evaluate(model: LLMServer, user: LLMServer, output: Path, **variables: object) -> dict:
    """Evaluate on the one task, and return the settings that are saved with the results."""
    task = ("--domain", "mock", "--split", "base", "--tasks", "create_task_1", "--trials", "1")
    servers = ("--base-url", model.base_url, "--user-base-url", user.base_url)
    run("examples/tau2/evaluate.py", *task, *servers, "--output", output, **variables)
    return json.loads((output / "settings.json").read_text())


def test_the_data_and_the_keys_of_an_evaluation(data, tmp_path):
    with (
        LLMServer(lambda _: say("Hello.")) as model,
        LLMServer(in_turn(say("OK"), say("I need help."), say("###STOP###"))) as user,
    ):
        identity = evaluate(
            model,
            user,
            tmp_path / "other",
            TAU2_DATA_DIR=os.path.relpath(data, ROOT),
            OPENAI_API_KEY="sk-agent\n",
            TAU2_USER_LLM_API_KEY=" sk-user\r\n",
        )
        assert POLICY in json.dumps(model.requests[-1]["messages"])
        assert GUIDELINES in json.dumps(user.requests[-1]["messages"])
        assert {request["key"] for request in model.requests} == {"sk-agent"}
        assert {request["key"] for request in user.requests} == {"sk-user"}
        packaged = evaluate(model, user, tmp_path / "packaged", TAU2_DATA_DIR="")
    assert identity["data"] != packaged["data"]
    assert identity["tau2"]["tasks"] != packaged["tau2"]["tasks"]
    other = {name: packaged[name] for name in ("data", "tau2")}
    assert {**identity, **other} == packaged


def test_the_data_of_dialogs_to_imitate(data, tmp_path):
    turns, home = tmp_path / "turns.jsonl", {"HOME": data.parent, "TAU2_DATA_DIR": "~/data"}
    expert = ("examples/tau2/expert.py", turns, "--domain", "mock", "--split", "base")
    printed = run(*expert, "--solo-mode", **home)
    assert "of 1 dialogs" in printed
    assert POLICY in turns.read_text()


def test_the_data_of_a_run(data, tmp_path):
    folders = (f"cluster.fileroot={tmp_path}", "actor.path=tests")
    printed = run(
        "examples/tau2/train.py",
        "--check",
        *CHECK,
        *folders,
        "econfig.domain=retail",
        "econfig.solo_mode=false",
        TAU2_DATA_DIR=data,
        status=2,
    )
    assert f"TAU2_DATA_DIR={data} has no tau2/domains/retail" in printed


COMMANDS = {
    "evaluate": (
        *("examples/tau2/evaluate.py", "--domain", "mock", "--split", "base", "--solo-mode"),
        *("--base-url", "http://127.0.0.1:9/v1"),
    ),
    "expert": (
        *("examples/tau2/expert.py", "turns.jsonl", "--domain", "mock", "--split", "base"),
        "--solo-mode",
    ),
    "report": ("examples/tau2/report.py", "."),
    "service": ("-m", "aenv.examples.tau2_rl.service", "--host", "127.0.0.77"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_data_is_named_by_each_command(command, data):
    checkout = data.parent
    printed = run(*COMMANDS[command], TAU2_DATA_DIR=checkout, status=2)
    assert f"TAU2_DATA_DIR={checkout} has no tau2/domains" in printed.splitlines()[-1]
    assert f"set it to {data}" in printed.splitlines()[-1]


@pytest.mark.parametrize("command", ["evaluate", "service"])
def test_all_variables_that_cannot_be_used_are_named_at_once(command):
    key = {"OPENAI_API_KEY": "sk-mine sk-mine"}
    printed = run(*COMMANDS[command], SSL_CERT_FILE="/gone.pem", **key, status=2)
    assert "SSL_CERT_FILE=/gone.pem: no certificates" in printed
    assert "OPENAI_API_KEY has white space" in printed and "sk-mine" not in printed


def test_an_instance_of_a_domain_that_is_there_can_be_forked(data):
    program = (
        "import aenv.examples.tau2_rl.service.instance\n"
        "from examples.tau2.episode import environment\n"
        "print(len(environment.load_tasks('mock')), 'task')"
    )
    assert "1 task" in run("-c", program, TAU2_DATA_DIR=f"{data}/")
