"""Most rooms of the package run without AReaL: each of their modules is imported without it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "examples/tau2"

# examples.tau2.data.rendering makes tokens with AReaL's own function
NEEDS_AREAL = {"examples.tau2.data.rendering"}

IMPORT_WITHOUT_AREAL = """
import importlib, sys

class NoAreal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "areal":
            raise ModuleNotFoundError(f"{name} is imported")

sys.meta_path.insert(0, NoAreal())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules_of(room: str) -> list[str]:
    """List the modules of a file or a folder of the package that run without AReaL."""
    path = PACKAGE / room
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    modules = []
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        modules.append(".".join(parts).removesuffix(".__init__"))
    return [module for module in modules if module not in NEEDS_AREAL]


@pytest.mark.parametrize("room", ["agent.py", "episode", "data", "evaluation", "viewer"])
def test_a_room_runs_without_areal(room):
    modules = modules_of(room)
    assert modules
    command = [sys.executable, "-c", IMPORT_WITHOUT_AREAL, *modules]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_what_needs_areal_cannot_be_imported_without_it():
    command = [sys.executable, "-c", IMPORT_WITHOUT_AREAL, *NEEDS_AREAL]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode != 0
    assert "ModuleNotFoundError: areal" in process.stderr
