"""The tiny model behind an HTTP endpoint, as evaluate.py finds it."""

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

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base_url():
    folder = tiny.make_model(ROOT / ".cache/tiny-qwen3")
    command = [sys.executable, "examples/tau2/cpu/serve.py", str(folder), "--port", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    process = psutil.Process(server.pid)
    try:
        while not (
            listening := [
                c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN
            ]
        ):
            assert server.poll() is None
            time.sleep(0.2)
        yield f"http://127.0.0.1:{listening[0].laddr.port}/v1"
    finally:
        server.terminate()
        server.wait()


def ask(base_url: str, **options) -> dict:
    task = environment.find_task("mock", "update_task_1")
    messages = [{"role": "system", "content": task.ticket}]
    body = {
        "model": "m",
        "messages": messages,
        "tools": environment.agent_schemas("mock", solo_mode=True),
        **options,
    }
    return (
        httpx.post(f"{base_url}/chat/completions", json=body, timeout=60).raise_for_status().json()
    )


def test_greedy_answers_are_the_same_and_counted(base_url):
    answers = [ask(base_url, temperature=0, max_completion_tokens=20) for _ in range(2)]
    assert answers[0]["choices"] == [
        {**answers[1]["choices"][0], "message": answers[0]["choices"][0]["message"]}
    ]
    assert (
        answers[0]["choices"][0]["message"]["content"]
        == answers[1]["choices"][0]["message"]["content"]
    )
    assert 0 < answers[0]["usage"]["completion_tokens"] <= 20 < answers[0]["usage"]["prompt_tokens"]
    assert answers[0]["id"] != answers[1]["id"]


def test_an_evaluation_finds_the_model_about_as_good_as_its_maker(base_url, tmp_path, capsys):
    options = [
        "--domain",
        "mock",
        "--split",
        "base",
        "--solo-mode",
        "--base-url",
        base_url,
        "--model",
        "tiny",
    ]
    options += [
        "--temperature",
        "1",
        "--tool-choice",
        "auto",
        "--max-steps",
        "12",
        "--max-completion-tokens",
        "64",
    ]
    assert (
        evaluate.main(
            [*options, "--trials", "16", "--concurrency", "32", "--output", str(tmp_path)]
        )
        == 0
    )
    measured = json.loads(capsys.readouterr().out)
    assert (
        0.3 < measured["reward"] < 0.7
    )  # rendered in another way, its prompts are strange to it, and it gets nearly nothing
