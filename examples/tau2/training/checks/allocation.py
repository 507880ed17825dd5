"""Checks that the engines' allocations are valid and use exactly the GPUs of the cluster."""

from collections.abc import Iterator

from areal.api.alloc_mode import ModelAllocation
from areal.api.cli_args import InferenceEngineConfig, TrainEngineConfig

from examples.tau2.training.checks.loading import first_line
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

BACKENDS = {"actor": ("archon", "megatron", "fsdp"), "rollout": ("sglang",)}

Engine = TrainEngineConfig | InferenceEngineConfig


def check_allocation(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield the problems of each engine's backend, and of all backends with the cluster."""
    engines: dict[str, Engine] = {"actor": config.actor}
    if isinstance(config, Tau2PPOConfig):
        engines["rollout"] = config.rollout
    sizes: dict[str, int] = {}
    for option, engine in engines.items():
        try:
            allocation = ModelAllocation.from_str(engine.backend, name=option)
            sizes[option] = allocation.parallel.world_size
        except Exception as error:
            yield f"{option}.backend={engine.backend!r} is no allocation: {first_line(error)}"
            continue
        backends = BACKENDS[option]
        if allocation.backend not in backends:
            yield f"{option}.backend={engine.backend}: {option} needs one of {', '.join(backends)}"
        workers, batch = allocation.parallel.dp_size, config.train_dataset.batch_size
        if option == "actor" and batch % workers:
            yield (
                f"train_dataset.batch_size={batch} cannot be shared out among the {workers} "
                f"data-parallel workers of actor.backend={engine.backend}; "
                f"make it a multiple of {workers}"
            )
    optimizer = config.actor.optimizer
    if config.actor.backend.startswith("archon") and optimizer and optimizer.type == "adam_bf16":
        yield (
            f"actor.optimizer.type=adam_bf16: actor.backend={config.actor.backend} does not have "
            "it; take adam"
        )
    if len(sizes) == len(engines):
        yield from _check_gpus(config, engines, sizes)


def _check_gpus(
    config: Tau2PPOConfig | Tau2SFTConfig, engines: dict[str, Engine], sizes: dict[str, int]
) -> Iterator[str]:
    """Yield a problem if the engines take more or fewer GPUs than the cluster has.

    `sizes` has the number of processes of each engine. An engine that is colocated with another
    takes no GPUs of its own. Without any GPU, as on a CPU, every size is right.
    """
    cluster = config.cluster
    total = cluster.n_nodes * cluster.n_gpus_per_node
    used = 0
    needs_gpus = False
    for option, engine in engines.items():
        # the type is a string, or AReaL's enum of these strings
        if engine.scheduling_strategy.type == "separation":
            used += sizes[option]
        needs_gpus = needs_gpus or any(spec.gpu for spec in engine.scheduling_spec)
    if used == total or not (total or needs_gpus):
        return
    backends = [f"{option}.backend={engine.backend}" for option, engine in engines.items()]
    verb = "take" if len(backends) > 1 else "takes"
    yield (
        f"{' and '.join(backends)} {verb} {used} GPUs, but cluster.n_nodes={cluster.n_nodes} "
        f"times cluster.n_gpus_per_node={cluster.n_gpus_per_node} is {total}"
    )
