"""What is wrong with a config is said before anything is launched: all of it at once, by option."""

import socket
from pathlib import Path

import pytest

from examples.tau2.train import check
from examples.tau2.training.launch import ConfigError, as_hydra_override, run
from examples.tau2.training.plan import load_plan, problems, summary
from tests.own_tasks import mock_entry, public_set, write
from tests.scripted import LLMServer, in_turn, say

AIRLINE = "examples/tau2/config_1.7b_airline.yaml"
NAMES = ["experiment_name=e", "trial_name=t"]


@pytest.fixture(scope="module")
def user():
    with LLMServer(in_turn(say("OK."))) as server:
        yield server


@pytest.fixture
def found(user, tmp_path):
    """The problems of the airline config with overrides."""

    def found(*overrides: str, config: str = AIRLINE) -> list[str]:
        base = [
            *NAMES,
            f"cluster.fileroot={tmp_path}",
            f"econfig.user_llm_base_url={user.base_url}",
        ]
        plan, wrong = load_plan(["--config", config, *map(as_hydra_override, [*base, *overrides])])
        return [*wrong, *problems(plan)]

    return found


def test_a_good_plan_has_no_problems_and_is_summed_up(found, user, tmp_path):
    assert found() == []
    argv = [
        "--config",
        AIRLINE,
        *NAMES,
        f"++cluster.fileroot={tmp_path}",
        f"++econfig.user_llm_base_url={user.base_url}",
    ]
    text = summary(load_plan(argv)[0])
    for part in (
        "airline",
        "tau2/train: 30 tasks",
        "tau2/test: 20 tasks",
        "sglang:d6 + archon:d2",
        user.base_url,
    ):
        assert part in text


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "econfig.domain=bank",
            "econfig.domain='bank' is unknown; choose one of airline, retail, telecom, mock",
        ),
        ("econfig.solo_mode=true", "econfig.solo_mode=true: tau2's airline has no solo mode"),
        (
            "train_dataset.path=tau2/dev",
            "train_dataset.path='tau2/dev': domain airline has no split 'dev'; it has: train",
        ),
        (
            "valid_dataset.path=elsewhere",
            "valid_dataset.path='elsewhere': 'elsewhere' is not of the form tau2/<split>",
        ),
        ("econfig.max_steps=0", "econfig.max_steps=0 must be greater than 0"),
        (
            "econfig.turn_discount=1.5",
            "econfig.turn_discount=1.5 is out of range; it must be between 0 and 1",
        ),
        (
            "econfig.invalid_format_penalty=-1",
            "econfig.invalid_format_penalty=-1.0 is out of range",
        ),
        ("gconfig.temperature=-0.5", "gconfig.temperature=-0.5 is out of range"),
        ("gconfig.n_samples=1", "group_filter=true drops every group of gconfig.n_samples=1"),
        (
            "cluster.n_nodes=3",
            "take 8 GPUs, but cluster.n_nodes=3 times cluster.n_gpus_per_node=8 is 24",
        ),
        ("actor.backend=archon:x9", "actor.backend='archon:x9' is no allocation"),
        (
            "rollout.agent.engine_max_tokens=40000",
            "rollout.agent.engine_max_tokens=40000 has no effect",
        ),
        ("sglang.context_length=4096", "must be less than sglang.context_length=4096"),
        (
            "gconfig.max_new_tokens=32768",
            "gconfig.max_new_tokens=32768 leaves no room for a prompt",
        ),
        (
            "actor.mb_spec.max_tokens_per_mb=1024",
            "actor.mb_spec.max_tokens_per_mb=1024 is less than the longest sequence",
        ),
        (
            "actor.pad_to_maximum=false",
            "actor.enable_tree_training=true needs actor.pad_to_maximum=true",
        ),
        ("actor.path=/path/to/model", "actor.path=/path/to/model is a placeholder; set it"),
        ("actor.path=./no/model", "actor.path=./no/model is no folder"),
        ("cluster.fileroot=/proc/nowhere", "cluster.fileroot=/proc/nowhere cannot be written"),
        (
            "scheduler.type=ray",
            "scheduler.type=ray: AReaL runs agent workflows under local and slurm only",
        ),
        ("trial_name=a/b", "trial_name=a/b must not be empty or contain '/'"),
        ("cluster.n_gpus_per_node=0", "times cluster.n_gpus_per_node=0 is 0"),
        (
            "cluster.name_resolve.nfs_record_root=/proc/x",
            "cluster.name_resolve.nfs_record_root=/proc/x cannot be written",
        ),
        ("econfig.timeout=nan", "econfig.timeout=nan must be greater than 0"),
        ("gconfig.temperature=0", "gconfig.temperature=0 makes the episodes of a group the same"),
        ("actor.temperature=0.5", "actor.temperature=0.5 is not the gconfig.temperature=1.0"),
        ("actor.backend=sglang:d2", "actor needs one of archon, megatron, fsdp"),
        ("actor.backend=megatron:d2", "AReaL cannot save Megatron's optimizer; set both to true"),
        (
            "rollout.agent.admin_api_key=mine",
            "rollout.agent.admin_api_key would be saved with the config",
        ),
        ("stats_logger.wandb.wandb_api_key=mine", "set the environment variable WANDB_API_KEY"),
        ("stats_logger.swanlab.api_key=mine", "set the environment variable SWANLAB_API_KEY"),
        (
            "econfig.user_llm_args.api_key=mine",
            "set the environment variable TAU2_USER_LLM_API_KEY",
        ),
        ("rollout.agent.mode=subproc", "rollout.agent.mode=subproc: this workflow runs inline"),
        ("rollout.agent.export_style=concat", "use individual"),
        ("econfig.user_llm_args.stream=true", "econfig.user_llm_args must not set stream"),
        ("valid_dataset.drop_last=true", "valid_dataset.drop_last=true leaves tasks out"),
        (
            "stats_logger.wandb.mode=online",
            "stats_logger.wandb.mode=online needs a login: set WANDB_API_KEY",
        ),
    ],
)
def test_each_problem_is_named_with_its_option(found, override, expected):
    assert any(expected in problem for problem in found(override)), found(override)


def test_trackers_that_need_no_login_are_no_problem(found, monkeypatch):
    assert found("stats_logger.wandb.mode=offline", "stats_logger.trackio.mode=local") == []
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert found("stats_logger.wandb.mode=online") == []


def test_all_problems_are_said_at_once(found):
    assert (
        len(
            found(
                "econfig.max_steps=0",
                "train_dataset.path=x",
                "cluster.n_nodes=2",
                "gconfig.temperature=9",
            )
        )
        == 4
    )


def test_placeholders_are_said_once(user):
    argv = [
        "--config",
        "examples/tau2/config_8b_airline.yaml",
        *NAMES,
        f"++econfig.user_llm_base_url={user.base_url}",
    ]
    found = [problem for problem in problems(load_plan(argv)[0]) if "placeholder" in problem]
    assert [problem.split("=")[0] for problem in found[:2]] == [
        "cluster.name_resolve.nfs_record_root",
        "cluster.fileroot",
    ]
    assert len(found) == len({problem.split("=")[1] for problem in found})


def test_unknown_options_wrong_types_missing_names_and_the_rest_are_said_at_once(found):
    wrong = ["econfig.max_step=1", "econfig.max_steps=many", "nonsense.a=1", "trial_name=???"]
    rest = ["cluster.n_nodes=2", "econfig.turn_discount=0.9", "rollout.agent.turn_discount=0.5"]
    said = found(*wrong, *rest)
    expected = [
        *(override.split("=")[0] for override in wrong),
        "rollout.agent.turn_discount",
        "actor.backend",
    ]
    for option in expected:
        assert any(problem.startswith(option) for problem in said), (option, said)
    assert len(said) == len(expected)


@pytest.mark.parametrize("argv", [["--config", "nowhere.yaml"], ["--config", AIRLINE, "a=b=[c"]])
def test_a_file_or_an_override_that_cannot_be_read(argv):
    with pytest.raises(ConfigError, match="--config or an override"):
        load_plan(argv)


def test_a_user_llm_that_is_missing(found):
    (problem,) = found("econfig.user_llm=null", "econfig.user_llm_base_url=null")
    assert "econfig.user_llm is not set" in problem
    assert (
        found("econfig.user_llm=null") == []
    )  # a server of one's own need not be told which model it serves


def test_a_user_llm_that_does_not_answer(found, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    (problem,) = found(f"econfig.user_llm_base_url=http://127.0.0.1:{port}/v1")
    assert "does not answer" in problem and "econfig.user_llm_base_url" in problem
    with LLMServer(in_turn((401, {"error": {"message": "who are you"}}))) as refusing:
        (problem,) = found(f"econfig.user_llm_base_url={refusing.base_url}")
    assert "401" in problem and "API key" in problem
    for useless in (say(""), {"object": "error"}, b"<html>log in</html>"):
        with LLMServer(in_turn(useless)) as server:
            assert any(
                "does not answer" in problem
                for problem in found(f"econfig.user_llm_base_url={server.base_url}")
            )


def test_data_directories_without_data(found, monkeypatch, tmp_path):
    monkeypatch.setenv("TAU2_DATA_DIR", str(tmp_path))
    assert any(
        f"TAU2_DATA_DIR={tmp_path} has no tau2/domains/airline" in problem for problem in found()
    )
    monkeypatch.delenv("TAU2_DATA_DIR")
    found_elsewhere = found(f"actor.scheduling_spec[0].env_vars.TAU2_DATA_DIR={tmp_path / 'x'}")
    assert any("has no tau2/domains/airline" in problem for problem in found_elsewhere)


def test_contradicting_turn_discounts():
    argv = ["--config", AIRLINE, *NAMES, "++econfig.turn_discount=0.9"]
    plan, wrong = load_plan(argv)
    assert plan.rollout.agent.turn_discount == 0.9 and wrong == []
    (problem,) = load_plan([*argv, "++rollout.agent.turn_discount=1.0"])[1]
    assert "rollout.agent.turn_discount=1.0 contradicts econfig.turn_discount=0.9" in problem


def test_overrides_are_spelled_hydras_way():
    assert (
        as_hydra_override("actor.scheduling_spec[0].env_vars.A=b=c")
        == "++actor.scheduling_spec.0.env_vars.A=b=c"
    )
    assert [as_hydra_override(word) for word in ("--config", "+a=1", "~a", "x.yaml")] == [
        "--config",
        "+a=1",
        "~a",
        "x.yaml",
    ]


def test_checking_writes_nothing(found, tmp_path):
    found(f"cluster.fileroot={tmp_path}/not/yet")
    assert list(Path(tmp_path).iterdir()) == []


# -- data sets of one's own --------------------------------------------------------------------------------------------


def test_tasks_files_of_several_domains_are_summed_up(user, tmp_path, found):
    path = public_set(tmp_path)
    filtered = ["++valid_dataset.path=tau2/test", "++valid_dataset.dataset_kwargs.min_actions=1"]
    assert found(f"train_dataset.path={path}", *filtered) == []
    base = [
        *NAMES,
        f"++cluster.fileroot={tmp_path}",
        f"++econfig.user_llm_base_url={user.base_url}",
    ]
    text = summary(
        load_plan(["--config", AIRLINE, *base, f"++train_dataset.path={path}", *filtered])[0]
    )
    assert f"{path}: 4 tasks (airline 2, retail 1, mock 1), 16 a batch" in text
    assert "tau2/test: 18 tasks, 32 a batch" in text
    assert "domain  airline, retail, mock (user simulator" in text


def test_each_bad_row_is_named_with_its_line(found, tmp_path):
    rows = [b"{", mock_entry("user_1", "Lunch"), mock_entry("user_1", "Lunch", db_path="../x.json")]
    path = write(tmp_path, rows)
    problems = found(f"train_dataset.path={path}", f"valid_dataset.path={tmp_path}/none.jsonl")
    assert [problem.split(": ")[0:2] for problem in problems] == [
        [f"train_dataset.path={path!r}", "line 1"],
        [f"train_dataset.path={path!r}", "line 3"],
        [f"valid_dataset.path='{tmp_path}/none.jsonl'", "no such file or directory"],
    ]


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "dataset_kwargs.min_action=1",
            "valid_dataset.dataset_kwargs: min_action: Extra inputs are not permitted",
        ),
        (
            "dataset_kwargs.domains=[bank]",
            "valid_dataset.dataset_kwargs: domains.0: Input should be 'airline'",
        ),
        (
            "dataset_kwargs.max_actions=x",
            "valid_dataset.dataset_kwargs: max_actions: Input should be a valid integer",
        ),
        (
            "dataset_kwargs.domains=[retail]",
            "valid_dataset.path='tau2/test': no task is left, domains ('retail',)",
        ),
    ],
)
def test_filters_that_are_none_or_leave_none(found, override, expected):
    (problem,) = found(f"valid_dataset.{override}")
    assert problem.startswith(expected)


def test_solo_mode_is_a_matter_of_each_rows_domain(found, tmp_path):
    solo = [
        "econfig.domain=mock",
        "econfig.solo_mode=true",
        f"train_dataset.path={public_set(tmp_path)}",
    ]
    solo += ["valid_dataset.path=tau2/base"]
    problems = found(*solo)
    assert [problem.split(": ", 1)[1] for problem in problems] == [
        "line 1: domain airline has no solo mode",
        "line 2: domain airline has no solo mode",
        "line 3: domain retail has no solo mode",
    ]
    assert found(*solo, "train_dataset.dataset_kwargs.domains=[mock]") == []


def test_a_data_directory_without_a_domain_of_the_rows(found, tmp_path):
    (tmp_path / "data/tau2/domains/airline").mkdir(parents=True)
    directory = f"actor.scheduling_spec[0].env_vars.TAU2_DATA_DIR={tmp_path / 'data'}"
    assert found(directory) == []
    problems = found(directory, f"train_dataset.path={public_set(tmp_path)}")
    assert [problem.split(";")[0] for problem in problems] == [
        f"TAU2_DATA_DIR={tmp_path / 'data'} has no tau2/domains/{domain}"
        for domain in ("mock", "retail")
    ]


def test_check_refuses_bad_rows_with_exit_status_2(tmp_path, capfd):
    path = write(tmp_path, [b"{"] * 30)
    overrides = [*NAMES, f"cluster.fileroot={tmp_path}", f"train_dataset.path={path}"]
    assert (
        run(["--check", "--config", "examples/tau2/config_cpu.yaml", *overrides], "", check, None)
        == 2
    )
    bullets = [
        line
        for line in capfd.readouterr().err.splitlines()
        if line.startswith("  - train_dataset.path=")
    ]
    assert (
        len(bullets) == 21
        and "line 20: no JSON" in bullets[19]
        and "and 10 more bad rows" in bullets[20]
    )
