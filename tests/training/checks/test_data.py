"""Problems of the domain, of data sets and of TAU2_DATA_DIR."""

import shutil

import pytest
import tau2.utils

from examples.tau2.training.checks.data import check_data, count_tasks
from tests.own_tasks import mock_entry, public_set, write


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
        ("valid_dataset.drop_last=true", "valid_dataset.drop_last=true leaves tasks out"),
        (
            "valid_dataset.dataset_kwargs.min_action=1",
            "valid_dataset.dataset_kwargs: min_action: Extra inputs are not permitted",
        ),
        (
            "valid_dataset.dataset_kwargs.domains=[bank]",
            "valid_dataset.dataset_kwargs: domains.0: Input should be 'airline'",
        ),
        (
            "valid_dataset.dataset_kwargs.max_actions=x",
            "valid_dataset.dataset_kwargs: max_actions: Input should be a valid integer",
        ),
        (
            "valid_dataset.dataset_kwargs.domains=[retail]",
            "valid_dataset.path='tau2/test': no task is left, domains ('retail',)",
        ),
    ],
)
def test_each_problem_names_its_option(airline, override, expected):
    (problem,) = check_data(airline(override))
    assert problem.startswith(expected)


def test_a_data_folder_of_the_environment_without_data(airline, monkeypatch, tmp_path):
    monkeypatch.setenv("TAU2_DATA_DIR", str(tmp_path))
    (problem,) = check_data(airline())
    assert problem.startswith(f"TAU2_DATA_DIR={tmp_path} has no tau2/domains/airline")


def test_a_data_folder_of_the_workers_without_data(airline, tmp_path):
    folder = tmp_path / "x"
    (problem,) = check_data(airline(f"actor.scheduling_spec[0].env_vars.TAU2_DATA_DIR={folder}"))
    assert problem.startswith(f"TAU2_DATA_DIR={folder} has no tau2/domains/airline")


def test_a_data_folder_without_a_domain_of_the_rows(airline, tmp_path):
    folder = tmp_path / "data"
    for part in ("tau2/domains/airline", "tau2/user_simulator"):
        shutil.copytree(tau2.utils.DATA_DIR / part, folder / part)
    override = f"actor.scheduling_spec[0].env_vars.TAU2_DATA_DIR={folder}"
    assert list(check_data(airline(override))) == []
    problems = check_data(airline(override, f"train_dataset.path={public_set(tmp_path)}"))
    assert [problem.split(";")[0] for problem in problems] == [
        f"TAU2_DATA_DIR={folder} has no tau2/domains/mock",
        f"TAU2_DATA_DIR={folder} has no tau2/domains/retail",
    ]


def test_workers_have_the_data_of_the_command(airline, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(tau2.utils.DATA_DIR, folder)
    (folder / "tau2/domains/airline/policy.md").write_text("Be brief.")
    override = f"actor.scheduling_spec[0].env_vars.TAU2_DATA_DIR={folder}"
    (problem,) = check_data(airline(override))
    assert problem.startswith(f"TAU2_DATA_DIR={folder} has another airline than this command reads")


def test_tasks_are_counted_by_domain(airline, tmp_path):
    config = airline(f"train_dataset.path={public_set(tmp_path)}")
    assert list(check_data(config)) == []
    assert count_tasks(config, config.train_dataset) == {"airline": 2, "retail": 1, "mock": 1}


def test_a_file_of_another_kind_is_named_with_its_option(airline, tmp_path):
    path = write(tmp_path, [b'{"messages": [], "answer": {}}'] * 300, "turns.jsonl")
    assert list(check_data(airline(f"train_dataset.path={path}"))) == [
        f"train_dataset.path={path!r}: this is a file of turns; "
        "a tasks file, JSONL with a task per line or a JSON array of tasks, is wanted"
    ]


def test_each_bad_row_is_named_with_its_line(airline, tmp_path):
    rows = [b"{", mock_entry("user_1", "Lunch"), mock_entry("user_1", "Lunch", db_path="../x.json")]
    path = write(tmp_path, rows)
    missing = f"{tmp_path}/none.jsonl"
    problems = check_data(airline(f"train_dataset.path={path}", f"valid_dataset.path={missing}"))
    assert [problem.split(": ")[0:2] for problem in problems] == [
        [f"train_dataset.path={path!r}", "line 1"],
        [f"train_dataset.path={path!r}", "line 3"],
        [f"valid_dataset.path={missing!r}", "no such file or directory"],
    ]


def test_the_domain_of_each_row_decides_on_solo_mode(airline, tmp_path):
    solo = [
        "econfig.domain=mock",
        "econfig.solo_mode=true",
        f"train_dataset.path={public_set(tmp_path)}",
        "valid_dataset.path=tau2/base",
    ]
    assert [problem.split(": ", 1)[1] for problem in check_data(airline(*solo))] == [
        "line 1: domain airline has no solo mode",
        "line 2: domain airline has no solo mode",
        "line 3: domain retail has no solo mode",
    ]
    only_mock = airline(*solo, "train_dataset.dataset_kwargs.domains=[mock]")
    assert list(check_data(only_mock)) == []
