"""The command benchmarks/train_step.py: its options, and one run of it with both actors."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import train_step


@pytest.mark.parametrize(
    "argv, problem",
    [
        (["--tasks", "99"], "only .* training tasks of airline"),
        (["--model", "/nowhere"], "/nowhere is neither one of tiny, 0.6b, 1.7b nor a folder"),
        (["--tokenizer", "/nowhere"], "/nowhere has no tokenizer"),
        (["--json", "/nowhere/x.json"], "no folder /nowhere"),
        (["--steps", "0"], "invalid positive value: '0'"),
        (["--config", "/nowhere.yaml"], "--config.*nowhere.yaml"),
        (["rollout.agent.tool_call_parser=llama3"], "no tool call .*=llama3 must parse Qwen3's"),
        (["rollout.agent.tool_call_parser=nope"], "no tool call .*Unsupported .*: nope"),
    ],
)
def test_bad_options_are_named(argv, problem, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_step.main(argv)
    assert re.search(f"error: .*{problem}", capsys.readouterr().err, re.DOTALL)


def test_nothing_is_measured_if_no_call_can_be_parsed(monkeypatch, capsys):
    for module in [name for name in sys.modules if name.partition(".")[0] == "sglang"]:
        monkeypatch.delitem(sys.modules, module)
    # as if it were not installed
    monkeypatch.setitem(sys.modules, "sglang", None)
    with pytest.raises(SystemExit, match="2"):
        train_step.main([])
    assert "this Python must be able to import sglang" in capsys.readouterr().err


@pytest.mark.processes
def test_both_ways_give_the_same(tmp_path):
    small = ["--tasks", "1", "--episodes", "2", "--samples", "2", "--steps", "1", "--thinking", "5"]
    script = Path(train_step.__file__)
    command = [sys.executable, script, *small, "--json", tmp_path / "result.json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("turns of airline") and "equal: differences" in run.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    (plain,), (tree,) = result["steps"]["plain"], result["steps"]["tree"]
    assert result["equal"] and plain["grad_norm"] > 0
    assert tree["loss"] == pytest.approx(plain["loss"], abs=1e-4)
    assert tree["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)
    assert (plain["microbatches"], tree["microbatches"]) == (2, 1)
    assert result["trained"]["tries"] == 1
