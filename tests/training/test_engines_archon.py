"""Archon's weights: how they are stored, computed with, moved, written and read."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from areal.api import FinetuneSpec, ParallelStrategy, SaveLoadMeta, WeightUpdateMeta
from areal.api.cli_args import (
    ArchonEngineConfig,
    MicroBatchSpec,
    OptimizerConfig,
    PPOActorConfig,
)
from areal.experimental.engine.archon_engine import ArchonPPOActor as ArealActor
from areal.experimental.models.archon import get_model_spec
from areal.utils import name_resolve
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

from examples.tau2.cpu.model import tiny_config
from examples.tau2.cpu.tokenizer import untrained_tokenizer
from examples.tau2.training.engines.archon import ArchonPPOActor

TOKENS = 256
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A model in bfloat16, as on the hub, with the deviation of a real one's weights."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = untrained_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = tiny_config(tokenizer)
    # the tokenizer has hardly any tokens
    shape.vocab_size = 128
    Qwen3ForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


@contextmanager
def process_group(store: dist.Store, rank: int, world_size: int) -> Iterator[None]:
    """This process is a rank of a group; it compiles nothing, and has one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, torch.compiler.set_stance("force_eager"):
        patch.setenv("LOCAL_RANK", "0")
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
        yield
        dist.destroy_process_group()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_rank() -> Iterator[None]:
    with process_group(dist.HashStore(), 0, 1):
        yield


def actor_of(folder: str, engine: type[ArealActor] = ArchonPPOActor, **options) -> ArealActor:
    """An actor of the model in `folder`, which computes in bfloat16."""
    optimizer = OptimizerConfig(lr=1e-5, warmup_steps_proportion=0.0)
    config = PPOActorConfig(
        **{
            "experiment_name": "e",
            "trial_name": "t",
            "backend": "archon:d1",
            "path": folder,
            "dtype": "bfloat16",
            "optimizer": optimizer,
            "archon": ArchonEngineConfig(attn_type="sdpa", enable_compile=False),
            "mb_spec": MicroBatchSpec(max_tokens_per_mb=TOKENS),
            # a model this narrow is padded to more tokens than that
            "pad_to_maximum": True,
            **options,
        }
    )
    actor = engine(config)
    actor.create_process_group(ParallelStrategy(data_parallel_size=dist.get_world_size()))
    actor.initialize(None, FinetuneSpec(total_train_epochs=1, dataset_size=9, train_batch_size=1))
    return actor


def batch(step: int) -> Weights:
    ids = torch.randint(0, 100, (8, 64), generator=torch.Generator().manual_seed(step))
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "loss_mask": mask}


def loss(logprobs: torch.Tensor, entropy: torch.Tensor, data: Weights, **_) -> torch.Tensor:
    return -logprobs.mean()


def train(actor: ArealActor, steps: range) -> None:
    for step in steps:
        result = actor.train_batch(batch(step), loss, lambda data: data["loss_mask"].sum())
        assert result["update_successful"]


def weights_of(actor: ArealActor) -> Weights:
    return {name: weight.full_tensor().clone() for name, weight in actor.model.named_parameters()}


def in_hf_format(actor: ArealActor, weights: Weights) -> Weights:
    """The weights under the names that AReaL writes them by."""
    adapter = get_model_spec("qwen3").state_dict_adapter_class(actor.model_config)
    return adapter.to_hf(weights)


def dtypes(tensors) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors}


def same(some: Weights, others: Weights) -> bool:
    return some.keys() == others.keys() and all(some[name].equal(others[name]) for name in some)


def checkpoint(path: Path, weight_format: str) -> SaveLoadMeta:
    return SaveLoadMeta(
        path=str(path),
        weight_format=weight_format,
        with_optim=weight_format == "dcp",
        tokenizer=None,
        processor=None,
        base_model_path=None,
    )


@pytest.fixture(scope="module")
def trained(folder, one_rank) -> ArealActor:
    """Our actor after 5 steps; `initial` has its weights before."""
    actor = actor_of(folder)
    actor.initial = weights_of(actor)
    train(actor, range(5))
    return actor


# -- weights that move ---------------------------------------------------------------------------


def moved(before: Weights, after: Weights) -> float:
    """The share of the weights that are not what they were."""
    changes = torch.cat([(after[name] != before[name]).flatten() for name in before])
    return changes.float().mean().item()


@pytest.mark.parametrize(
    "engine, options", [(ArealActor, {}), (ArchonPPOActor, {"optimizer_dtype": "bfloat16"})]
)
def test_most_weights_in_bfloat16_do_not_move(folder, one_rank, engine, options):
    """AReaL's engine takes no notice of optimizer_dtype, whose default is float32."""
    actor = actor_of(folder, engine, **options)
    before = weights_of(actor)
    train(actor, range(5))
    assert dtypes(weights_of(actor).values()) == {torch.bfloat16}
    assert moved(before, weights_of(actor)) < 0.3


def test_all_weights_of_ours_move(trained):
    assert moved(trained.initial, weights_of(trained)) > 0.99
    assert dtypes(trained.model.parameters()) == {torch.float32}
    assert dtypes(weight.grad for weight in trained.model.parameters()) == {torch.float32}
    moments = trained.optimizer.state.values()
    assert dtypes(value for state in moments for value in state.values()) == {torch.float32}


# -- the computation -----------------------------------------------------------------------------


def test_the_computation_is_in_bfloat16_and_as_it_was(folder, one_rank):
    """Weights that come from bfloat16 give the same bits, whatever they are stored in."""
    ours = actor_of(folder)
    seen = set()
    layer = ours.model.layers["0"].attention.wq
    layer.register_forward_hook(lambda layer, _, out: seen.update(dtypes([layer.weight, out])))
    (logprobs,) = ours.compute_logp([batch(0)])
    assert seen == {torch.bfloat16}
    (areals,) = actor_of(folder, ArealActor).compute_logp([batch(0)])
    assert logprobs.equal(areals)
    (exact,) = actor_of(folder, dtype="float32").compute_logp([batch(0)])
    assert not logprobs.equal(exact)
    assert torch.allclose(logprobs, exact, atol=0.05)


def test_a_reference_model_is_stored_as_it_is_computed(folder, one_rank):
    reference = actor_of(folder, optimizer=None)
    assert dtypes(reference.model.parameters()) == {torch.bfloat16}


# -- what is written and read --------------------------------------------------------------------


def rounded(weights: Weights) -> Weights:
    return {name: weight.to(torch.bfloat16) for name, weight in weights.items()}


def test_a_checkpoint_in_hugging_faces_format_is_in_bfloat16(trained, tmp_path):
    trained.save(checkpoint(tmp_path / "hf", "hf"))
    written = load_file(tmp_path / "hf/model-00001-of-00001.safetensors")
    assert same(written, rounded(in_hf_format(trained, weights_of(trained))))
    again = actor_of(str(tmp_path / "hf"))
    assert dtypes(again.model.parameters()) == {torch.float32}
    assert same(rounded(weights_of(again)), rounded(weights_of(trained)))


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(folder, one_rank, tmp_path):
    run = actor_of(folder)
    train(run, range(2))
    run.save(checkpoint(tmp_path, "dcp"))
    train(run, range(2, 4))
    resumed = actor_of(folder)
    resumed.load(checkpoint(tmp_path, "dcp"))
    train(resumed, range(2, 4))
    assert same(weights_of(resumed), weights_of(run))


class Rollouts:
    """Stands for the inference servers, which read the weights from the disk."""

    def pause_generation(self) -> None:
        pass

    def continue_generation(self) -> None:
        pass

    def update_weights_from_disk(self, meta: WeightUpdateMeta) -> Future:
        done = Future()
        done.set_result(None)
        return done


def test_the_weights_that_are_served_are_those_trained_rounded(trained, tmp_path, monkeypatch):
    # the servers would learn by it that the weights are there
    monkeypatch.setattr(name_resolve, "add", lambda *_, **__: None)
    meta = WeightUpdateMeta(type="disk", path=str(tmp_path / "v1"))
    trained.connect_engine(Rollouts(), meta)
    trained.update_weights(meta)
    served = load_file(tmp_path / "v1/model-00001-of-00001.safetensors")
    assert same(served, rounded(in_hf_format(trained, weights_of(trained))))


def test_weights_that_are_sent_are_those_that_are_written(trained):
    weights = weights_of(trained)
    adapter = trained.state_dict_adapter
    sent = {}
    for name, weight in weights.items():
        sent |= dict(adapter.convert_single_to_hf(name, weight))
    assert same(sent, adapter.to_hf(weights))


# -- two ranks -----------------------------------------------------------------------------------


def worker(rank: int, folder: str, out: str) -> None:
    """One of two data-parallel workers, each of which trains on half of the batches."""
    with process_group(dist.FileStore(f"{out}/store", 2), rank, 2):
        run = actor_of(folder)
        before = weights_of(run)
        train(run, range(rank, 4, 2))
        run.save(checkpoint(Path(out, "dcp"), "dcp"))
        train(run, range(4 + rank, 8, 2))
        resumed = actor_of(folder)
        resumed.load(checkpoint(Path(out, "dcp"), "dcp"))
        train(resumed, range(4 + rank, 8, 2))
        after = weights_of(run)
        assert moved(before, after) > 0.99
        assert same(weights_of(resumed), after)
        run.save(checkpoint(Path(out, "hf"), "hf"))
        written = load_file(f"{out}/hf/model-00001-of-00001.safetensors")
        assert same(written, rounded(in_hf_format(run, after)))


@pytest.mark.processes
def test_two_ranks_train_write_and_resume_as_one_does(folder, tmp_path):
    torch.multiprocessing.spawn(worker, (folder, str(tmp_path)), nprocs=2)
