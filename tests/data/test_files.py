"""A file is recognized by its beginning."""

import gzip
import json
import os
from pathlib import Path

import pytest

from examples.tau2.data.files import (
    EPISODES,
    HEAD,
    TAU2_RESULTS,
    TRAJECTORY,
    WrongFile,
    config_problem,
    expanded_path,
    kind_of,
    refuse_other_kinds,
)
from tests.own_tasks import mock_entry
from tests.viewer.runs import TASKS, solved, write_training_run


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    paths = ["~/x.jsonl", "~", "/a/~/x", "a~", "~nobody-has-this-name/x"]
    expanded = ["/home/ann/x.jsonl", "/home/ann", "/a/~/x", "a~", "~nobody-has-this-name/x"]
    assert [expanded_path(path) for path in paths] == [Path(path) for path in expanded]


TASK, TURN = mock_entry("ann", "Lunch"), {"messages": [{"role": "user"}], "answer": {}}


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "empty"),
        (gzip.compress(b"{}", mtime=0), "compressed by gzip"),
        (b"PAR1\x15\x04", "a Parquet file"),
        ("{}".encode("utf-16"), "text in UTF-16, not in UTF-8"),
        (b'{"id": "\xe9"}', "JSON with an error: no UTF-8"),
        (b"caf\xe9 au lait", "no text in UTF-8"),
        (b"\x00\x01", "no text in UTF-8"),
        (b"<!DOCTYPE html>", "HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS to a file"),
        (b"just words", "text that is no JSON"),
        (b"# ours\ndefaults: [base_rl]\n", "a config"),
        (json.dumps(TASK).encode(), "a tasks file"),
        (json.dumps([TASK], indent=1).encode(), "a tasks file"),
        (
            json.dumps(TASK, indent=1).encode(),
            "one JSON object over many lines, with the fields id",
        ),
        (b'{"tasks":\n[]}', "one JSON object over many lines, with the fields tasks"),
        (json.dumps(TURN).encode() * 2, "a file of turns"),
        (
            json.dumps(TURN, indent=1).encode(),
            "one JSON object over many lines, with the fields mess",
        ),
        (json.dumps([TURN]).encode(), "JSON, an array of objects with the fields messages, answer"),
        (b'{"prompt": "a", "chosen": "b"}\n{}', "JSON with the fields prompt, chosen"),
        (b'{"prompt" "a"}', "JSON with an error: expected `:` at line 1 column 11"),
        (b'{"step": 1, "seconds": 9.0}\n', "a run's statistics.jsonl"),
    ],
)
def test_kinds_of_files(tmp_path, content, kind):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert kind_of(path).startswith(kind)


def test_records_of_episodes_are_recognized_however_they_are_written(tmp_path):
    info, path = solved(TASKS[0]), tmp_path / "file"
    for indent in (None, 1, 4):
        path.write_bytes(info.to_json(indent))
        assert kind_of(path) == TRAJECTORY
    path.write_bytes(b"12 %b\n" % info.to_json(None))
    assert kind_of(path) == EPISODES


def test_only_the_beginning_of_a_file_is_read(tmp_path):
    path = tmp_path / "results.json"
    policy = b"\xc3\xa9" * HEAD
    path.write_bytes(b'{\n "timestamp": "t", "info": {"git_commit": "x", "policy": "' + policy)
    # ten gigabytes, which take no room on the disk
    os.truncate(path, 10 << 30)
    assert kind_of(path) == TAU2_RESULTS


def test_kinds_of_folders(tmp_path):
    assert kind_of(tmp_path) == "an empty folder"
    (tmp_path / "x").touch()
    assert kind_of(tmp_path) == "a folder"
    write_training_run(tmp_path / "run")
    assert kind_of(tmp_path / "run") == "a training run's folder"
    (tmp_path / "episodes.jsonl").touch()
    assert kind_of(tmp_path) == "an evaluation's folder"


def test_another_kind_than_the_wanted_one_is_refused(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(TASK))
    refuse_other_kinds(path, "anything", "a tasks file", "JSON")
    with pytest.raises(WrongFile, match="^this is a tasks file; a file of turns is wanted$"):
        refuse_other_kinds(path, "a file of turns", "a file of turns", "JSON")


@pytest.mark.parametrize(
    "text, problem",
    [
        ("a: 1", None),
        ('{"a": 1}', None),
        ("just words", None),
        ("", "this is empty; a config, *.yaml, is wanted"),
        ("- a", "this is text that is no JSON; a config, *.yaml, is wanted"),
        ('[{"a": 1}]', "this is JSON, an array of objects with the fields a; a config, *.yaml"),
        ('{"econfig": {},\n"sampling": {}}', "this is an evaluation's settings.json; a config"),
        ("actor:\n\tpath: x", "line 2: no YAML: found character that cannot start any token; in"),
        ("actor: [1,\nb: 2", "line 3: no YAML: did not find expected ',' or ']'"),
        ("actor: a: b", "line 1: no YAML: mapping values are not allowed in"),
        ("actor: 1\nactor: 2", "line 2: no YAML: found duplicate key actor"),
    ],
)
def test_a_yaml_is_refused_in_one_line(tmp_path, text, problem):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    found = config_problem(path)
    assert found == problem if problem is None else problem in (found or "")
    assert "\n" not in (found or "")
