"""The table of `make bench`."""

from benchmarks.episode_load import CONCURRENCY
from benchmarks.episode_table import format_results


def under_load(rate: float) -> dict:
    return {
        "episodes_per_s": rate,
        "calls_per_s": 10 * rate,
        "stall_ms": {"max": 30.0, "p99": 3.0},
        "mb_per_episode": 0.25,
    }


def test_the_table_compares_tau2s_way_with_ours():
    measured = {
        "cpu_ms": {"tau2": [400.0, 600.0], "ours": [10.0]},
        "tau2": under_load(2.0),
        "ours": {number: under_load(50.0) for number in CONCURRENCY},
        "areal": under_load(12.0),
        "bare": {number: {"calls_per_s": 1000.0} for number in CONCURRENCY},
        "bare_ours": {number: {"calls_per_s": 2000.0} for number in CONCURRENCY},
    }
    results = {
        "domains": {"airline": measured, "retail": measured},
        "cpu_ms_per_turn": {10: 1.0, 50: 1.5},
        "cpu_ms_by_copies": {1: 8.0, 4: 8.25},
    }
    lines = [line.split() for line in format_results(results).splitlines()]
    assert lines[0] == ["airline", "retail"]
    cells = {" ".join(line) for line in lines}
    assert f"CPU ms per episode, median {'500 / 10.0 = 50x ' * 2}".strip() in cells
    assert f"event loop stopped, longest, ms {'30 / 30.0 ' * 2}".strip() in cells
    assert f"memory per concurrent episode, MB {'0.2 / 0.25 ' * 2}".strip() in cells
    assert "episodes/s at 1 50 50" in cells
    assert f"episodes/s at 16 {'2.0 / 50 ' * 2}".strip() in cells
    assert f"calls/s at 16, of our bare client's {'500 of 2000 = 25% ' * 2}".strip() in cells
    assert "calls/s at 64 with AReaL's HTTP client 120 120" in cells
    assert "CPU ms per turn, of airline, by turns 10: 1.00 50: 1.50" in cells
