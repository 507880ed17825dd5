"""The configs as AReaL takes them: its loader, allocations, SGLang command, schedulers, advantages; without a GPU."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from areal.api.alloc_mode import ModelAllocation
from areal.api.cli_args import SGLangConfig, load_expr_config
from areal.engine import RemoteSGLangEngine
from areal.infra import LocalScheduler, RolloutController, TrainController
from areal.trainer.ppo.actor import PPOActor
from omegaconf.errors import ConfigKeyError
from sglang.srt.server_args import ServerArgs

from examples.tau2.training.slurm import SlurmWorkers
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

FOLDER = Path(__file__).parents[1] / "examples/tau2"
SFT = sorted(path.name for path in FOLDER.glob("config_sft_*.yaml"))
ALL = sorted({path.name for path in FOLDER.glob("config_*.yaml")} - {*SFT})

TABLE = {  # of the specification: model, nodes, allocation
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

VARIABLES = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "SGLANG_FORWARD_UNKNOWN_TOOLS": "1"}


def load(name: str, tmp_path: Path, *overrides: str) -> Tau2PPOConfig:
    """The config as `train.py` gets it, with the overrides that the specification's commands have."""
    (tmp_path / "name_resolve").mkdir(exist_ok=True)
    argv = [
        "--config",
        str(FOLDER / name),
        "experiment_name=test",
        "trial_name=trial",
        f"cluster.fileroot={tmp_path}",
        f"cluster.name_resolve.nfs_record_root={tmp_path}/name_resolve",
        *(
            []
            if name == "config_cpu.yaml"
            else ["econfig.user_llm_base_url=http://localhost:8000/v1/"]
        ),
        *overrides,
    ]
    return load_expr_config(argv, Tau2PPOConfig)[0]


def parallel(backend: str):
    return ModelAllocation.from_str(backend).parallel


def test_the_specified_configs_are_there():
    assert set(TABLE) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_loads_with_areal(name, tmp_path):
    config = load(name, tmp_path)
    assert (
        config.cluster.fileroot == config.saver.fileroot == config.recover.fileroot == str(tmp_path)
    )
    assert (
        config.tokenizer_path
        == config.rollout.tokenizer_path
        == config.actor.path
        == config.sglang.model_path
    )
    assert config.rollout.agent.export_style == "individual"
    assert config.rollout.agent.turn_discount == config.econfig.turn_discount
    assert (
        config.econfig.solo_mode or config.econfig.user_llm_base_url == "http://localhost:8000/v1/"
    )


@pytest.mark.parametrize("name", SFT)
def test_a_supervised_start_saves_what_its_reinforcement_takes(name, tmp_path):
    argv = [
        "--config",
        str(FOLDER / name),
        "experiment_name=test",
        "trial_name=sft",
        f"cluster.fileroot={tmp_path}",
    ]
    Path(tmp_path, "name_resolve").mkdir()
    config = load_expr_config(argv, Tau2SFTConfig)[0]
    (reinforced,) = (
        other for other in ALL if other.startswith(name.removesuffix(".yaml").replace("sft_", ""))
    )
    assert config.actor.path == config.tokenizer_path == load(reinforced, tmp_path).actor.path
    assert (
        config.cluster.fileroot == config.saver.fileroot == config.recover.fileroot == str(tmp_path)
    )
    assert (
        config.saver.freq_epochs and config.total_train_epochs % config.saver.freq_epochs == 0
    )  # the last is saved
    assert config.train_dataset.batch_size % parallel(config.actor.backend).dp_size == 0


@pytest.mark.parametrize(
    "option",
    ["econfig.turn_discont=0.9", "actor.optimizer.learning_rate=1", "rollout.openai.mode=inline"],
)
def test_unknown_options_are_refused(option, tmp_path):
    with pytest.raises(ConfigKeyError):
        load("config_1.7b_airline.yaml", tmp_path, f"+{option}")


@pytest.mark.parametrize("name", ALL)
def test_train_alone_decides_on_turn_discount_and_admin_key(name):
    config = yaml.safe_load((FOLDER / name).read_text())
    assert "turn_discount" not in config["rollout"]["agent"]
    assert "admin_api_key" not in str(config)


@pytest.mark.parametrize("name", GPU)
def test_model_and_allocation_are_the_specified(name, tmp_path):
    config = load(name, tmp_path)
    model, nodes, allocation = TABLE[name]
    assert config.actor.path == model
    assert f"{config.rollout.backend}+{config.actor.backend}" == allocation
    assert (config.cluster.n_nodes, config.cluster.n_gpus_per_node) == (nodes, 8)
    assert (
        parallel(config.rollout.backend).world_size + parallel(config.actor.backend).world_size
        == nodes * 8
    )
    assert config.scheduler.type == ("local" if nodes == 1 else "slurm")
    assert config.allocation_mode == ""  # only AReaL's old launchers read it
    assert config.econfig.domain == "airline"


@pytest.mark.parametrize("name", SLURM)
def test_shared_storage_must_be_set(name):
    cluster = yaml.safe_load((FOLDER / name).read_text())["cluster"]
    assert cluster["fileroot"].startswith("/path/to/")
    assert cluster["name_resolve"]["nfs_record_root"].startswith("/path/to/")


def test_hybrid_allocations_are_what_they_say(tmp_path):
    small = parallel(load("config_30b_moe_airline.yaml", tmp_path).actor.backend)
    assert (small.dp_size, small.pp_size, small.tp_size, small.cp_size) == (4, 4, 2, 1)
    assert (small.ep_size, small.etp_size, small.edp_size) == (4, 1, 2)
    large = parallel(load("config_235b_moe_airline.yaml", tmp_path).actor.backend)
    assert (large.dp_size, large.pp_size, large.tp_size, large.cp_size) == (1, 12, 4, 1)
    assert (large.ep_size, large.etp_size, large.edp_size) == (4, 1, 1)


@pytest.mark.parametrize("name", GPU)
def test_batches_divide_over_data_parallel_ranks(name, tmp_path):
    config = load(name, tmp_path)
    assert config.train_dataset.batch_size % parallel(config.actor.backend).dp_size == 0
    assert config.rollout.consumer_batch_size == config.train_dataset.batch_size


@pytest.mark.parametrize("name", GPU)
def test_tree_training_for_dense_models_only(name, tmp_path):
    actor = load(name, tmp_path).actor
    assert actor.enable_tree_training == (name in DENSE)
    if actor.enable_tree_training:
        assert actor.pad_to_maximum
        assert actor.mb_spec.max_tokens_per_mb % 128 == 0
        # AReaL ignores these, and says so at each batch
        assert (actor.mb_spec.n_mbs, actor.mb_spec.granularity, actor.mb_spec.n_mbs_divisor) == (
            1,
            1,
            1,
        )


@pytest.mark.parametrize("name", GPU)
def test_every_prompt_that_the_proxy_admits_fits(name, tmp_path):
    config = load(name, tmp_path)
    longest = config.rollout.agent.engine_max_tokens
    assert longest == config.gconfig.max_tokens <= 32768  # what AReaL's proxy allows at most
    assert (
        longest < config.sglang.context_length
    )  # SGLang refuses a request that could fill its context
    assert longest <= config.actor.mb_spec.max_tokens_per_mb
    assert config.gconfig.max_new_tokens < longest / 2
    assert config.eval_gconfig.max_new_tokens == config.gconfig.max_new_tokens
    assert (
        config.econfig.timeout < config.rollout.request_timeout
    )  # at which AReaL gives up the group


@pytest.mark.parametrize("name", GPU)
def test_sglang_takes_its_command(name, tmp_path):
    config = load(name, tmp_path)
    servers = parallel(config.rollout.backend)
    command = SGLangConfig.build_cmd(
        config.sglang, servers.tp_size, base_gpu_id=0, host="localhost", port=8000
    )
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    server = parser.parse_args(command[3:])  # after python3 -m <module>
    assert server.model_path == server.tokenizer_path == config.actor.path
    assert (server.tensor_parallel_size, server.context_length) == (
        servers.tp_size,
        config.sglang.context_length,
    )
    assert server.skip_tokenizer_init and server.dtype == "bfloat16"
    # all episodes that can be on the way at once are decoded at once
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
    """By role: the `#SBATCH` options and the command of the script that AReaL submits."""
    scripts = {}

    def sbatch(command):
        path = Path(command[1])
        lines = path.read_text().splitlines()
        options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
        start = next(
            index for index, line in enumerate(lines) if "srun" in line and not line.startswith("#")
        )
        scripts[path.stem] = (
            dict(option.partition("=")[::2] for option in options),
            "\n".join(lines[start:]),
        )
        return b"Submitted batch job 999999999"

    monkeypatch.setattr(subprocess, "check_output", sbatch)
    submit_workers(config, SlurmWorkers(config))
    return scripts


@pytest.mark.parametrize("name", SLURM)
def test_slurm_jobs_take_the_specified_gpus(name, tmp_path, monkeypatch):
    config = load(name, tmp_path)
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
        assert (
            "python3 -m areal.infra.rpc.rpc_server --experiment-name test --trial-name trial "
            in command
        )
        assert f" --role {role} " in command
        assert f"--nfs-record-root {tmp_path}/name_resolve" in command


@pytest.mark.parametrize("name", SLURM)
def test_slurm_workers_run_in_the_container_with_all_variables(name, tmp_path, monkeypatch):
    config = load(name, tmp_path, "+actor.scheduling_spec.0.env_vars.TAU2_DATA_DIR=/data/tau2")
    for options, command in slurm_scripts(config, monkeypatch).values():
        words = shlex.split(command.partition("bash -c")[0])
        variables = dict(
            words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "--env"
        )
        assert variables.items() >= (VARIABLES | {"TAU2_DATA_DIR": "/data/tau2"}).items()
        assert variables["OMP_NUM_THREADS"] == options["cpus-per-task"]
        assert str(FOLDER.parents[1]) in variables["PYTHONPATH"].split(":")
        assert (
            "singularity exec" in command
            and words[words.index("--bind") + 1] == f"{tmp_path}:{tmp_path}"
        )
        assert words[-1] == "docker://ghcr.io/inclusionai/areal-runtime:latest"


@pytest.mark.parametrize("name", SLURM)
def test_slurm_workers_run_without_a_container(name, tmp_path, monkeypatch):
    config = load(name, tmp_path, "++actor.scheduling_spec.0.container_type=none")
    for _, command in slurm_scripts(config, monkeypatch).values():
        assert "singularity" not in command and "areal-runtime" not in command
        assert "--gres=gpu:8 bash -c 'export CUDA_VISIBLE_DEVICES=" in command
        for variable, value in VARIABLES.items():
            assert f"export {variable}={value};" in command
        assert f"export PYTHONPATH={FOLDER.parents[1]}:" in command


def test_local_workers_share_the_node(tmp_path, monkeypatch):
    config = load(
        "config_1.7b_airline.yaml",
        tmp_path,
        "+actor.scheduling_spec.0.env_vars.TAU2_DATA_DIR=/data/tau2",
    )
    started = []

    class Scheduler(LocalScheduler):
        def _configure_worker(self, worker, rank):
            started.append(worker)

        def __del__(self):
            """Its workers are none."""

    def start(command, *_, env_vars_in_cmd, **__):
        assert command[:3] == [sys.executable, "-m", "areal.infra.rpc.rpc_server"]
        assert env_vars_in_cmd.items() >= (VARIABLES | {"TAU2_DATA_DIR": "/data/tau2"}).items()
        return SimpleNamespace(poll=lambda: None, pid=None)

    monkeypatch.setattr("areal.infra.scheduler.local.run_with_streaming_logs", start)
    submit_workers(config, Scheduler(gpu_devices=list(range(8)), exp_config=config))
    assert [worker.role for worker in started] == 2 * ["actor"] + 6 * ["rollout"]
    assert [gpu for worker in started for gpu in worker.gpu_devices] == list(range(8))


def interactions(turns: int, reward: float, length: int = 6) -> dict[str, torch.Tensor]:
    """What AReaL makes of an episode: a sample per turn, each with the episode's reward."""
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
def test_all_turns_of_an_episode_get_the_same_advantage(name, tmp_path):
    config = load(name, tmp_path)
    episodes = [
        (9, 0.0),
        (14, 1.0),
        (11, 0.0),
        (12, 0.0),
        (10, 1.0),
        (13, 0.0),
        (9, 1.0),
        (12, 0.0),
    ]
    assert len(episodes) == config.gconfig.n_samples
    group = [interactions(turns, reward) for turns, reward in episodes]
    result = PPOActor(config.actor, engine=None).compute_advantages(
        [{key: torch.cat([episode[key] for episode in group]) for key in group[0]}]
    )[0]
    advantages = result["advantages"][result["loss_mask"].bool()].view(-1, 3)
    success = torch.cat([torch.full((turns,), reward > 0) for turns, reward in episodes])
    assert len(advantages) == len(success)
    assert advantages[success].min() == advantages[success].max() > 0.5
    assert advantages[~success].min() == advantages[~success].max() < -0.5
    assert advantages.mean().item() == pytest.approx(0, abs=1e-5)
