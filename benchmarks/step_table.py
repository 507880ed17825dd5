"""Formats the measurements of `benchmarks/train_step.py` as tables for the terminal."""

import statistics

from benchmarks.recorded_episodes import DOMAIN

PHASES = ("logprob_seconds", "advantage_seconds", "update_seconds")


def format_result(result: dict) -> str:
    """Format a result of `measure`."""
    plain, tree = (step_seconds(result["steps"][way]) for way in ("plain", "tree"))
    verdict = "equal" if result["equal"] else "NOT EQUAL"
    differences = ", ".join(
        f"{name.replace('_', ' ')} {value:.1e}" for name, value in result["differences"].items()
    )
    return "\n".join(
        [
            *tries_table(result),
            "",
            *steps_table(result),
            f"tree training is {plain / tree:.2f} times as fast, and {verdict}: "
            f"differences {differences}, allowed {result['tolerance']}",
        ]
    )


def tries_table(result: dict) -> list[str]:
    """Format one line for each group, and one for all."""
    groups = result["groups"]
    total = {
        "task": "all",
        "episodes": sum(group["episodes"] for group in groups),
        "solved": sum(group["solved"] for group in groups),
        **result["all"],
    }
    lines = [
        f"turns of {DOMAIN} as samples, "
        f"packed into tries of at most {result['tokens_per_trie']} tokens",
        f"{'task':>6} {'solved':>8} {'samples':>8} {'longest':>8} {'tokens':>9} {'in tries':>9} "
        f"{'ratio':>6}",
    ]
    for row in [*groups, total]:
        lines.append(
            f"{row['task']:>6} {row['solved']:>3} of {row['episodes']:<2} {row['samples']:>7} "
            f"{row['longest']:>8} {row['tokens']:>9} {row['tokens_in_tries']:>9} "
            f"{row['ratio']:>6.2f}"
        )
    return lines


def steps_table(result: dict) -> list[str]:
    """Format one line for each way to pack; times are medians of the steps."""
    trained = result["trained"]
    lines = [
        f"steps of {result['model']}, {result['dtype']}, {result['device']}, "
        f"in microbatches of at most {result['tokens_per_microbatch']} tokens: "
        f"{trained['samples']} samples, {trained['tokens']} tokens, "
        f"{trained['tokens_in_tries']} in tries",
        f"{'':>6} {'batches':>8} {'logprobs':>10} {'update':>10} {'step':>10} {'tokens/s':>9} "
        f"{'peak':>10} {'loss':>10} {'grad norm':>10}",
    ]
    for way, steps in result["steps"].items():
        last = steps[-1]
        seconds = step_seconds(steps)
        logprobs = median(steps, "logprob_seconds")
        update = median(steps, "update_seconds")
        lines.append(
            f"{way:>6} {last['microbatches']:>8} {logprobs:>8.2f} s {update:>8.2f} s "
            f"{seconds:>8.2f} s {trained['tokens'] / seconds:>9.0f} {last['peak_gib']:>6.2f} GiB "
            f"{last['loss']:>10.6f} {last['grad_norm']:>10.6f}"
        )
    return lines


def median(steps: list[dict], name: str) -> float:
    return statistics.median(step[name] for step in steps)


def step_seconds(steps: list[dict]) -> float:
    """Return the median duration of a step in seconds."""
    return statistics.median(sum(step[phase] for phase in PHASES) for step in steps)
