"""The command of `make aenv-demo`, with two episodes."""

import re
import subprocess
import sys

import pytest

from aenv.examples.tau2_rl.service import ROOT
from aenv.examples.tau2_rl.service.server import random_host


@pytest.mark.processes
def test_demo():
    command = [sys.executable, "-m", "aenv.examples.tau2_rl.demo"]
    options = ["--episodes", "2", "--host", random_host()]
    demo = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stderr
    assert "2 of 2 episodes, at once: mean reward 1.00" in demo.stdout
    ratio = re.search(r"own server : forked +(\d+)x", demo.stdout)
    assert int(ratio[1]) > 1
