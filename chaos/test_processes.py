"""A process that plays a part in rollouts is killed in the middle of one: the run ends soon, and says why."""

import time
from contextlib import suppress

import psutil
import pytest

from tests.stack import command, folder_of, processes_of, start, wait_for

# by words of their command lines
KILLED = {"SGLang": "sglang", "the proxy": "proxy_rollout_server", "the rollout worker": "--role rollout "}


@pytest.mark.parametrize("what", KILLED)
def test_the_run_ends_and_nobody_is_scored_for_it(what, tmp_path, capsys):
    output = tmp_path / "printed"
    options = ("total_train_steps=1000", "actor.path=.cache/tiny-qwen3", "run_timeout=1200", "group_filter=false")
    process = start(command(tmp_path, *options), output)
    wait_for("step 1/", process, output)
    generated = folder_of(tmp_path) / "generated"
    while not any(generated.glob("train/1/*.json")):
        assert process.poll() is None, output.read_text()
        time.sleep(0.1)
    killed = time.time()
    for victim in processes_of(tmp_path):
        with suppress(psutil.NoSuchProcess):  # some end with another
            if KILLED[what] in " ".join(victim.cmdline()):
                victim.kill()
    assert process.wait(600) not in (0, 124), output.read_text()
    seconds = time.time() - killed
    assert "The run failed:" in output.read_text() and processes_of(tmp_path) == []
    assert max(path.stat().st_mtime for path in generated.rglob("*.json")) < killed + 1
    with capsys.disabled():
        print(f"\n{what} killed: the run ended after {seconds:.0f} s; {output.read_text().splitlines()[-2:]}")
