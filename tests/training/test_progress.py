"""The record and the line of each training step."""

import io
import json
from pathlib import Path

from examples.tau2.training.progress import SUSPICIOUS_STEPS, StepLog, parser_suspicion, step_line


class Logger:
    """Stands for AReaL's `StatsLogger`."""

    def __init__(self):
        self.committed = []

    def commit(self, *arguments):
        self.committed.append(arguments)

    def state_dict(self):
        return {"last_commit_step": 7}


class BrokenLogger(Logger):
    """Stands for a `StatsLogger` whose tracker has lost its server."""

    def commit(self, *arguments):
        raise ConnectionError("wandb is gone")

    def close(self):
        raise ConnectionError("wandb is gone")


def step_log(logger, path: Path, total_steps: int, terminal, after_step=lambda *_: None) -> StepLog:
    return StepLog(logger, path, total_steps, terminal, after_step)


def test_a_line_and_a_record_per_step(tmp_path):
    terminal, logger, path = io.StringIO(), Logger(), tmp_path / "statistics.jsonl"
    done = []
    log = step_log(logger, path, 2, terminal, lambda *arguments: done.append(arguments))
    for step in range(2):
        log.commit(
            0, step, step, {"rollout/episode/reward": 0.5 + step / 4, "rollout/episode/solved": 0.5}
        )
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    assert [record["rollout/episode/reward"] for record in records] == [0.5, 0.75]
    assert [line.split(" | ")[:2] for line in terminal.getvalue().splitlines()] == [
        ["step 1/2", "reward 0.500"],
        ["step 2/2", "reward 0.750"],
    ]
    assert (
        len(logger.committed) == 2
        and done == logger.committed
        and log.state_dict() == {"last_commit_step": 7}
    )


def test_a_step_that_is_repeated_after_a_restart_replaces_its_record(tmp_path):
    path = tmp_path / "statistics.jsonl"
    for steps in (range(4), range(2, 4)):
        log = step_log(Logger(), path, 4, io.StringIO())
        for step in steps:
            log.commit(0, step, step, {"x": 1.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_part_of_a_record_is_dropped(tmp_path):
    path = tmp_path / "statistics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n{"step": 4, "x')
    step_log(Logger(), path, 4, io.StringIO()).commit(0, 3, 3, {})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3, 4]


def test_a_disk_that_cannot_be_written_does_not_stop_the_run():
    terminal, logger = io.StringIO(), Logger()
    step_log(logger, Path("/proc/nowhere/statistics.jsonl"), 1, terminal).commit(0, 0, 0, {})
    assert "statistics of step 1 are lost" in terminal.getvalue() and logger.committed


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path):
    terminal, path = io.StringIO(), tmp_path / "statistics.jsonl"
    log = step_log(BrokenLogger(), path, 1, terminal)
    log.commit(0, 0, 0, {})
    log.close()
    assert json.loads(path.read_text())["step"] == 1
    assert terminal.getvalue().count("a tracker of stats_logger has failed: ") == 2


def episodes(turns: float, tool_calls: float, malformed_turns: float) -> dict[str, float]:
    return {
        "rollout/agent/turns": turns,
        "rollout/agent/tool_calls": tool_calls,
        "rollout/agent/malformed_turns": malformed_turns,
    }


def test_a_parser_that_does_not_fit_is_suspected():
    assert parser_suspicion({}) is None
    assert parser_suspicion(episodes(8, 5, 4)) is None
    assert parser_suspicion(episodes(8, 0, 0)).startswith("no tool was called. ")
    assert parser_suspicion(episodes(8, 1, 6)).startswith("75% of the turns are malformed. ")


def test_a_suspicion_is_shown_once_after_some_steps_in_a_row(tmp_path):
    terminal = io.StringIO()
    log = step_log(Logger(), tmp_path / "statistics.jsonl", 99, terminal)

    def warnings_after(*steps: dict[str, float]) -> int:
        for data in steps:
            log.commit(0, 0, 0, data)
        return terminal.getvalue().count("Warning: ")

    none, good = episodes(8, 0, 0), episodes(8, 5, 0)
    assert warnings_after(*[none] * (SUSPICIOUS_STEPS - 1), good) == 0
    assert warnings_after(*[none] * SUSPICIOUS_STEPS) == 1
    assert warnings_after(*[none] * 2 * SUSPICIOUS_STEPS) == 1
    assert "rollout.agent.tool_call_parser" in terminal.getvalue()


def test_a_line_shows_the_numbers_that_a_step_has():
    assert step_line({"step": 3, "seconds": 1.25}, 6) == "step 3/6 | 1.2 s"
