"""What AReaL makes of the configs, without a GPU.

That is: what its loader, its allocations, SGLang's command line, its schedulers and its advantages
take of them. `test_config_snapshots.py` compares the resolved configs field by field.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from areal.api.alloc_mode import ModelAllocation
from areal.api.cli_args import SGLangConfig, load_expr_config, parse_cli_args
from areal.engine import RemoteSGLangEngine
from areal.infra import LocalScheduler, RolloutController, TrainController
from areal.trainer.ppo.actor import PPOActor
from omegaconf.errors import ConfigKeyError
from sglang.srt.server_args import ServerArgs

from examples.tau2.training.advantages import episode_tensors
from examples.tau2.training.engines.archon import ArchonPPOActor
from examples.tau2.training.slurm import SlurmWorkers
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

FOLDER = Path(__file__).parents[1] / "examples/tau2"
SFT = sorted(path.name for path in FOLDER.glob("config_sft_*.yaml"))
ALL = sorted({path.name for path in FOLDER.glob("config_*.yaml")} - {*SFT})

# The specification's table: model, nodes, allocation.
TABLE = {
    "config_1.7b_airline.yaml": ("Qwen/Qwen3-1.7B", 1, "sglang:d6+archon:d2"),
    "config_8b_airline.yaml": ("Qwen/Qwen3-8B", 3, "sglang:d16+archon:d8"),
    "config_30b_moe_airline.yaml": (
        "Qwen/Qwen3-30B-A3B",
        8,
        "sglang:d8t4+megatron:(attn:d4p4t2|ffn:d2p4e4)",
    ),
    "config_235b_moe_airline.yaml": (
        "Qwen/Qwen3-235B-A22B",
        10,
        "sglang:d4t8+megatron:(attn:d1p12t4c1|ffn:d1p12t1e4)",
    ),
}
DENSE = ["config_1.7b_airline.yaml", "config_8b_airline.yaml"]
SLURM = [name for name, (_, nodes, _) in TABLE.items() if nodes > 1]
GPU = list(TABLE)

Load = Callable[..., Tau2PPOConfig]

VARIABLES = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "SGLANG_FORWARD_UNKNOWN_TOOLS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The `cluster.fileroot` of all configs."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "name_resolve").mkdir()
    return folder


@pytest.fixture(scope="module")
def load(folder) -> Load:
    """`load(name, *overrides)` returns a config as `train.py` loads it; each is read once.

    The overrides of the specification's commands are always given.
    """

    @cache
    def load_once(name: str, *overrides: str) -> Tau2PPOConfig:
        argv = [
            "--config",
            str(FOLDER / name),
            "experiment_name=test",
            "trial_name=trial",
            f"cluster.fileroot={folder}",
            f"cluster.name_resolve.nfs_record_root={folder}/name_resolve",
        ]
        if name != "config_cpu.yaml":
            argv.append("econfig.user_llm_base_url=http://localhost:8000/v1/")
        return load_expr_config([*argv, *overrides], Tau2PPOConfig)[0]

    return lambda *arguments: deepcopy(load_once(*arguments))


def parallel(backend: str):
    return ModelAllocation.from_str(backend).parallel


def test_the_specified_configs_are_there():
    assert set(TABLE) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_loads_with_areal(name, folder, load):
    config = load(name)
    for section in (config.cluster, config.saver, config.recover):
        assert section.fileroot == str(folder)
    paths = {config.tokenizer_path, config.rollout.tokenizer_path, config.sglang.model_path}
    assert paths == {config.actor.path}
    assert config.rollout.agent.export_style == "individual"
    assert config.rollout.agent.turn_discount == config.econfig.turn_discount
    if not config.econfig.solo_mode:
        assert config.econfig.user_llm_base_url == "http://localhost:8000/v1/"


@pytest.mark.parametrize("name", SFT)
def test_imitation_saves_the_model_that_its_rl_config_trains(name, folder, load):
    argv = [
        "--config",
        str(FOLDER / name),
        "experiment_name=test",
        "trial_name=sft",
        f"cluster.fileroot={folder}",
    ]
    config = load_expr_config(argv, Tau2SFTConfig)[0]
    prefix = name.removesuffix(".yaml").replace("sft_", "")
    (rl_name,) = [other for other in ALL if other.startswith(prefix)]
    assert config.actor.path == config.tokenizer_path == load(rl_name).actor.path
    for section in (config.cluster, config.saver, config.recover):
        assert section.fileroot == str(folder)
    # the last epoch is saved
    assert config.saver.freq_epochs and config.total_train_epochs % config.saver.freq_epochs == 0
    assert config.train_dataset.batch_size % parallel(config.actor.backend).dp_size == 0


@pytest.mark.parametrize(
    "option",
    ["econfig.turn_discont=0.9", "actor.optimizer.learning_rate=1", "rollout.openai.mode=inline"],
)
def test_unknown_options_are_refused(option, load):
    with pytest.raises(ConfigKeyError):
        load("config_1.7b_airline.yaml", f"+{option}")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_only_train_sets_the_turn_discount_and_the_admin_key(path):
    text = path.read_text()
    assert "turn_discount" not in yaml.safe_load(text).get("rollout", {}).get("agent", {})
    assert "admin_api_key" not in text


@pytest.mark.parametrize("name", GPU)
def test_model_and_allocation_are_the_specified(name, load):
    config = load(name)
    model, nodes, allocation = TABLE[name]
    assert config.actor.path == model
    assert f"{config.rollout.backend}+{config.actor.backend}" == allocation
    assert (config.cluster.n_nodes, config.cluster.n_gpus_per_node) == (nodes, 8)
    backends = [config.rollout.backend, config.actor.backend]
    assert sum(parallel(backend).world_size for backend in backends) == nodes * 8
    assert config.scheduler.type == ("local" if nodes == 1 else "slurm")
    # only AReaL's old launchers read this
    assert config.allocation_mode == ""
    assert config.econfig.domain == "airline"


@pytest.mark.parametrize("name", SLURM)
def test_shared_storage_must_be_set(name):
    composed, _ = parse_cli_args(["--config", str(FOLDER / name)])
    assert composed.cluster.fileroot.startswith("/path/to/")
    assert composed.cluster.name_resolve.nfs_record_root.startswith("/path/to/")


def test_hybrid_allocations_are_what_they_say(load):
    small = parallel(load("config_30b_moe_airline.yaml").actor.backend)
    assert (small.dp_size, small.pp_size, small.tp_size, small.cp_size) == (4, 4, 2, 1)
    assert (small.ep_size, small.etp_size, small.edp_size) == (4, 1, 2)
    large = parallel(load("config_235b_moe_airline.yaml").actor.backend)
    assert (large.dp_size, large.pp_size, large.tp_size, large.cp_size) == (1, 12, 4, 1)
    assert (large.ep_size, large.etp_size, large.edp_size) == (4, 1, 1)


@pytest.mark.parametrize("name", GPU)
def test_batches_divide_over_data_parallel_ranks(name, load):
    config = load(name)
    assert config.train_dataset.batch_size % parallel(config.actor.backend).dp_size == 0
    assert config.rollout.consumer_batch_size == config.train_dataset.batch_size


@pytest.mark.parametrize("name", GPU)
def test_tree_training_for_dense_models_only(name, load):
    actor = load(name).actor
    assert actor.enable_tree_training == (name in DENSE)
    if actor.enable_tree_training:
        assert actor.pad_to_maximum
        assert actor.mb_spec.max_tokens_per_mb % 128 == 0
        # With tree training, AReaL ignores other values of these, and warns at each batch.
        batches = actor.mb_spec
        assert (batches.n_mbs, batches.granularity, batches.n_mbs_divisor) == (1, 1, 1)


@pytest.mark.parametrize("name", GPU)
def test_every_prompt_that_the_proxy_admits_fits(name, load):
    config = load(name)
    longest = config.rollout.agent.engine_max_tokens
    # AReaL's proxy allows no more than this
    assert longest == config.gconfig.max_tokens <= 32768
    # SGLang refuses a request that could fill its context
    assert longest < config.sglang.context_length
    assert longest <= config.actor.mb_spec.max_tokens_per_mb
    assert config.gconfig.max_new_tokens < longest / 2
    assert config.eval_gconfig.max_new_tokens == config.gconfig.max_new_tokens
    # after this time AReaL gives up the group
    assert config.econfig.timeout < config.rollout.request_timeout


@pytest.mark.parametrize("name", GPU)
def test_sglang_takes_its_command(name, load):
    config = load(name)
    servers = parallel(config.rollout.backend)
    command = SGLangConfig.build_cmd(
        config.sglang, servers.tp_size, base_gpu_id=0, host="localhost", port=8000
    )
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    # without python3 -m <module>
    server = parser.parse_args(command[3:])
    assert server.model_path == server.tokenizer_path == config.actor.path
    assert server.tensor_parallel_size == servers.tp_size
    assert server.context_length == config.sglang.context_length
    assert server.skip_tokenizer_init and server.dtype == "bfloat16"
    # SGLang decodes all episodes at once that can be under way at once
    groups = config.rollout.max_concurrent_rollouts
    assert groups <= (config.rollout.max_head_offpolicyness + 1) * config.train_dataset.batch_size
    assert groups * config.gconfig.n_samples <= server.max_running_requests * servers.dp_size


class Submitted(Exception):
    """Raised where a controller would wait for its workers."""


def submit_workers(config: Tau2PPOConfig, scheduler) -> None:
    """AReaL's controllers ask the scheduler for the workers of both engines."""

    def wait(*_, **__):
        raise Submitted

    scheduler.get_workers = wait
    with pytest.raises(Submitted):
        TrainController(object, config.actor, scheduler).initialize(role="actor", ft_spec=None)
    with pytest.raises(Submitted):
        RolloutController(RemoteSGLangEngine, config.rollout, scheduler).initialize(
            role="rollout", server_args={}
        )


def slurm_scripts(config: Tau2PPOConfig, monkeypatch) -> dict[str, tuple[dict[str, str], str]]:
    """The `#SBATCH` options and the command of each script that AReaL submits, by role."""
    scripts = {}

    def sbatch(command):
        path = Path(command[1])
        lines = path.read_text().splitlines()
        options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
        calls = [line for line in lines if "srun" in line and not line.startswith("#")]
        start = lines.index(calls[0])
        values = dict(option.partition("=")[::2] for option in options)
        scripts[path.stem] = (values, "\n".join(lines[start:]))
        return b"Submitted batch job 999999999"

    monkeypatch.setattr(subprocess, "check_output", sbatch)
    submit_workers(config, SlurmWorkers(config))
    return scripts


@pytest.mark.parametrize("name", SLURM)
def test_slurm_jobs_take_the_specified_gpus(name, folder, load, monkeypatch):
    config = load(name)
    scripts = slurm_scripts(config, monkeypatch)
    assert sum(int(options["nodes"]) for options, _ in scripts.values()) == TABLE[name][1]
    for role, engine in (("actor", config.actor), ("rollout", config.rollout)):
        options, command = scripts[role]
        allocation = parallel(engine.backend)
        gpus = 1 if role == "actor" else allocation.tp_size
        assert options["gres"] == "gpu:8"
        assert int(options["ntasks-per-node"]) == 8 // gpus
        assert int(options["cpus-per-task"]) == 8 * gpus <= 64
        assert f"--ntasks={allocation.world_size // gpus} " in command
        assert f"$((SLURM_LOCALID * {gpus}))" in command
        server = "python3 -m areal.infra.rpc.rpc_server"
        assert f"{server} --experiment-name test --trial-name trial " in command
        assert f" --role {role} " in command
        assert f"--nfs-record-root {folder}/name_resolve" in command


@pytest.mark.parametrize("name", SLURM)
def test_slurm_workers_run_in_the_container_with_all_variables(name, folder, load, monkeypatch):
    config = load(name, "+actor.scheduling_spec.0.env_vars.TAU2_DATA_DIR=/data/tau2")
    for options, command in slurm_scripts(config, monkeypatch).values():
        words = shlex.split(command.partition("bash -c")[0])
        values = [after for word, after in pairwise(words) if word == "--env"]
        variables = dict(value.split("=", 1) for value in values)
        assert variables.items() >= (VARIABLES | {"TAU2_DATA_DIR": "/data/tau2"}).items()
        assert variables["OMP_NUM_THREADS"] == options["cpus-per-task"]
        assert str(FOLDER.parents[1]) in variables["PYTHONPATH"].split(":")
        assert "singularity exec" in command
        assert words[words.index("--bind") + 1] == f"{folder}:{folder}"
        assert words[-1] == "docker://ghcr.io/inclusionai/areal-runtime:latest"


@pytest.mark.parametrize("name", SLURM)
def test_slurm_workers_run_without_a_container(name, load, monkeypatch):
    config = load(name, "++actor.scheduling_spec.0.container_type=none")
    for _, command in slurm_scripts(config, monkeypatch).values():
        assert "singularity" not in command and "areal-runtime" not in command
        assert "--gres=gpu:8 bash -c 'export CUDA_VISIBLE_DEVICES=" in command
        for variable, value in VARIABLES.items():
            assert f"export {variable}={value};" in command
        assert f"export PYTHONPATH={FOLDER.parents[1]}:" in command


def test_local_workers_share_the_node(load, monkeypatch):
    config = load(
        "config_1.7b_airline.yaml",
        "+actor.scheduling_spec.0.env_vars.TAU2_DATA_DIR=/data/tau2",
    )
    started = []

    class Scheduler(LocalScheduler):
        def _configure_worker(self, worker, rank):
            started.append(worker)

        def __del__(self):
            """Do nothing: no worker was started."""

    def start(command, *_, env_vars_in_cmd, **__):
        assert command[:3] == [sys.executable, "-m", "areal.infra.rpc.rpc_server"]
        assert env_vars_in_cmd.items() >= (VARIABLES | {"TAU2_DATA_DIR": "/data/tau2"}).items()
        return SimpleNamespace(poll=lambda: None, pid=None)

    monkeypatch.setattr("areal.infra.scheduler.local.run_with_streaming_logs", start)
    submit_workers(config, Scheduler(gpu_devices=list(range(8)), exp_config=config))
    assert [worker.role for worker in started] == 2 * ["actor"] + 6 * ["rollout"]
    assert [gpu for worker in started for gpu in worker.gpu_devices] == list(range(8))


def interactions(turns: int, reward: float, length: int = 6) -> dict[str, torch.Tensor]:
    """An episode as AReaL trains on it: one sample per turn, each with the episode's reward."""
    ones = torch.ones(turns, length)
    return {
        "input_ids": ones.long(),
        "attention_mask": ones.bool(),
        "loss_mask": torch.cat([torch.zeros(turns, 3), torch.ones(turns, length - 3)], dim=1),
        "logprobs": -ones,
        "prox_logp": -ones,
        "rewards": torch.full((turns,), reward),
    }


@pytest.mark.parametrize("name", GPU)
def test_all_turns_of_an_episode_get_the_same_advantage(name, load):
    config = load(name)
    turns = torch.tensor([9, 14, 11, 12, 10, 13, 9, 12])
    solved = torch.tensor([False, True, False, False, True, False, True, False])
    assert len(turns) == config.gconfig.n_samples
    episodes = [
        {
            **interactions(int(count), float(reward)),
            **episode_tensors(index, float(reward), int(count), config.econfig.turn_discount),
        }
        for index, (count, reward) in enumerate(zip(turns, solved, strict=True))
    ]
    group = {key: torch.cat([episode[key] for episode in episodes]) for key in episodes[0]}
    engine = object.__new__(ArchonPPOActor)
    engine.actor = PPOActor(config.actor, engine)
    (result,) = engine.compute_advantages([group], config.baseline, config.advantage_scale)
    advantages = result["advantages"][result["loss_mask"].bool()].view(-1, 3)
    success = solved.repeat_interleave(turns)
    assert len(advantages) == len(success)
    # three of eight episodes are solved
    assert set(advantages[success].flatten().tolist()) == {5 / 8}
    assert set(advantages[~success].flatten().tolist()) == {-3 / 8}
