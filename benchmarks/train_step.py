"""Measures what training on this package's trajectories costs, with and without tree training.

    python3 benchmarks/train_step.py                   # a tiny model on a CPU, 0.6b on a GPU
    python3 benchmarks/train_step.py --model 1.7b      # on a GPU

1. Groups of episodes of airline tasks are played through this package's workflow and AReaL's own
   proxy. Agent and user simulator are scripted. The episodes of a group differ as sampled ones do:
   in the agent's thoughts and words, and in a needless call. Every other episode leaves out a
   booking, change or cancellation, and so it fails. Each turn becomes a sample.
2. AReaL's tree training packs the samples into tries, which hold a common prefix once. The tokens
   are counted before and after.
3. AReaL's Archon actor steps on the samples from random weights: it recomputes logprobs, computes
   advantages, and makes a PPO update. One actor packs the samples plainly, the other into tries.
   They take turns, each in a process of its own. The learning rate is 0, so that all steps are the
   same step, and loss and gradient norm must be the same both ways.

On a CPU the third part shows only that the results are equal. Attention is dense there, which hides
what tries save.
"""

import argparse
import json
import os
import signal
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # the repository's root instead of this folder
    sys.path[0] = str(ROOT)
    # Standard output is for the result. AReaL's loggers take over the stream of the moment when
    # AReaL is imported.
    sys.stdout = sys.stderr
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # two actors share the cores, and one of them always waits
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
elif __name__ == "__mp_main__":
    # this is the process of an actor
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
if __name__ in ("__main__", "__mp_main__"):
    warnings.simplefilter("ignore")

from examples.tau2 import quiet_tau2

quiet_tau2()

import torch

from benchmarks.models import MODELS
from benchmarks.step_measurement import measure
from benchmarks.step_table import format_result
from examples.tau2.training.launch import ConfigError

CONFIG = ROOT / "examples/tau2/config_1.7b_airline.yaml"


def main(argv: list[str]) -> int:
    """Measure, print the results, and return the exit status.

    The status is 1 if the two ways have different results, else 0. If nothing can be measured with
    the options, the process ends with status 2.
    """
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        result = measure(args)
    except ConfigError as error:
        parser.error(str(error))
    print(format_result(result), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["equal"] else 1


def command_line() -> argparse.ArgumentParser:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option(
        "--model",
        default="0.6b" if gpu else "tiny",
        help=f"{', '.join(MODELS)}, or a folder with the config.json of a model for Archon "
        "(default: %(default)s)",
    )
    option(
        "--tokenizer",
        type=Path,
        metavar="FOLDER",
        help="Qwen3's; default: cl100k_base, which has nearly the same tokens for English",
    )
    option(
        "--tasks",
        type=positive,
        default=4,
        metavar="N",
        help="tasks, each a group (default: %(default)s)",
    )
    option(
        "--episodes",
        type=positive,
        default=4,
        metavar="N",
        help="episodes of a group (default: %(default)s)",
    )
    option(
        "--thinking",
        type=positive,
        default=150,
        metavar="WORDS",
        help="length of the thoughts before each turn (default: %(default)s)",
    )
    option(
        "--samples",
        type=positive,
        default=None if gpu else 6,
        metavar="N",
        help="step on the first turns of the episodes only, N in all "
        "(default: 6 on a CPU, every turn on a GPU)",
    )
    option(
        "--steps",
        type=positive,
        default=5 if gpu else 2,
        metavar="N",
        help="steps each way, of which the medians are reported, after one to warm up "
        "(default: %(default)s)",
    )
    option(
        "--config",
        type=Path,
        default=CONFIG,
        metavar="YAML",
        help="the config of the actor (default: %(default)s)",
    )
    option("--json", type=Path, metavar="FILE", help="write all numbers, those of each step, too")
    option(
        "overrides",
        nargs="*",
        metavar="option=value",
        help="of the config: actor.mb_spec.max_tokens_per_mb=16384",
    )
    return parser


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


if __name__ == "__main__":
    sys.stdout = sys.__stdout__
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
