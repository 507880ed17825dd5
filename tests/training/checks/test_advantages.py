"""Options under which the advantages would not be those of a group."""

import pytest

from examples.tau2.training.checks.advantages import check_advantages


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["baseline=median"], "baseline='median' must be mean, leave_one_out or null"),
        (["advantage_scale=token"], "advantage_scale='token' must be group, batch or null"),
        (["baseline=null", "advantage_scale=group"], "advantage_scale=group needs a baseline"),
        (
            ["gconfig.n_samples=1", "group_filter=false"],
            "gconfig.n_samples=1 leaves none to compare",
        ),
        (["min_group_size=9"], "min_group_size=9 must be between 2 and gconfig.n_samples=8"),
        (["min_group_size=1"], "min_group_size=1 must be between 2 and gconfig.n_samples=8"),
        (["+actor.adv_norm.mean_level=batch"], "actor.adv_norm would change them again"),
        (["+actor.reward_norm.mean_level=batch"], "actor.reward_norm would change them again"),
        (["actor.reward_bias=-0.5"], "actor.reward_bias=-0.5 would be added to the advantages"),
        (
            [
                "+critic.path=m",
                "+critic.backend=fsdp:d1",
                "+critic.experiment_name=e",
                "+critic.trial_name=t",
            ],
            "baseline=mean takes the place of a critic",
        ),
    ],
)
def test_each_problem_names_its_option(airline, overrides, expected):
    (problem,) = check_advantages(airline(*overrides))
    assert expected in problem


@pytest.mark.parametrize(
    "option, ours",
    [("reward_normalization", "baseline"), ("drop_incomplete_group", "min_group_size")],
)
def test_options_of_newer_versions_are_not_ignored_in_silence(airline, option, ours):
    config = airline()
    setattr(config.gconfig, option, True)
    (problem,) = check_advantages(config)
    assert problem.startswith(f"gconfig.{option}=true has no effect")
    assert problem.endswith(f"set {ours} instead")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["baseline=leave_one_out", "advantage_scale=batch", "min_group_size=8"],
        ["baseline=null", "+actor.adv_norm.mean_level=batch", "actor.reward_bias=-0.5"],
    ],
)
def test_one_place_makes_the_advantages(airline, overrides):
    assert list(check_advantages(airline(*overrides))) == []
