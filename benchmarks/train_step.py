"""What training costs on the trajectories that this package makes, with AReaL's tree training and without.

    python3 benchmarks/train_step.py                                        # a tiny model, on a CPU
    python3 benchmarks/train_step.py --model 1.7b --tasks 8 --episodes 8    # on a GPU

1. Groups of episodes of airline tasks are played through this package's workflow and AReaL's own proxy. Agent and user
   simulator are scripted, and the episodes of a group differ as sampled ones do: in their thoughts and words, in a call
   more, and every other one in a booking, change or cancellation left out, which fails it. Each turn becomes a sample.
2. AReaL's tree training packs the samples into tries, in which a common prefix is there once: tokens before and after.
3. AReaL's Archon actor steps on the samples from random weights (logprobs recomputed, advantages, PPO update), packed
   plainly and into tries in turns, each in a process of its own. The learning rate is 0, so that all steps are the same
   step, and loss and gradient norm must be the same both ways.

On a CPU the third part only shows that the results are equal: attention is dense there, which hides what tries save.
"""

import argparse
import asyncio
import json
import math
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise, zip_longest
from multiprocessing import get_context
from pathlib import Path

if __name__ in (
    "__main__",
    "__mp_main__",
):  # the script, or a process of it; standard output is for the result
    ROOT = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(ROOT), str(ROOT / "tests")]  # the scripted LLMs are those of the tests
    if __name__ == "__main__":
        sys.stdout = sys.stderr  # where AReaL's loggers, made when it is imported, find it
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # two actors share the cores, and one of them always waits

from examples.tau2 import quiet_tau2

quiet_tau2()

import litellm.litellm_core_utils.tokenizers as litellm_tokenizers
import torch
from areal.api import FinetuneSpec
from areal.api.cli_args import PPOActorConfig
from areal.experimental.engine.archon_engine import ArchonPPOActor
from areal.infra.platforms import current_platform
from areal.models.tree_attn.tree import _greedy_build_tries
from areal.utils.data import concat_padded_tensors
from tau2.data_model.tasks import Task
from tau2.environment.toolkit import ToolType
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.convert_slow_tokenizer import TikTokenConverter

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.cpu.tokenizer import in_chat_format
from examples.tau2.data.dataset import task_rows
from examples.tau2.episode import environment
from examples.tau2.training.launch import ConfigError, forced
from examples.tau2.training.plan import load_plan
from examples.tau2.training.supervisor import PR_SET_PDEATHSIG, prctl
from examples.tau2.utils import Tau2PPOConfig
from tests.areal_proxy import Proxy, tool_call
from tests.scripted import LLMServer, say

Sample = dict[
    str, torch.Tensor
]  # a turn: input_ids, attention_mask, loss_mask, logprobs, versions [1, tokens]; rewards [1]
Group = list[list[Sample]]  # the episodes of a task, each a list of turns
Batch = dict[
    str, torch.Tensor
]  # samples padded to one length: [samples, tokens]; rewards [samples]

CONFIG = Path(__file__).resolve().parents[1] / "examples/tau2/config_1.7b_airline.yaml"
DOMAIN, TASKS = "airline", "tau2/train"

# Qwen3's vocabulary is that of tiktoken's cl100k_base, which litellm carries under this name, and more; digits are single
CL100K_BASE = (
    Path(next(iter(litellm_tokenizers.__path__))) / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
)
QWEN3_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_QWEN3 = {
    "tie_word_embeddings": True,
    "head_dim": 128,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
}
MODELS = {  # of Qwen3; those with a size are as published
    # its vocabulary is the tokens that occur: with all of Qwen3's, a CPU would be busy with logits only
    "tiny": {
        **{
            "tie_word_embeddings": True,
            "head_dim": 32,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
        },
        **{"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128},
    },
    "0.6b": {
        **_QWEN3,
        "num_hidden_layers": 28,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "vocab_size": 151_936,
    },
    "1.7b": {
        **_QWEN3,
        "num_hidden_layers": 28,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "vocab_size": 151_936,
    },
}

BENCHMARK = ("actor.init_from_scratch=true", "actor.optimizer.lr=0.0")
ON_CPU = (
    "actor.dtype=float32",
    "actor.archon.attn_type=sdpa",
    "actor.gradient_checkpointing=false",
    "actor.mb_spec.max_tokens_per_mb=6144",
)
# not compiled, the flex attention of tree training keeps all scores: tokens x tokens x heads x 4 bytes
ON_GPU = ("actor.archon.attn_type=varlen", "actor.archon.enable_compile=true")
# between the two ways: see `differences`
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


class Unusable(Exception):
    """Options that make no measurement; the message says why."""


@dataclass
class Step:
    """One step of the actor; seconds are wall-clock time."""

    logprob_seconds: float
    advantage_seconds: float
    update_seconds: float
    microbatches: int
    loss: float  # mean over the tokens trained on
    grad_norm: float
    logprobs: list[float]  # of the tokens trained on, by the first pass
    peak_gib: (
        float  # so far; allocated on the GPU, or resident memory of the process, libraries included
    )

    @property
    def seconds(self) -> float:
        return self.logprob_seconds + self.advantage_seconds + self.update_seconds


def main(argv: list[str]) -> int:
    """Exit status: 0, 1 if the two ways do not give the same, 2 if the options make no measurement."""
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        result = measure(args)
    except (Unusable, ConfigError) as error:
        parser.error(str(error))
    print(report(result), flush=True)
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
        help=f"{', '.join(MODELS)}, or a folder with the config.json of a model for Archon (default: %(default)s)",
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
        help="step on the first turns of the episodes only, N in all (default: 6 on a CPU, every turn on a GPU)",
    )
    option(
        "--steps",
        type=positive,
        default=5 if gpu else 2,
        metavar="N",
        help="steps each way, of which the medians are reported, after one to warm up (default: %(default)s)",
    )
    option(
        "--config",
        type=Path,
        default=CONFIG,
        metavar="YAML",
        help="whose actor it is (default: %(default)s)",
    )
    option(
        "--json", type=Path, metavar="FILE", help="write all that was measured, each step by itself"
    )
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


def measure(args: argparse.Namespace) -> dict:
    """Record, count, train: all that is reported, as JSON has it.

    Raises:
        Unusable, ConfigError: the options make no measurement.
    """
    if args.json and not args.json.parent.is_dir():
        raise Unusable(f"--json: there is no folder {args.json.parent}")
    gpu = torch.cuda.is_available()
    plan = load(args.config, args.overrides)
    actor = load(args.config, [*BENCHMARK, *(ON_GPU if gpu else ON_CPU), *args.overrides]).actor
    tasks = tasks_that_change_the_database()
    if args.tasks > len(tasks):
        raise Unusable(f"--tasks: only {len(tasks)} training tasks of {DOMAIN} change the database")
    model, tokenizer = load_model(args.model), load_tokenizer(args.tokenizer)
    progress(f"recording {args.episodes} episodes of {args.tasks} tasks ...")
    groups = record(plan, tokenizer, tasks[: args.tasks], args.episodes, args.thinking)
    recorded_limit, limit = (config.mb_spec.max_tokens_per_mb for config in (plan.actor, actor))
    chosen = (
        [*first_turns(groups, args.samples)]
        if args.samples
        else [samples(group) for group in groups]
    )
    result = {
        "tokens_per_trie": recorded_limit,
        "groups": [
            {
                "task": task.id,
                "episodes": len(group),
                "solved": solved(group),
                **sharing(samples(group), recorded_limit),
            }
            for task, group in zip(tasks, groups, strict=False)
        ],
        "all": sharing([*chain.from_iterable(map(samples, groups))], recorded_limit),
        "model": args.model,
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "dtype": actor.dtype,
        "tokens_per_microbatch": limit,
        "trained": sharing([*chain.from_iterable(chosen)], limit),
    }
    batches = [concat_padded_tensors(group) for group in chosen]
    if args.model == "tiny":
        batches, model.vocab_size = renumbered(batches)
    check(batches, model, actor)
    if not gpu:  # compiling takes longer than all that is compiled
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    steps = train(actor, model, tokenizer, batches, args.steps)
    off = differences(*(made[-1] for made in steps.values()))
    return {
        **result,
        "steps": {
            way: [{**asdict(step), "logprobs": None} for step in made]
            for way, made in steps.items()
        },
        "differences": off,
        "tolerance": TOLERANCE[actor.dtype],
        "equal": all(value <= TOLERANCE[actor.dtype] for value in off.values()),  # nan is not
    }


def progress(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def load(config: Path, overrides: list[str]) -> Tau2PPOConfig:
    """The config as `train.py` loads it.

    Raises:
        ConfigError: it cannot be read, or an option is wrong.
    """
    plan, problems = load_plan(["--config", str(config), *map(forced, overrides)])
    if problems:
        raise ConfigError(problems)
    return plan


def load_model(name: str) -> PretrainedConfig:
    """Raises `Unusable` if it is neither one of `MODELS` nor a folder with a config."""
    if name in MODELS:
        return Qwen3Config(**MODELS[name])
    try:
        return AutoConfig.from_pretrained(Path(name))
    except (OSError, ValueError) as error:
        raise Unusable(
            f"--model: {name} is neither one of {', '.join(MODELS)} nor a folder with a config"
        ) from error


def load_tokenizer(folder: Path | None) -> PreTrainedTokenizerFast:
    """Raises `Unusable` if the folder has no tokenizer."""
    if folder is None:
        return in_chat_format(TikTokenConverter(str(CL100K_BASE), pattern=QWEN3_WORDS).converted())
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise Unusable(f"--tokenizer: {folder} has no tokenizer") from error


def tasks_that_change_the_database() -> list[Task]:
    """Training tasks that an episode fails by leaving a call out."""
    tasks = [environment.find_task(DOMAIN, row["task_id"]) for row in task_rows(DOMAIN, TASKS)]
    return [task for task in tasks if any(changes(name) for name, _ in expected_calls(task))]


def expected_calls(task: Task) -> list[tuple[str, dict]]:
    return [(action.name, action.arguments) for action in task.evaluation_criteria.actions or []]


def changes(tool: str) -> bool:
    """Whether the tool changes the database."""
    return environment.make_environment(DOMAIN).tools.tool_type(tool) is ToolType.WRITE


def conversation(
    task: Task, succeed: bool, thinking: int, rng: random.Random
) -> tuple[list[str], list[dict]]:
    """What the agent generates and what the user's LLM answers in an episode. Thoughts are sentences of the policy."""
    policy = environment.make_environment(DOMAIN).get_policy().split(". ")
    needs = task.user_scenario.instructions
    calls = expected_calls(task)
    if not succeed:
        calls.remove(rng.choice([call for call in calls if changes(call[0])]))
    if rng.random() < 0.5:
        calls.insert(rng.randrange(len(calls) + 1), ("list_all_airports", {}))
    agent = [
        rng.choice(["Of course. ", "I can help with that. ", "Certainly. "])
        + "Who am I talking to?"
    ]
    user = [say(needs.reason_for_call), say(needs.known_info or "I have told you all I know.")]
    for name, arguments in calls:
        if changes(name):  # which the policy wants confirmed
            agent.append(
                f"{rng.choice(['I will do this', 'This is my plan'])}: {name} {json.dumps(arguments)}. Is it right?"
            )
            user.append(say("Yes, please."))
        agent.append(tool_call(name, json.dumps(arguments)))
    told = " ".join(task.evaluation_criteria.communicate_info or [])
    agent.append(f"{rng.choice(['All is done.', 'That is done now.'])} {told}")
    user.append(say("###STOP###"))

    def thoughts() -> str:
        words = chain.from_iterable(rng.choice(policy).split() for _ in range(thinking))
        return " ".join(word for word, _ in zip(words, range(thinking), strict=False))

    return [f"<think>\n{thoughts()}\n</think>\n\n{text}" for text in agent], user


def record(
    plan: Tau2PPOConfig,
    tokenizer: PreTrainedTokenizerFast,
    tasks: list[Task],
    episodes: int,
    thinking: int,
) -> list[Group]:
    """Play `episodes` of each task, every other one to fail; the samples are those that AReaL would train on."""
    rng = random.Random(plan.seed)
    agent, user = iter(()), iter(())  # of the episode that is being played
    options = asdict(plan.rollout.agent)
    passed_on = (
        "export_style",
        "tool_call_parser",
        "reasoning_parser",
        "engine_max_tokens",
        "chat_template_type",
        "turn_discount",
    )
    proxy = Proxy(lambda _: next(agent), tokenizer, **{name: options[name] for name in passed_on})
    gconfig = plan.gconfig
    sampling = {
        "temperature": gconfig.temperature,
        "top_p": gconfig.top_p,
        "max_completion_tokens": gconfig.max_new_tokens,
    }

    async def play() -> list[Group]:
        nonlocal agent, user
        econfig = {
            **asdict(plan.econfig),
            "domain": DOMAIN,
            "user_llm_base_url": simulator.base_url,
        }
        workflow = proxy.workflow(Tau2AgentWorkflow(econfig, sampling))
        groups = []
        for task in tasks:
            groups.append([])
            for number in range(episodes):
                agent, user = map(iter, conversation(task, number % 2 == 0, thinking, rng))
                turns = await workflow.arun_episode(None, {"task_id": task.id})
                groups[-1].append([turn.to_tensor_dict() for turn in turns.values()])
        return groups

    with proxy, LLMServer(lambda _: next(user)) as simulator:
        return asyncio.run(play())


def solved(group: Group) -> int:
    """How many episodes were rewarded."""
    return sum(episode[-1]["rewards"].item() > 0 for episode in group)


def samples(group: Group) -> list[Sample]:
    return [*chain.from_iterable(group)]


def sharing(samples: list[Sample], limit: int) -> dict[str, float]:
    """How many tokens AReaL's tries of at most `limit` tokens leave, and the ratio of tokens before and after.

    Raises:
        Unusable: a sample does not fit.
    """
    lengths = [sample["input_ids"].shape[1] for sample in samples]
    if max(lengths) > limit:
        raise Unusable(
            f"a sample has {max(lengths)} tokens: actor.mb_spec.max_tokens_per_mb={limit} is too small"
        )
    _, sizes = _greedy_build_tries(concat_padded_tensors(samples), limit)
    return {
        "samples": len(samples),
        "longest": max(lengths),
        "tokens": sum(lengths),
        "tokens_generated": int(sum(sample["loss_mask"].sum() for sample in samples)),
        "tries": len(sizes),
        "tokens_in_tries": sum(sizes),
        "ratio": sum(lengths) / sum(sizes),
    }


def first_turns(groups: list[Group], count: int) -> Iterator[list[Sample]]:
    """The first `count` samples by group: all episodes' first turns, then their second turns, and so on."""
    for group in groups:
        turns = [sample for turn in zip_longest(*group) for sample in turn if sample is not None][
            :count
        ]
        count -= len(turns)
        if turns:
            yield turns


def renumbered(batches: list[Batch]) -> tuple[list[Batch], int]:
    """The batches with the tokens that occur in them numbered from 0, and how many these are."""
    vocabulary = torch.cat([batch["input_ids"].flatten() for batch in batches]).unique()
    return [
        {**batch, "input_ids": torch.searchsorted(vocabulary, batch["input_ids"].contiguous())}
        for batch in batches
    ], len(vocabulary)


def check(batches: list[Batch], model: PretrainedConfig, actor: PPOActorConfig) -> None:
    """
    Raises:
        Unusable: a step would be impossible, or prove nothing.
    """
    highest = max(batch["input_ids"].max().item() for batch in batches)
    if highest >= model.vocab_size:
        raise Unusable(
            f"--model: a vocabulary of {model.vocab_size} lacks token {highest} of the tokenizer"
        )
    if len({reward for batch in batches for reward in batch["rewards"].tolist()}) == 1:
        raise Unusable(
            "--samples, --episodes: all samples have the same reward, and therefore no gradient"
        )
    if actor.dtype not in TOLERANCE:
        raise Unusable(f"actor.dtype is {actor.dtype}, not {' or '.join(TOLERANCE)}")


def train(
    actor: PPOActorConfig,
    model: PretrainedConfig,
    tokenizer: PreTrainedTokenizerFast,
    batches: list[Batch],
    steps: int,
) -> dict[str, list[Step]]:
    """`steps` steps each way, "plain" and "tree", by turns, so that both see the same moods of the machine."""
    tree = replace(actor, enable_tree_training=True, archon=replace(actor.archon, attn_type="tree"))
    ways = {"plain": replace(actor, enable_tree_training=False), "tree": tree}
    made: dict[str, list[Step]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        torch.save(batches, Path(folder, "batches.pt"))
        processes = {
            way: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for way in ways
        }
        progress("starting two actors ...")
        for starting in [
            process.submit(start_actor, ways[way], folder) for way, process in processes.items()
        ]:
            starting.result()
        for number in range(steps + 1):
            for way, process in processes.items():
                made[way].append(process.submit(make_step).result())
                progress(
                    f"{f'step {number}' if number else 'warm-up'}, {way}: {made[way][-1].seconds:.2f} s"
                )
        for process in processes.values():
            process.submit(stop_actor).result()
    return {way: steps[1:] for way, steps in made.items()}


def differences(a: Step, b: Step) -> dict[str, float]:
    """Of the losses, which are means of terms of both signs and size 1; of the tokens' logprobs, on average; of the
    gradients' norms, relative to them."""
    return {
        "loss": abs(a.loss - b.loss),
        "logprobs": statistics.fmean(
            abs(x - y) for x, y in zip(a.logprobs, b.logprobs, strict=True)
        ),
        "grad_norm": abs(a.grad_norm - b.grad_norm) / a.grad_norm,
    }


# In the process of an actor:

_actor: ArchonPPOActor
_batches: list[Batch]


def start_actor(config: PPOActorConfig, folder: str) -> None:
    """Build the actor, alone in its world, from the model's config in `folder`; the batches are there, too."""
    global _actor, _batches
    prctl(
        PR_SET_PDEATHSIG, signal.SIGKILL
    )  # not to outlive the first process, whatever ends that one
    os.environ["LOCAL_RANK"] = "0"
    torch.distributed.init_process_group(
        current_platform.communication_backend,
        store=torch.distributed.HashStore(),
        rank=0,
        world_size=1,
    )
    torch.manual_seed(0)
    _actor = ArchonPPOActor(replace(config, path=folder))
    _actor.create_process_group()
    _actor.initialize(None, FinetuneSpec(total_train_epochs=1, dataset_size=1, train_batch_size=1))
    # The script's logprobs are made up. Random weights give all tokens about the same, so let the behaviour policy do so.
    logprob = -math.log(_actor.model_config.vocab_size)
    _batches = [
        {
            key: value.to(_actor.device)
            for key, value in {**batch, "logprobs": batch["loss_mask"] * logprob}.items()
        }
        for batch in torch.load(Path(folder, "batches.pt"))
    ]


def make_step() -> Step:
    """What AReaL's trainer has the actor do with a batch, in its order."""
    batches = [{**batch} for batch in _batches]
    clock = [now()]
    for batch, logprobs in zip(batches, _actor.compute_logp(batches), strict=True):
        batch["prox_logp"] = logprobs
    clock.append(now())
    batches = _actor.compute_advantages(batches)
    clock.append(now())
    _actor.ppo_update(batches)
    clock.append(now())
    stats = _actor.export_stats()
    if current_platform.device_type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    else:
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()  # for the other actor
    return Step(
        *(later - earlier for earlier, later in pairwise(clock)),
        microbatches=int(stats["ppo_actor/update/num_micro_batches"]),
        loss=stats["ppo_actor/update/actor_loss/avg"],
        grad_norm=stats["ppo_actor/update/grad_norm"],
        logprobs=[
            logprob
            for batch in batches
            for logprob in batch["prox_logp"][batch["loss_mask"].bool()].tolist()
        ],
        peak_gib=peak / 2**30,
    )


def stop_actor() -> None:
    _actor.destroy()
    torch.distributed.destroy_process_group()


def now() -> float:
    """Seconds, when the device has done all it was told."""
    current_platform.synchronize()
    return time.perf_counter()


# In the first process again:


def report(result: dict) -> str:
    """The tables for the terminal."""
    groups, trained, steps = result["groups"], result["trained"], result["steps"]
    total = {name: sum(group[name] for group in groups) for name in ("episodes", "solved")}
    lines = [
        f"turns of {DOMAIN} as samples, packed into tries of at most {result['tokens_per_trie']} tokens",
        f"{'task':>6} {'solved':>8} {'samples':>8} {'longest':>8} {'tokens':>9} {'in tries':>9} {'ratio':>6}",
    ]
    lines += [
        f"{row['task']:>6} {row['solved']:>3} of {row['episodes']:<2} {row['samples']:>7} {row['longest']:>8} "
        f"{row['tokens']:>9} {row['tokens_in_tries']:>9} {row['ratio']:>6.2f}"
        for row in [*groups, {"task": "all", **total, **result["all"]}]
    ]
    lines += [
        "",
        f"steps of {result['model']}, {result['dtype']}, {result['device']}, in microbatches of at most "
        f"{result['tokens_per_microbatch']} tokens: {trained['samples']} samples, {trained['tokens']} tokens, "
        f"{trained['tokens_in_tries']} in tries",
        f"{'':>6} {'batches':>8} {'logprobs':>10} {'update':>10} {'step':>10} {'tokens/s':>9} {'peak':>10} "
        f"{'loss':>10} {'grad norm':>10}",
    ]
    seconds = {way: step_seconds(made) for way, made in steps.items()}
    lines += [
        f"{way:>6} {made[-1]['microbatches']:>8} {median(made, 'logprob_seconds'):>8.2f} s "
        f"{median(made, 'update_seconds'):>8.2f} s {seconds[way]:>8.2f} s {trained['tokens'] / seconds[way]:>9.0f} "
        f"{made[-1]['peak_gib']:>6.2f} GiB {made[-1]['loss']:>10.6f} {made[-1]['grad_norm']:>10.6f}"
        for way, made in steps.items()
    ]
    off = ", ".join(
        f"{name.replace('_', ' ')} {value:.1e}" for name, value in result["differences"].items()
    )
    lines.append(
        f"tree training is {seconds['plain'] / seconds['tree']:.2f} times as fast, and "
        f"{'equal' if result['equal'] else 'NOT EQUAL'}: differences {off}, allowed {result['tolerance']}"
    )
    return "\n".join(lines)


def median(steps: list[dict], name: str) -> float:
    return statistics.median(step[name] for step in steps)


def step_seconds(steps: list[dict]) -> float:
    """Median over the steps."""
    names = ("logprob_seconds", "advantage_seconds", "update_seconds")
    return statistics.median(sum(step[name] for name in names) for step in steps)


if __name__ == "__main__":
    sys.stdout = sys.__stdout__
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
