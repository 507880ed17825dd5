"""A run warns of an AReaL that was not tested, and replaces classes of AReaL's trainers."""

import areal
import areal.trainer.rl_trainer
import areal.trainer.sft_trainer
import pytest
from areal.utils.recover import RecoverHandler

import examples.tau2.training.areal as door
from examples.tau2.training.areal import installed_commit, version_warning
from examples.tau2.training.areal.trainers import replace_classes_of_trainers
from examples.tau2.training.engines import rollout
from examples.tau2.training.launch import PreparedRun, prepare_and_run
from examples.tau2.training.recovery import Checkpoints


def run(*options: str) -> int:
    prepared = PreparedRun("the summary", None, lambda: None)
    arguments = ["--config", "config.yaml", *options]
    return prepare_and_run(arguments, "the help", lambda _: prepared, lambda _: None)


def test_a_tested_areal_is_not_warned_of(capsys, monkeypatch):
    monkeypatch.setattr(door, "TESTED_VERSIONS", (areal.__version__,))
    assert run() == 0
    assert capsys.readouterr().err == ""


def test_a_version_is_tested_or_a_commit():
    assert version_warning("1.0.4", "") is None
    assert version_warning("2.0.0", "cbff54d645d2cd8ee1f1c358a82f3f473588433d") is None
    assert version_warning("2.0.0", "43a1f835346a368bde650931062dc6f0526af20f") is not None
    # from PyPI, or from a folder
    assert version_warning("2.0.0", "") is not None
    assert not installed_commit() or len(installed_commit()) == 40


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_another_areal_is_warned_of_once_at_the_start_of_a_run(options, capsys, monkeypatch):
    monkeypatch.setattr(door, "TESTED_VERSIONS", ("0.9", "1.0"))
    monkeypatch.setattr(door, "TESTED_COMMIT", "cafe")
    assert run(*options) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"AReaL {areal.__version__} is installed" in warning
    assert "tested with 0.9, 1.0, commit cafe of main only" in warning


def test_areals_trainers_name_classes_that_only_a_call_replaces(monkeypatch):
    rl_trainer, sft_trainer = areal.trainer.rl_trainer, areal.trainer.sft_trainer
    replaced = {
        (rl_trainer, "RecoverHandler"): Checkpoints,
        (sft_trainer, "RecoverHandler"): Checkpoints,
        (rl_trainer, "RemoteSGLangEngine"): rollout.RemoteSGLangEngine,
        (rl_trainer, "RemotevLLMEngine"): rollout.RemotevLLMEngine,
    }
    for (module, name), ours in replaced.items():
        areals = getattr(module, name)
        assert areals is not ours and issubclass(ours, areals)
        # monkeypatch puts AReaL's class back after the test
        monkeypatch.setattr(module, name, areals)
    replace_classes_of_trainers(Checkpoints)
    for (module, name), ours in replaced.items():
        assert getattr(module, name) is ours
    assert issubclass(Checkpoints, RecoverHandler)
