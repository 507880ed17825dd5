"""Formats the measurements of `benchmarks.episodes` as tables for the terminal."""

import statistics
from typing import Any

from benchmarks.episode_load import AREAL_CONCURRENCY, CONCURRENCY, TAU2_CONCURRENCY


def format_results(results: dict[str, Any]) -> str:
    """Format the results: one column for each domain, then the sizes that were tried.

    Where a cell compares two numbers, tau2's way comes first, then ours.
    """
    columns = {domain: _column(measured) for domain, measured in results["domains"].items()}
    row_names = next(iter(columns.values()))
    lines = [" " * 50 + "".join(f"{domain:>24}" for domain in columns)]
    for name in row_names:
        lines.append(f"{name:50}" + "".join(f"{column[name]:>24}" for column in columns.values()))
    lines.append(_sizes("CPU ms per turn, of airline, by turns", results["cpu_ms_per_turn"]))
    by_copies = results["cpu_ms_by_copies"]
    lines.append(_sizes("CPU ms per episode, by copies of airline's data", by_copies))
    return "\n".join(lines)


def _sizes(name: str, by_size: dict[int, float]) -> str:
    return f"{name:50}  " + "   ".join(f"{size}: {value:.2f}" for size, value in by_size.items())


def _column(measured: dict[str, Any]) -> dict[str, str]:
    """Format the cells of a domain, by the names of their rows."""
    tau2 = measured["tau2"]
    ours_at_most = measured["ours"][max(CONCURRENCY)]
    before = statistics.median(measured["cpu_ms"]["tau2"])
    after = statistics.median(measured["cpu_ms"]["ours"])
    column = {"CPU ms per episode, median": f"{before:,.0f} / {after:.1f} = {before / after:.0f}x"}
    for name, key in (("longest", "max"), ("99th percentile", "p99")):
        stalls = tau2["stall_ms"][key], ours_at_most["stall_ms"][key]
        column[f"event loop stopped, {name}, ms"] = f"{stalls[0]:.0f} / {stalls[1]:.1f}"
    column["memory per concurrent episode, MB"] = (
        f"{tau2['mb_per_episode']:.1f} / {ours_at_most['mb_per_episode']:.2f}"
    )
    for concurrent, ours in measured["ours"].items():
        cell = f"{ours['episodes_per_s']:.0f}"
        if concurrent == TAU2_CONCURRENCY:
            cell = f"{tau2['episodes_per_s']:.1f} / {cell}"
        column[f"episodes/s at {concurrent}"] = cell
        for name, key in (("a bare AsyncOpenAI's", "bare"), ("our bare client's", "bare_ours")):
            rate = ours["calls_per_s"]
            limit = measured[key][concurrent]["calls_per_s"]
            cell = f"{rate:.0f} of {limit:.0f} = {rate / limit:.0%}"
            column[f"calls/s at {concurrent}, of {name}"] = cell
    row = f"calls/s at {AREAL_CONCURRENCY} with AReaL's HTTP client"
    column[row] = f"{measured['areal']['calls_per_s']:.0f}"
    return column
