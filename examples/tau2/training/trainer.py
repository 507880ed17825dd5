"""The trainers of `train.py` and `sft.py`, which resume a run exactly and end one that hangs."""

import os
import secrets
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from areal.api import Scheduler
from areal.api.cli_args import InferenceEngineConfig, TrainDatasetConfig, ValidDatasetConfig
from areal.infra import LocalScheduler
from areal.utils import stats_tracker
from areal.utils.data import collate_samples_to_list
from areal.utils.network import format_hostport
from areal.utils.stats_logger import StatsLogger
from datasets import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from examples.tau2.training.areal.groups import RolloutConfig
from examples.tau2.training.areal.hosts import is_on_loopback, start_workers_on_loopback
from examples.tau2.training.areal.rollouts import (
    continue_group_numbers,
    is_group_under_way,
    take_group_results,
)
from examples.tau2.training.areal.schedulers import failed_worker, wait_for_forked_workers
from examples.tau2.training.areal.trainers import (
    AnyTrainer,
    PatchedPPOTrainer,
    PatchedSFTTrainer,
    replace_classes_of_trainers,
)
from examples.tau2.training.data_loader import ResumableDataLoader, Rows
from examples.tau2.training.groups import episodes_needed
from examples.tau2.training.health import GroupWatch, ServerWatch
from examples.tau2.training.recovery import (
    Checkpoints,
    forget_later_episodes,
    recovery_is_on,
)
from examples.tau2.training.slurm import SlurmWorkers
from examples.tau2.training.watchdog import watchdog
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

ADMIN_API_KEY = "TAU2_PROXY_ADMIN_API_KEY"
# seconds until a proxy listens; AReaL's 60 are not enough on a busy machine
START_TIMEOUT = 600.0


class EndsWhenStuck(AnyTrainer):
    """A mixin for the patched trainers that ends a run which cannot go on.

    Its data loader resumes with the tasks that come next.
    """

    # share of a batch for tasks whose last group had mixed outcomes
    revisit_share = 0.0
    # makes a batch, as AReaL's trainer expects it, of rows of the data set
    collate: Callable[[list[Any]], Any] = staticmethod(list)

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train to the end of the run, with the arguments of AReaL's `train`.

        Raises:
            RuntimeError: the training cannot go on, where AReaL would wait, or play, forever.
        """
        with watchdog(self.why_stuck):
            super().train(*args, **kwargs)

    def close(self) -> None:
        """End the workers, but leave them to the supervisor in two cases.

        If a worker is lost, AReaL would wait for it. If AReaL has failed to make this trainer and
        calls this, the parts that are missing would raise an error in place of the cause.
        """
        if not self.is_made:
            return
        if is_stuck(self.why_stuck):
            self.stats_logger.close()
        else:
            super().close()

    def why_stuck(self) -> str | None:
        """Return a sentence on why the training cannot go on; None if it can."""
        if isinstance(self.scheduler, SlurmWorkers):
            return self.scheduler.lost_job()
        failed = failed_worker(self.scheduler)
        if failed is None:
            return None
        return f"worker {failed.worker_id} has ended with exit code {failed.exit_code}"

    def make_scheduler(self) -> Scheduler:
        is_slurm = self.config.scheduler.type == "slurm"
        scheduler = SlurmWorkers(self.config) if is_slurm else super().make_scheduler()
        wait_for_forked_workers(scheduler, START_TIMEOUT)
        if isinstance(scheduler, LocalScheduler) and is_on_loopback():
            start_workers_on_loopback(scheduler)
        return scheduler

    def make_data_loader(
        self,
        dataset: Dataset,
        dataset_config: TrainDatasetConfig | ValidDatasetConfig,
        rank: int,
        world_size: int,
    ) -> StatefulDataLoader:
        if not isinstance(dataset_config, TrainDatasetConfig):
            return super().make_data_loader(dataset, dataset_config, rank, world_size)
        self.task_loader = ResumableDataLoader(
            dataset,
            dataset_config.batch_size // world_size,
            dataset_config.shuffle,
            dataset_config.drop_last,
            self.config.seed,
            self.collate,
            self.revisit_share,
        )
        # AReaL uses what both classes have in common
        return cast(StatefulDataLoader, self.task_loader)


class Tau2SFTTrainer(EndsWhenStuck, PatchedSFTTrainer):
    """`SFTTrainer` whose runs are resumed exactly, and end when a worker is lost."""

    collate = staticmethod(collate_samples_to_list)

    def __init__(
        self, config: Tau2SFTConfig, train_dataset: Rows, valid_dataset: Rows | None = None
    ):
        replace_classes_of_trainers(Checkpoints)
        # AReaL calls every data set a Dataset
        train, valid = cast(Dataset, train_dataset), cast("Dataset | None", valid_dataset)
        super().__init__(config, train, valid)


class Tau2PPOTrainer(EndsWhenStuck, PatchedPPOTrainer):
    """`PPOTrainer` whose runs are resumed exactly, and end when they hang.

    AReaL's proxy listens on the network, and its admin key is a published constant. Here the key
    comes from the environment, or is random. Only the rollout engines know it: a run saves its
    config, and sends it to whoever tracks the run.
    """

    def __init__(
        self, config: Tau2PPOConfig, train_dataset: Dataset, valid_dataset: Dataset | None = None
    ):
        replace_classes_of_trainers(Checkpoints)
        self.admin_api_key = os.environ.pop(ADMIN_API_KEY, None) or secrets.token_urlsafe(32)
        self.revisit_share = config.revisit_share
        self.server_watch = ServerWatch()
        log = Path(StatsLogger.get_log_path(config.stats_logger), "rollout.log")
        group_size = config.gconfig.n_samples
        tolerated = group_size - episodes_needed(group_size, config.min_group_size)
        self.group_watch = GroupWatch(config.train_dataset.batch_size, log, tolerated)
        super().__init__(config, train_dataset, valid_dataset)
        controller = self.controllers()[0]
        self.task_loader.unfinished = lambda number: is_group_under_way(controller, number)
        continue_group_numbers(controller, self.task_loader.count)

    def advantage_options(self) -> dict[str, Any]:
        return {"baseline": self.config.baseline, "scale": self.config.advantage_scale}

    def end_step(self) -> None:
        """Tell the data loader of the groups that were played, and count their episodes."""
        results = take_group_results(self.controllers()[0])
        self.task_loader.learn_results(results)
        played = [len(result.outcomes) for result in results]
        dropped = [len(result.outcomes) for result in results if not result.accepted]
        statistics = {"group/episodes": sum(played), "group/dropped_episodes": sum(dropped)}
        stats_tracker.get("rollout").scalar(**statistics)

    def forget_later_episodes(self, generated: Path) -> None:
        """Remove the trajectories of episodes that this process will play again.

        An earlier process played them after the checkpoint from which this one goes on.
        """
        if recovery_is_on(self.config.recover):
            forget_later_episodes(generated, self.first_step, self.task_loader.under_way)

    def why_stuck(self) -> str | None:
        """Return a sentence on why the training cannot go on; None if it can."""
        # the servers are asked first: the worker or job that the scheduler has lost by then
        # explains why a server has ended
        ended = self.server_watch.ended_server(self.servers())
        return super().why_stuck() or ended or self.rejected_groups()

    def servers(self) -> dict[str, str]:
        """Return the name of each server of the run, by its address."""
        servers = {}
        for info in self.controllers()[0].server_infos:
            servers[format_hostport(info.host, info.port)] = "SGLang"
        for controller in self.controllers():
            for url in controller.proxy_addrs:
                servers[url.removeprefix("http://")] = "the proxy"
        return servers

    def rejected_groups(self) -> str | None:
        """Return a sentence if too many groups in a row were rejected."""
        manager = self.controllers()[0].staleness_manager
        if manager is None:
            return None
        counts = manager.get_stats()
        return self.group_watch.all_rejected(counts.accepted, counts.rejected)

    def rollout_config(self, config: InferenceEngineConfig) -> RolloutConfig:
        fields = deepcopy(vars(config))
        config = RolloutConfig(**fields, min_group_size=self.config.min_group_size)
        config.agent.admin_api_key = self.admin_api_key
        return config


def is_stuck(why_stuck: Callable[[], str | None]) -> bool:
    """Tell whether the training cannot go on. If `why_stuck` raises an error, it can."""
    try:
        return why_stuck() is not None
    except Exception:
        return False
