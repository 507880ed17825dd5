"""Faults of AReaL's trainers as they are, and that ours have none of them.

The trainers' own code runs; mocks stand for the engines and what else a run would start.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
import torch.distributed
from areal import PPOTrainer, SFTTrainer
from areal.api.alloc_mode import ModelAllocation
from areal.api.cli_args import AgentConfig, InferenceEngineConfig
from areal.engine.fsdp_utils.checkpoint import DCPState as FSDPState
from areal.experimental.engine.archon_checkpoint import DCPState as ArchonState
from areal.experimental.openai.proxy.server import DEFAULT_ADMIN_API_KEY
from areal.infra import RolloutController
from areal.infra.rpc.guard import engine_blueprint

from examples.tau2.training.areal.rollouts import (
    continue_group_numbers,
    is_group_under_way,
    served_weight_version,
)
from examples.tau2.training.areal.trainers import PatchedPPOTrainer, PatchedSFTTrainer
from examples.tau2.training.engines import archon, fsdp
from examples.tau2.training.trainer import Tau2PPOTrainer

RECORDED = ("recover_handler.dump", "evaluator.evaluate", "stats_logger.commit")


# -- what is saved when --------------------------------------------------------------------------


def train_one_step(trainer_class: type, monkeypatch) -> list[str]:
    """Return what a training step calls, of `RECORDED`, in its order."""
    monkeypatch.setattr(torch.distributed, "barrier", lambda group: None)
    parts = MagicMock()
    trainer = trainer_class.__new__(trainer_class)
    trainer.config = parts.config
    trainer.config.total_train_epochs = 1
    trainer.config.total_train_steps = None
    trainer.config.memory_profiler = None
    trainer.config.perf_tracer = None
    trainer.recover_info = None
    trainer.first_step = 0
    trainer.train_dataloader = [["a row"]]
    for name in ("actor", "saver", "evaluator", "recover_handler", "stats_logger"):
        setattr(trainer, name, getattr(parts, name))
    for name in ("tokenizer", "processor", "valid_dataloader", "rollout", "eval_rollout"):
        setattr(trainer, name, getattr(parts, name))
    for name in ("data_controller", "critic", "ref", "teacher"):
        setattr(trainer, name, None)
    for name in ("actor", "rollout", "critic", "ref", "teacher"):
        setattr(trainer, f"_should_offload_{name}", False)
    trainer.weight_update_meta = parts.weight_update_meta
    trainer._proxy_started = True
    if issubclass(trainer_class, PPOTrainer):
        trainer.train(workflow="a.workflow", eval_workflow="a.workflow")
    else:
        trainer.train()
    return [name for name, _, _ in parts.mock_calls if name in RECORDED]


@pytest.mark.parametrize("trainer_class", [PPOTrainer, SFTTrainer])
def test_areals_trainers_save_a_step_before_its_evaluation_and_statistics(
    trainer_class, monkeypatch
):
    assert train_one_step(trainer_class, monkeypatch) == list(RECORDED)


@pytest.mark.parametrize("trainer_class", [PatchedPPOTrainer, PatchedSFTTrainer])
def test_ours_save_a_step_last(trainer_class, monkeypatch):
    called = train_one_step(trainer_class, monkeypatch)
    assert called == ["evaluator.evaluate", "stats_logger.commit", "recover_handler.dump"]


# -- the learning rate of a resumed run ----------------------------------------------------------


def test_areals_checkpoints_have_no_schedule_of_the_learning_rate():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    assert FSDPState(model, optimizer).state_dict().keys() == {"model", "optim"}
    assert ArchonState([model], optimizer).state_dict().keys() == {"model", "optim"}


@pytest.mark.parametrize(
    "areals, ours", [(SFTTrainer, PatchedSFTTrainer), (PPOTrainer, PatchedPPOTrainer)]
)
@pytest.mark.parametrize("last_step, steps", [(None, 0), (4, 5)])
def test_ours_go_on_in_the_schedule_of_the_learning_rate(
    areals, ours, last_step, steps, monkeypatch
):
    def init(trainer, config, train_dataset, valid_dataset) -> None:
        trainer.actor = MagicMock()
        step_info = SimpleNamespace(global_step=last_step)
        recovered = SimpleNamespace(last_step_info=step_info)
        trainer.recover_info = None if last_step is None else recovered

    monkeypatch.setattr(areals, "__init__", init)
    trainer = ours(None, None, None)
    assert trainer.first_step == steps
    assert trainer.actor.step_lr_scheduler.call_count == steps


# -- the engines ---------------------------------------------------------------------------------


@pytest.fixture
def process_group() -> Iterator[None]:
    """End the process group that AReaL's controllers start in this process."""
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("backend, module", [("archon:d1", archon), ("fsdp:d1", fsdp)])
def test_controllers_of_ours_start_our_engines(backend, module):
    alloc = ModelAllocation.from_str(backend, name="actor")

    def engines(trainer_class: type) -> list[type]:
        trainer = trainer_class.__new__(trainer_class)
        trainer.scheduler = MagicMock()
        trainer.actor_alloc = alloc
        config = SimpleNamespace(_version="v1", backend=backend)
        if issubclass(trainer_class, SFTTrainer):
            return [trainer._create_actor(config).train_engine]
        return [
            trainer._create_train_engine(config, alloc).train_engine,
            trainer._create_critic(config, alloc).train_engine,
        ]

    areals = [*engines(PPOTrainer), *engines(SFTTrainer)]
    ours = [*engines(PatchedPPOTrainer), *engines(PatchedSFTTrainer)]
    assert [engine.__module__ for engine in ours] == [module.__name__] * 3
    assert [engine.__bases__[-1] for engine in ours] == areals


# -- the proxies ---------------------------------------------------------------------------------


def start_proxies(trainer_class: type, monkeypatch) -> list:
    """Return what the controller of a run that resumes after step 3 does for its proxies."""
    done: list = []
    monkeypatch.setattr(RolloutController, "start_proxy", lambda self: done.append("start"))
    monkeypatch.setattr(
        RolloutController, "set_version", lambda self, version: done.append(version)
    )
    trainer = trainer_class.__new__(trainer_class)
    trainer.config = MagicMock()
    trainer.first_step = 3
    trainer.rollout = RolloutController.__new__(RolloutController)
    trainer.eval_rollout = RolloutController.__new__(RolloutController)
    trainer._proxy_started = False
    trainer._ensure_proxy_started()
    return done


def test_areals_proxies_are_not_told_the_version_of_resumed_weights(monkeypatch):
    assert start_proxies(PPOTrainer, monkeypatch) == ["start", "start"]


def test_ours_are_told_the_version_of_resumed_weights(monkeypatch):
    assert start_proxies(PatchedPPOTrainer, monkeypatch) == ["start", "start", 3, 3]


def agent_config() -> AgentConfig:
    return AgentConfig(agent_cls_path="a.workflow")


def test_areals_admin_key_is_a_published_constant():
    assert agent_config().admin_api_key == DEFAULT_ADMIN_API_KEY


def test_ours_is_a_secret_that_is_not_in_the_config(monkeypatch):
    given = []

    def init_rollout(trainer, config, is_eval, lora_path) -> None:
        given.append((config.agent.admin_api_key, config.min_group_size))

    monkeypatch.setattr(PPOTrainer, "_init_rollout", init_rollout)
    config = InferenceEngineConfig(backend="sglang:d1", agent=agent_config())
    trainer = Tau2PPOTrainer.__new__(Tau2PPOTrainer)
    trainer.config = SimpleNamespace(min_group_size=None)
    trainer.admin_api_key = "a secret"
    trainer.config = SimpleNamespace(min_group_size=5)
    trainer._init_rollout(config)
    assert given == [("a secret", 5)]
    assert config.agent.admin_api_key == DEFAULT_ADMIN_API_KEY


# -- what controllers and workers know -----------------------------------------------------------


@pytest.fixture
def controller() -> RolloutController:
    config = InferenceEngineConfig(backend="sglang:d1")
    controller = RolloutController(None, config, MagicMock())
    controller._dispatcher = SimpleNamespace(_active_task_ids={11, 13})
    return controller


def test_areals_controller_numbers_the_groups_of_a_resumed_run_from_0(controller):
    assert controller._task_id_generator.next() == 0


def test_ours_goes_on_with_the_numbers(controller):
    continue_group_numbers(controller, 12)
    assert controller._task_id_generator.next() == 12


def test_a_group_is_under_way_until_it_has_come_back(controller):
    continue_group_numbers(controller, 14)
    under_way = [number for number in range(10, 16) if is_group_under_way(controller, number)]
    # 14 and 15 are not taken from the data loader yet
    assert under_way == [11, 13, 14, 15]


def test_the_version_of_the_weights_is_that_of_the_workers_engines(monkeypatch):
    monkeypatch.setattr(engine_blueprint, "_engines", {})
    assert served_weight_version() is None
    engines = {str(version): SimpleNamespace(get_version=lambda v=version: v) for version in (2, 3)}
    monkeypatch.setattr(engine_blueprint, "_engines", engines)
    assert served_weight_version() == 3
