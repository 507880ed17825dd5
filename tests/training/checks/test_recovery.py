"""Settings with which AReaL cannot resume a run."""

from examples.tau2.training.areal.features import saves_megatrons_optimizer
from examples.tau2.training.checks.recovery import check_recovery

MEGATRON = "actor.backend=megatron:d2"
NO_OPTIMIZER = ["recover.no_save_optim=true", "recover.no_load_optim=true"]


def test_megatrons_optimizer_is_not_saved_if_this_areal_cannot(airline):
    problems = list(check_recovery(airline(MEGATRON)))
    if saves_megatrons_optimizer():
        assert problems == []
    else:
        (problem,) = problems
        assert "AReaL cannot save Megatron's optimizer; set both to true" in problem
    assert list(check_recovery(airline(MEGATRON, *NO_OPTIMIZER))) == []


def test_a_checkpoint_must_be_whole(airline):
    (problem,) = check_recovery(airline(MEGATRON, *NO_OPTIMIZER, "actor.megatron.async_save=true"))
    assert problem.startswith("actor.megatron.async_save=true")


def test_without_recovery_there_is_no_problem(airline):
    assert list(check_recovery(airline(MEGATRON, "recover.mode=off"))) == []
