"""Times steps of AReaL's Archon actor, on samples packed plainly and into tries.

Each actor has a process of its own. Both begin with the same random weights. The learning rate is
0, so that all steps are the same step.
"""

import math
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from areal.api import FinetuneSpec
from areal.api.cli_args import PPOActorConfig
from areal.experimental.engine.archon_engine import ArchonPPOActor
from areal.infra.platforms import current_platform
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from benchmarks.tries import Batch
from examples.tau2.training.supervisor import PR_SET_PDEATHSIG, prctl

# the largest differences between the two ways that are allowed, see `differences`
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclass
class Step:
    """One step of the actor; seconds are wall-clock time."""

    logprob_seconds: float
    advantage_seconds: float
    update_seconds: float
    microbatches: int
    # mean over the tokens trained on
    loss: float
    grad_norm: float
    # of each token trained on, as the first pass computes it
    logprobs: list[float]
    # the most memory so far: what is allocated on the GPU, or, on a CPU, all that is resident
    peak_gib: float

    @property
    def seconds(self) -> float:
        return self.logprob_seconds + self.advantage_seconds + self.update_seconds


def progress(text: str) -> None:
    """Print a line with the time to standard error."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def train(
    actor: PPOActorConfig,
    model: PretrainedConfig,
    tokenizer: PreTrainedTokenizerFast,
    batches: list[Batch],
    steps: int,
) -> dict[str, list[Step]]:
    """Make `steps` steps in each way, "plain" and "tree", after one to warm up.

    The ways take turns, so that both see the same speed of the machine.
    """
    tree_archon = replace(actor.archon, attn_type="tree")
    configs = {
        "plain": replace(actor, enable_tree_training=False),
        "tree": replace(actor, enable_tree_training=True, archon=tree_archon),
    }
    made: dict[str, list[Step]] = {way: [] for way in configs}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        torch.save(batches, Path(folder, "batches.pt"))
        processes = {}
        for way in configs:
            process = ProcessPoolExecutor(1, get_context("spawn"))
            processes[way] = stack.enter_context(process)
        progress("starting two actors ...")
        starting = [
            process.submit(start_actor, configs[way], folder) for way, process in processes.items()
        ]
        for future in starting:
            future.result()
        for number in range(steps + 1):
            name = f"step {number}" if number else "warm-up"
            for way, process in processes.items():
                step = process.submit(make_step).result()
                made[way].append(step)
                progress(f"{name}, {way}: {step.seconds:.2f} s")
        for process in processes.values():
            process.submit(stop_actor).result()
    return {way: made_steps[1:] for way, made_steps in made.items()}


def differences(a: Step, b: Step) -> dict[str, float]:
    """Measure how far apart two steps are.

    The difference of the losses is absolute, because they are means of terms of both signs and of
    size 1. The difference of the logprobs is the mean of the absolute differences over tokens. The
    difference of the gradients' norms is relative.
    """
    by_token = [abs(x - y) for x, y in zip(a.logprobs, b.logprobs, strict=True)]
    return {
        "loss": abs(a.loss - b.loss),
        "logprobs": statistics.fmean(by_token),
        "grad_norm": abs(a.grad_norm - b.grad_norm) / a.grad_norm,
    }


# What follows runs in the process of an actor.

_actor: ArchonPPOActor
_batches: list[Batch]


def start_actor(config: PPOActorConfig, folder: str) -> None:
    """Build the actor, and load the batches.

    `folder` has the model's config and `batches.pt`. The actor is the only rank of its world.
    """
    global _actor, _batches
    # this process ends with the first process, even if the first one is killed
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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
    # The recorded logprobs are made up. Random weights give all tokens nearly the same probability,
    # so the behaviour policy is taken to do so, too.
    logprob = -math.log(_actor.model_config.vocab_size)
    _batches = []
    for batch in torch.load(Path(folder, "batches.pt")):
        batch["logprobs"] = batch["loss_mask"] * logprob
        _batches.append({key: value.to(_actor.device) for key, value in batch.items()})


def make_step() -> Step:
    """Make the step that AReaL's trainer has the actor make, in the same order, and time it."""
    batches = [dict(batch) for batch in _batches]
    start = now()
    all_logprobs = _actor.compute_logp(batches)
    assert all_logprobs is not None
    for batch, logprobs in zip(batches, all_logprobs, strict=True):
        batch["prox_logp"] = logprobs
    logprobs_end = now()
    batches = _actor.compute_advantages(batches)
    advantages_end = now()
    _actor.ppo_update(batches)
    update_end = now()
    stats = _actor.export_stats()
    if current_platform.device_type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    else:
        peak = torch.cuda.max_memory_allocated()
        # the other actor needs the memory
        torch.cuda.empty_cache()
    trained_logprobs: list[float] = []
    for batch in batches:
        trained_logprobs += batch["prox_logp"][batch["loss_mask"].bool()].tolist()
    return Step(
        logprob_seconds=logprobs_end - start,
        advantage_seconds=advantages_end - logprobs_end,
        update_seconds=update_end - advantages_end,
        microbatches=int(stats["ppo_actor/update/num_micro_batches"]),
        loss=stats["ppo_actor/update/actor_loss/avg"],
        grad_norm=stats["ppo_actor/update/grad_norm"],
        logprobs=trained_logprobs,
        peak_gib=peak / 2**30,
    )


def stop_actor() -> None:
    """Free what the actor holds."""
    _actor.destroy()
    torch.distributed.destroy_process_group()


def now() -> float:
    """Wait until the device has finished its work, and return the time in seconds."""
    current_platform.synchronize()
    return time.perf_counter()
