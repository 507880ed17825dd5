"""A process that rollouts need is killed while they are played: the run ends, and says why.

If only some groups are rejected, the run goes on.
"""

import time
from contextlib import suppress

import psutil
import pytest

from tests.stack import command, folder_of, processes_of, run_to_the_end, running, wait_for

OPTIONS = ("actor.path=.cache/tiny-qwen3",)


# `words` are in the command lines of the processes that are killed
@pytest.mark.parametrize(
    "servers, what, words, cause",
    [
        (1, "SGLang", "sglang::scheduler", "SGLang at "),
        (2, "one of two SGLangs", "sglang::scheduler", "SGLang at "),
        (1, "the proxy", "proxy_rollout_server", "the proxy at "),
        (
            1,
            "the rollout worker",
            "--role rollout ",
            "worker rollout/0 has ended with exit code -9",
        ),
    ],
)
def test_the_run_ends_and_nobody_is_scored_for_it(servers, what, words, cause, tmp_path, capsys):
    output = tmp_path / "printed"
    options = (
        *OPTIONS,
        "total_train_steps=1000",
        "group_filter=false",
        f"rollout.backend=sglang:d{servers}",
    )
    with running(command(tmp_path, *options), output) as process:
        wait_for("step 1/", process, output)
        generated = folder_of(tmp_path) / "generated"
        while not any(generated.glob("train/1/*.json")):
            assert process.poll() is None, output.read_text()
            time.sleep(0.1)
        killed = time.time()
        victims = [
            other for other in processes_of(tmp_path) if words in " ".join(other.info["cmdline"])
        ]
        assert len(victims) >= servers
        for victim in victims[: len(victims) // servers]:
            # a victim may have ended because another one has
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        assert process.wait() not in (0, 124), output.read_text()
        seconds = time.time() - killed
    assert f"The run failed: {cause}" in output.read_text() and processes_of(tmp_path) == []
    if servers == 1:
        assert max(path.stat().st_mtime for path in generated.rglob("*.json")) < killed + 1
    last_lines = output.read_text().splitlines()[-2:]
    with capsys.disabled():
        print(f"\n{what} killed: the run ended after {seconds:.0f} s; {last_lines}")


def test_rejected_groups_of_two_workers_are_played_anew(tmp_path, capsys):
    output = tmp_path / "printed"
    options = (*OPTIONS, "total_train_steps=6", "rollout.backend=sglang:d2", "gconfig.n_samples=2")
    run_to_the_end(command(tmp_path, *options), output)
    episodes = list((folder_of(tmp_path) / "generated").glob("train/*/*.json"))
    played = len(episodes) // 2
    assert played > 6 * 6
    with capsys.disabled():
        print(f"\n6 steps of 6 groups: {played} groups played")
