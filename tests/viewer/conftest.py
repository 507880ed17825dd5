"""The folders of a training run and of an evaluation, made once; tests do not change them."""

from pathlib import Path

import pytest

from tests.viewer.runs import write_evaluation, write_training_run


@pytest.fixture(scope="session")
def training_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo" / "first"
    write_training_run(folder)
    return folder


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluations") / "mock-tiny"
    write_evaluation(folder)
    return folder
