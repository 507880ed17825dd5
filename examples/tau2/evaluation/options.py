"""The options of `evaluate.py`."""

import argparse

from examples.tau2.data.files import expanded_path
from examples.tau2.episode import environment
from examples.tau2.episode.llm import json_object


def options_parser() -> argparse.ArgumentParser:
    """Make the parser of the command's options."""
    parser = argparse.ArgumentParser(
        description="Measure a model on tau2's tasks: pass^k with 95% intervals."
    )
    add = parser.add_argument
    either = argparse.BooleanOptionalAction

    # the tasks
    config_help = "take econfig and eval_gconfig from this training YAML; options override them"
    add("--config", type=expanded_path, help=config_help)
    add("--domain", help=f"{', '.join(environment.DOMAINS)} (default: telecom)")
    split_help = "splits of the domain's tasks (default: test, or none with files)"
    add("--split", nargs="+", default=[], help=split_help)
    files_help = "files of your own tasks; see docs/data.md"
    add("--tasks-file", nargs="+", default=[], metavar="FILE", help=files_help)
    tasks_help = "play only the tasks with these ids, as printed"
    add("--tasks", nargs="+", metavar="ID", help=tasks_help)
    exclude_help = "leave out the tasks with these ids"
    add("--exclude", nargs="+", default=[], metavar="ID", help=exclude_help)
    add("--trials", type=int, default=4, help="episodes of a task (default: 4)")

    # the models
    add("--base-url", help="the model's server; default: litellm's provider for --model")
    add("--model", help="its name; litellm's prefix openai/ is not sent to a server")
    add("--user-base-url", help="the user simulator's server; default: litellm's provider")
    add("--user-model")
    add("--judge-base-url", help="the judge's server; default: litellm's provider")
    add("--judge-model", help="judges assertions on conversations, which some tasks have")

    # an episode
    add("--solo-mode", action=either, help="no user simulator")
    add("--add-thinking-tool", action=either, help="offer tau2's `think`")
    add("--max-steps", type=int, help="the most steps of an episode (default: 100)")
    add("--timeout", type=float, help="deadline of an episode in seconds (default: 600)")
    add("--temperature", type=float, help="default: 0")
    add("--top-p", type=float)
    add("--max-completion-tokens", type=int, help="the most tokens of a turn")
    args_help = "JSON object: more arguments of the model's calls; null leaves one out"
    add("--llm-args", type=json_object, default={}, metavar="JSON", help=args_help)
    user_args_help = "the same for the user simulator's calls"
    add("--user-llm-args", type=json_object, default={}, metavar="JSON", help=user_args_help)
    judge_args_help = "the same for the judge's calls"
    add("--judge-llm-args", type=json_object, default={}, metavar="JSON", help=judge_args_help)
    seed_help = (
        "send a seed with each call of model and user simulator, another one in each trial, "
        "as tau2 draws them (default: none)"
    )
    add("--seed", type=int, help=seed_help)
    choice_help = (
        "default: tau2's, required in solo mode and auto elsewhere; "
        "AReaL's proxy ignores it, which is like auto"
    )
    add("--tool-choice", choices=["auto", "required"], help=choice_help)

    # the evaluation
    add("--concurrency", type=int, default=16, help="episodes at once (default: 16)")
    attempts_help = "how often an episode is tried if not the model fails it (default: 3)"
    add("--attempts", type=int, default=3, help=attempts_help)
    board_help = (
        "evaluate as tau2-bench's leaderboard does, except for what other options name, and say "
        "what differs from its rules; of --config, take what the model was trained on"
    )
    add("--leaderboard", action="store_true", help=board_help)
    missing_help = "count missing trials as failures, as the leaderboard does (default: left out)"
    add("--missing-as-failures", action="store_true", help=missing_help)
    output_help = "folder (default: evaluations/<domain>-<model>-<hash of the settings>)"
    add("--output", type=expanded_path, help=output_help)
    compare_help = "play nothing: compare the results in two folders, by task and trial"
    add("--compare", nargs=2, type=expanded_path, metavar=("A", "B"), help=compare_help)
    return parser
