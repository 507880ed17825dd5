"""Tests for examples.tau2.episode.tau2_data: which tau2 it is, what its data folder lacks."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest
import tau2.utils

from examples.tau2.episode.environment import DOMAINS
from examples.tau2.episode.tau2_data import (
    data_digest,
    data_problem,
    reading_data,
    require_data,
    tau2_source,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data of tau2's domain mock, in a folder of its own."""
    folder = tmp_path / "checkout" / "data"
    for part in ("tau2/domains/mock", "tau2/user_simulator"):
        shutil.copytree(tau2.utils.DATA_DIR / part, folder / part)
    return folder


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_package_lacks_nothing(domain):
    assert data_problem(domain) is None


def test_a_folder_with_the_domain_lacks_nothing(data, monkeypatch):
    assert data_problem("mock", str(data)) is None
    assert data_problem("mock", f"{data}/") is None
    monkeypatch.setenv("HOME", str(data.parent))
    assert data_problem("mock", "~/data") is None


def test_what_is_missing_is_named_with_the_folder_that_was_meant(data):
    in_data = (data / "tau2", data / "tau2/domains", data / "tau2/domains/mock/tasks.json")
    for folder in (data.parent, data.parent / "src/tau2", *in_data):
        lack = f"TAU2_DATA_DIR={folder} has no tau2/domains/mock; set it to {data}"
        assert data_problem("mock", str(folder)) == lack
        assert data_problem(folder=str(folder)) == lack.replace("/mock;", ";")


@pytest.mark.parametrize(
    ("domain", "removed", "missing"),
    [
        ("retail", None, "tau2/domains/retail"),
        ("mock", "tau2/domains/mock/db.json", "tau2/domains/mock/db.json"),
        ("mock", "tau2/domains/mock/tasks.json", "tau2/domains/mock/tasks.json"),
        ("mock", "tau2/user_simulator/simulation_guidelines.md", "tau2/user_simulator"),
    ],
)
def test_each_missing_file_is_named(data, domain, removed, missing):
    if removed:
        (data / removed).unlink()
    problem = data_problem(domain, str(data))
    assert str(problem).startswith(f"TAU2_DATA_DIR={data} has no {missing}")
    assert str(problem).endswith(
        "; set it to the data folder of a complete checkout of tau2-bench, or unset it"
    )


def test_data_that_is_named_after_the_import_of_tau2_is_no_silent_choice(data, monkeypatch):
    monkeypatch.setenv("TAU2_DATA_DIR", str(data))
    require_data.cache_clear()
    with pytest.raises(ValueError, match=f"TAU2_DATA_DIR={data} has no effect"):
        require_data("mock")


def test_a_file_that_cannot_be_read_is_told_with_the_folder():
    told = r"tau2's data of mock in /.* cannot be read \(.*Expecting"
    with pytest.raises(ValueError, match=told), reading_data("mock"):
        json.loads("{,")


def test_the_digest_depends_on_all_that_an_episode_reads_and_not_on_the_path(data):
    def digest() -> str:
        data_digest.cache_clear()
        return data_digest("mock", str(data))

    seen = {digest()}
    assert seen == {data_digest("mock")}
    for name in ("domains/mock/tasks.json", "domains/mock/db.json", "domains/mock/policy.md"):
        path = data / "tau2" / name
        path.write_text(path.read_text() + "\n")
        seen.add(digest())
    guidelines = data / "tau2/user_simulator/simulation_guidelines.md"
    guidelines.write_text("Say nothing.")
    seen.add(digest())
    assert len(seen) == 5
    (data / "tau2/domains/mock/split_tasks.json").unlink()
    assert digest() in seen


def test_the_source_names_the_package_its_version_and_its_tasks():
    source = tau2_source(["mock", "airline"])
    assert importlib.metadata.version(source.package) == source.version
    assert importlib.metadata.packages_distributions()["tau2"] == [source.package]
    assert list(source.tasks) == ["mock", "airline"]
    assert str(source).endswith(
        f", tasks: mock {source.tasks['mock']}, airline {source.tasks['airline']}"
    )
