"""The tiny model behind an HTTP endpoint, as evaluate.py uses it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from examples.tau2 import evaluate
from examples.tau2.cpu import model as tiny
from examples.tau2.episode import environment

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base_url():
    folder = tiny.make_model(ROOT / ".cache/tiny-qwen3")
    command = [sys.executable, "examples/tau2/cpu/serve.py", str(folder), "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not (ports := listening_ports(server.pid)):
            assert server.poll() is None
            time.sleep(0.2)
        yield f"http://127.0.0.1:{ports[0]}/v1"
    finally:
        server.terminate()
        server.wait()


def test_a_port_that_is_taken_is_named(base_url):
    folder, port = str(ROOT / ".cache/tiny-qwen3"), base_url.split(":")[2].removesuffix("/v1")
    command = [sys.executable, "examples/tau2/cpu/serve.py", folder, "--port", port]
    server = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert server.returncode == 1
    last = server.stderr.splitlines()[-1]
    assert port in last and last.endswith("address already in use: choose another --port")


def listening_ports(pid: int) -> list[int]:
    connections = psutil.Process(pid).net_connections("inet")
    return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN]


def ask(base_url: str, **options) -> dict:
    task = environment.find_task("mock", "update_task_1")
    messages = [{"role": "system", "content": task.ticket}]
    body = {
        "model": "m",
        "messages": messages,
        "tools": environment.agent_schemas("mock", solo_mode=True),
        **options,
    }
    answer = httpx.post(f"{base_url}/chat/completions", json=body, timeout=600)
    return answer.raise_for_status().json()


def test_greedy_answers_are_the_same_and_counted(base_url):
    first, second = (ask(base_url, temperature=0, max_completion_tokens=20) for _ in range(2))
    (choice,), (again,) = first["choices"], second["choices"]
    assert choice["message"]["content"] == again["message"]["content"]
    del choice["message"], again["message"]
    assert choice == again
    assert 0 < first["usage"]["completion_tokens"] <= 20 < first["usage"]["prompt_tokens"]
    assert first["id"] != second["id"]


def test_an_evaluation_finds_the_model_about_as_good_as_its_maker(base_url, tmp_path, capsys):
    options = (
        f"--domain mock --split base --solo-mode --base-url {base_url} --model tiny "
        "--temperature 1 --tool-choice auto --max-steps 12 --max-completion-tokens 64 "
        "--trials 16 --concurrency 32"
    )
    assert evaluate.main([*options.split(), "--output", str(tmp_path)]) == 0
    measured = json.loads(capsys.readouterr().out)
    # Rendered in another way, the prompts would be strange to the model, and it would solve nearly
    # nothing.
    assert 0.3 < measured["reward"] < 0.7
