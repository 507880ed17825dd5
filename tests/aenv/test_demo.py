"""`make aenv-demo`, small."""

import re
import subprocess
import sys

from aenv.examples.tau2_rl import service


def test_demo():
    command = [
        sys.executable,
        "-m",
        "aenv.examples.tau2_rl.demo",
        "--episodes",
        "2",
        "--host",
        service.any_host(),
    ]
    demo = subprocess.run(command, cwd=service.ROOT, capture_output=True, text=True, timeout=300)
    assert demo.returncode == 0, demo.stderr
    assert "2 of 2 episodes, at once: mean reward 1.00" in demo.stdout
    ratio = re.search(r"own server : forked +(\d+)x", demo.stdout)
    assert int(ratio[1]) > 1
