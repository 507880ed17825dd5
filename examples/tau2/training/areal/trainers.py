"""AReaL's trainers without their faults, and with public names for what a subclass may replace."""

from functools import partial
from typing import TYPE_CHECKING, Any

import areal.trainer.rl_trainer
import areal.trainer.sft_trainer
from areal import PPOTrainer, SFTTrainer
from areal.api import Scheduler
from areal.api.alloc_mode import ModelAllocation
from areal.api.cli_args import (
    InferenceEngineConfig,
    PPOActorConfig,
    PPOConfig,
    PPOCriticConfig,
    SFTConfig,
    TrainDatasetConfig,
    TrainEngineConfig,
    ValidDatasetConfig,
)
from areal.infra import RolloutController, TrainController
from areal.utils.recover import RecoverHandler, RecoverInfo
from datasets import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from examples.tau2.training.areal.ports import draw_ports_apart
from examples.tau2.training.engines import subclass_of
from examples.tau2.training.engines.rollout import RemoteSGLangEngine, RemotevLLMEngine

# Both trainers have the methods that a mixin calls, but AReaL gives them no base class.
AnyTrainer = SFTTrainer if TYPE_CHECKING else object


def replace_classes_of_trainers(recover_handler: type[RecoverHandler]) -> None:
    """Have AReaL's trainers use this handler of checkpoints, and the rollout engines of `engines`.

    The trainers name these classes in their code, and have no option for them. A run calls this
    before it makes its trainer.
    """
    areal.trainer.rl_trainer.RecoverHandler = recover_handler
    areal.trainer.sft_trainer.RecoverHandler = recover_handler
    areal.trainer.rl_trainer.RemoteSGLangEngine = RemoteSGLangEngine
    areal.trainer.rl_trainer.RemotevLLMEngine = RemotevLLMEngine


class ResumesExactly(AnyTrainer):
    """A mixin for AReaL's trainers: a run that is started again loses and repeats nothing.

    `first_step` is the number of steps that earlier processes of the run have done.
    """

    # whether AReaL has made all parts of the trainer
    is_made = False

    def __init__(
        self,
        config: PPOConfig | SFTConfig,
        train_dataset: Dataset,
        valid_dataset: Dataset | None,
    ):
        draw_ports_apart()
        super().__init__(config, train_dataset, valid_dataset)
        self.is_made = True
        recovered: RecoverInfo | None = self.recover_info
        self.first_step = recovered.last_step_info.global_step + 1 if recovered else 0
        # the schedule of the learning rate is in no checkpoint
        for _ in range(self.first_step):
            self.actor.step_lr_scheduler()

    def make_scheduler(self) -> Scheduler:
        """Return what starts the workers of the run. A subclass may override this."""
        return super()._init_scheduler()

    def make_data_loader(
        self,
        dataset: Dataset,
        dataset_config: TrainDatasetConfig | ValidDatasetConfig,
        rank: int,
        world_size: int,
    ) -> StatefulDataLoader:
        """Return the batches of a data set. A subclass may override this."""
        return super()._create_dataloader(dataset, dataset_config, rank, world_size)

    def _init_scheduler(self) -> Scheduler:
        return self.make_scheduler()

    def _create_dataloader(
        self,
        dataset: Dataset,
        dataset_config: TrainDatasetConfig | ValidDatasetConfig,
        rank: int,
        world_size: int,
    ) -> StatefulDataLoader:
        return self.make_data_loader(dataset, dataset_config, rank, world_size)

    def _save_recover_checkpoint(self, epoch: int, epoch_step: int, global_step: int) -> None:
        """Do nothing: AReaL calls this before the step has an evaluation and statistics."""

    def _export_and_commit_stats(self, epoch: int, epoch_step: int, global_step: int) -> None:
        """Write the statistics of a step, and then its checkpoint."""
        super()._export_and_commit_stats(epoch, epoch_step, global_step)
        super()._save_recover_checkpoint(epoch, epoch_step, global_step)


class PatchedSFTTrainer(ResumesExactly, SFTTrainer):
    """`SFTTrainer` without the faults that the table in `areal` lists."""

    def _create_actor(self, actor_config: TrainEngineConfig):
        return _with_own_engine(super()._create_actor(actor_config))


class PatchedPPOTrainer(ResumesExactly, PPOTrainer):
    """`PPOTrainer` without the faults that the table in `areal` lists."""

    def rollout_config(self, config: InferenceEngineConfig) -> InferenceEngineConfig:
        """Return the config of the rollout engines. A subclass may override this."""
        return config

    def advantage_options(self) -> dict[str, Any]:
        """Return more arguments of the engine's `compute_advantages`. A subclass may override."""
        return {}

    def end_step(self) -> None:
        """Do what belongs between an update and its statistics. A subclass may override this."""

    def _export_and_commit_stats(self, epoch: int, epoch_step: int, global_step: int) -> None:
        self.end_step()
        super()._export_and_commit_stats(epoch, epoch_step, global_step)

    def controllers(self) -> list[RolloutController]:
        """Return the controllers of the rollout workers: for training, and for evaluation."""
        rollouts = (self.rollout, self.eval_rollout)
        return [rollout for rollout in rollouts if isinstance(rollout, RolloutController)]

    def _init_rollout(
        self,
        rollout_config: InferenceEngineConfig,
        is_eval: bool = False,
        lora_path: str | None = None,
    ):
        config = self.rollout_config(rollout_config)
        return super()._init_rollout(config, is_eval, lora_path)

    def _create_train_engine(self, actor_config: PPOActorConfig, alloc: ModelAllocation):
        engine = _with_own_engine(super()._create_train_engine(actor_config, alloc))
        options = self.advantage_options()
        engine.compute_advantages = partial(engine.compute_advantages, **options)
        return engine

    def _create_critic(self, critic_config: PPOCriticConfig, alloc: ModelAllocation):
        return _with_own_engine(super()._create_critic(critic_config, alloc))

    def _ensure_proxy_started(self) -> None:
        """Start the proxies, and tell them the version of resumed weights.

        AReaL tells it to the engines when it loads a checkpoint, but the proxies start later.
        """
        super()._ensure_proxy_started()
        if self.first_step:
            for controller in self.controllers():
                controller.set_version(self.first_step)


def _with_own_engine(controller):
    """Have a controller's workers use the subclass of their engine from `engines`."""
    if isinstance(controller, TrainController):
        controller.train_engine = subclass_of(controller.train_engine)
    return controller
