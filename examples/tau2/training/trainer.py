"""AReaL's trainers: resumed without gap or repetition, on Slurm workers as the config wants them, ended when they cannot go on.

The proxy gets a secret.
"""

import os
import secrets
import socket
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import areal.trainer.rl_trainer
import areal.trainer.sft_trainer
from areal import PPOTrainer, SFTTrainer
from areal.api.cli_args import InferenceEngineConfig, TrainDatasetConfig
from areal.infra.scheduler.exceptions import WorkerFailedError
from areal.utils.data import collate_samples_to_list
from areal.utils.network import format_hostport, split_hostport

from examples.tau2.training import engines
from examples.tau2.training.recovery import (
    Checkpoints,
    ResumableDataLoader,
    forget_later_episodes,
    recovery_is_on,
)
from examples.tau2.training.slurm import SlurmWorkers
from examples.tau2.training.watchdog import watchdog
from examples.tau2.utils import Tau2PPOConfig

ADMIN_API_KEY = "TAU2_PROXY_ADMIN_API_KEY"
START_TIMEOUT = 600.0  # seconds until a proxy listens; AReaL's 60 are not enough on a busy machine
PATIENCE = 20  # batches of groups of which not one is accepted
CONNECT_TIMEOUT = 5.0  # seconds

areal.trainer.rl_trainer.RecoverHandler = areal.trainer.sft_trainer.RecoverHandler = Checkpoints
areal.trainer.rl_trainer.RemoteSGLangEngine = engines.RemoteSGLangEngine
areal.trainer.rl_trainer.RemotevLLMEngine = engines.RemotevLLMEngine


class _Resumed:
    """What the trainers have in common. `first_step` is the number of steps that an earlier process has done."""

    _collate = staticmethod(list)

    def __init__(self, config: Any, **datasets: Any):
        super().__init__(config, **datasets)
        self.first_step = (
            self.recover_info.last_step_info.global_step + 1 if self.recover_info else 0
        )
        for _ in range(self.first_step):  # it is in no checkpoint
            self.actor.step_lr_scheduler()

    def train(self, *args: Any, **kwargs: Any) -> None:
        """
        Raises:
            RuntimeError: it cannot go on; where AReaL would wait, or play, for ever.
        """
        with watchdog(self._complaint):
            super().train(*args, **kwargs)

    def close(self) -> None:
        """End the workers, unless some are lost: AReaL would wait for them. The supervisor ends the rest."""
        try:
            lost = self._complaint()
        except Exception:  # nobody knows
            lost = None
        if lost is None:
            super().close()
        else:
            self.stats_logger.close()

    def _complaint(self) -> str | None:
        """Why the training cannot go on."""
        if isinstance(self.scheduler, SlurmWorkers):
            return self.scheduler.lost()
        try:
            for role in list(self.scheduler._workers):
                self.scheduler._check_worker_health(role)
        except WorkerFailedError as error:
            return f"worker {error.worker_id} has ended with exit code {error.exit_code}"
        return None

    def _init_scheduler(self):
        scheduler = (
            SlurmWorkers(self.config)
            if self.config.scheduler.type == "slurm"
            else super()._init_scheduler()
        )
        scheduler._wait_for_fork_ready = partial(
            scheduler._wait_for_fork_ready, timeout=START_TIMEOUT
        )
        return scheduler

    def _create_dataloader(self, dataset: Any, dataset_config: Any, rank: int, world_size: int):
        if not isinstance(dataset_config, TrainDatasetConfig):
            return super()._create_dataloader(dataset, dataset_config, rank, world_size)
        return ResumableDataLoader(
            dataset,
            dataset_config.batch_size // world_size,
            dataset_config.shuffle,
            dataset_config.drop_last,
            self.config.seed,
            self._collate,
        )

    def _save_recover_checkpoint(self, epoch: int, epoch_step: int, global_step: int) -> None:
        """Not yet: a step that is not evaluated, and whose statistics are not written, is done again."""

    def _export_and_commit_stats(self, epoch: int, epoch_step: int, global_step: int) -> None:
        super()._export_and_commit_stats(epoch, epoch_step, global_step)
        super()._save_recover_checkpoint(epoch, epoch_step, global_step)


def _with_own_engine(controller: Any) -> Any:
    """The controller of training workers, with the engine of `engines`."""
    controller.train_engine = getattr(engines, controller.train_engine.__name__)
    return controller


class Tau2SFTTrainer(_Resumed, SFTTrainer):
    """`SFTTrainer` whose runs are resumed exactly, under Slurm on `SlurmWorkers`."""

    _collate = staticmethod(collate_samples_to_list)

    def _create_actor(self, *args: Any):
        return _with_own_engine(super()._create_actor(*args))


class Tau2PPOTrainer(_Resumed, PPOTrainer):
    """The proxy listens on the network, so AReaL's published admin key becomes one of the environment, or a random one.

    It is known to the rollout engines alone: the config is saved, and goes to whoever tracks the run.
    """

    def __init__(self, config: Tau2PPOConfig, **datasets: Any):
        self._admin_api_key = os.environ.pop(ADMIN_API_KEY, None) or secrets.token_urlsafe(32)
        self._accepted = self._rejected = 0  # groups, when the last one was accepted
        self._reached: set[str] = set()  # addresses
        super().__init__(config, **datasets)
        self.train_dataloader.unfinished = self._is_under_way
        self.rollout._task_id_generator._task_cnt = self.train_dataloader.count

    def forget_later_episodes(self, generated: Path) -> None:
        """Remove the trajectories of what an earlier process did after the checkpoint from which this one goes on."""
        if recovery_is_on(self.config.recover):
            forget_later_episodes(generated, self.first_step, self.train_dataloader.under_way)

    def _complaint(self) -> str | None:
        dead = (
            self._dead_server()
        )  # first: what the scheduler then knows of its worker or job explains it
        return super()._complaint() or dead or self._all_rejected()

    def _dead_server(self) -> str | None:
        """AReaL goes on to send it its share of the groups, each of which is rejected."""
        servers = {
            format_hostport(info.host, info.port): "SGLang" for info in self.rollout.server_infos
        }
        for rollout in filter(None, (self.rollout, self.eval_rollout)):
            servers |= {url.removeprefix("http://"): "the proxy" for url in rollout.proxy_addrs}
        for address, what in servers.items():
            if _is_there(address):
                self._reached.add(address)
            elif address in self._reached:
                return f"{what} at {address} has ended: nothing listens there any more"
        return None

    def _all_rejected(self) -> str | None:
        now = self.rollout.staleness_manager.get_stats()
        if self._accepted != now.accepted:
            self._accepted, self._rejected = now.accepted, now.rejected
        if now.rejected - self._rejected < PATIENCE * self.config.train_dataset.batch_size:
            return None
        return (
            f"the last {now.rejected - self._rejected} groups were all rejected: each had an episode that says nothing about "
            "the agent (EpisodeRejected, in the log, says why), or equal rewards (group_filter)"
        )

    def _is_under_way(self, number: int) -> bool:
        """AReaL numbers tasks as it takes them from the data loader, and forgets them when their groups have come back."""
        return (
            number >= self.rollout._task_id_generator._task_cnt
            or number in self.rollout.dispatcher._active_task_ids
        )

    def _create_train_engine(self, *args: Any):
        return _with_own_engine(super()._create_train_engine(*args))

    def _create_critic(self, *args: Any):
        return _with_own_engine(super()._create_critic(*args))

    def _ensure_proxy_started(self) -> None:
        """AReaL tells the engines the version of resumed weights, but not the proxies, which start later."""
        super()._ensure_proxy_started()
        for rollout in (self.rollout, self.eval_rollout):
            if rollout is not None and self.first_step:
                rollout.set_version(self.first_step)

    def _init_rollout(self, rollout_config: InferenceEngineConfig, *args: Any, **kwargs: Any):
        rollout_config = deepcopy(rollout_config)
        rollout_config.agent.admin_api_key = self._admin_api_key
        return super()._init_rollout(rollout_config, *args, **kwargs)


def _is_there(address: str) -> bool:
    """Unless its machine says that nothing listens there: no answer can be that of a busy server, or the network's."""
    try:
        socket.create_connection(split_hostport(address), CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        pass
    return True
