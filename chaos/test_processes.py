"""A process that plays a part in rollouts is killed in the middle of one: the run ends soon, and says why."""

import time
from contextlib import suppress

import psutil
import pytest

from tests.stack import command, folder_of, processes_of, start, wait_for

OPTIONS = ("total_train_steps=1000", "actor.path=.cache/tiny-qwen3", "run_timeout=1200", "group_filter=false")


@pytest.mark.parametrize(
    "servers, what, words, cause",  # `words` are in the command lines of what is killed
    [
        (1, "SGLang", "sglang::scheduler", "SGLang at "),
        (2, "one of two SGLangs", "sglang::scheduler", "SGLang at "),
        (1, "the proxy", "proxy_rollout_server", "the proxy at "),
        (1, "the rollout worker", "--role rollout ", "worker rollout/0 has ended with exit code -9"),
    ],
)
def test_the_run_ends_and_nobody_is_scored_for_it(servers, what, words, cause, tmp_path, capsys):
    output = tmp_path / "printed"
    process = start(command(tmp_path, *OPTIONS, f"rollout.backend=sglang:d{servers}"), output)
    wait_for("step 1/", process, output)
    generated = folder_of(tmp_path) / "generated"
    while not any(generated.glob("train/1/*.json")):
        assert process.poll() is None, output.read_text()
        time.sleep(0.1)
    killed = time.time()
    victims = [process for process in processes_of(tmp_path) if words in " ".join(process.info["cmdline"])]
    assert len(victims) >= servers
    for victim in victims[: len(victims) // servers]:
        with suppress(psutil.NoSuchProcess):  # some end with another
            victim.kill()
    assert process.wait(600) not in (0, 124), output.read_text()
    seconds = time.time() - killed
    assert f"The run failed: {cause}" in output.read_text() and processes_of(tmp_path) == []
    if servers == 1:
        assert max(path.stat().st_mtime for path in generated.rglob("*.json")) < killed + 1
    with capsys.disabled():
        print(f"\n{what} killed: the run ended after {seconds:.0f} s; {output.read_text().splitlines()[-2:]}")
