"""AReaL's rollout engines as this project uses them."""

from typing import Any

from areal.api import InferenceEngine
from areal.api.io_struct import LocalInfServerInfo
from areal.engine.sglang_remote import RemoteSGLangEngine as ArealRemoteSGLangEngine
from areal.engine.vllm_remote import RemotevLLMEngine as ArealRemotevLLMEngine

from examples.tau2.training.areal.groups import play_groups_of_episodes
from examples.tau2.training.areal.proxies import render_as_sglang
from examples.tau2.training.areal.servers import launch_server
from examples.tau2.training.areal.versions import ServesTrueVersions
from examples.tau2.training.engines import DrawsPortsApart
from examples.tau2.training.groups import GroupResult, take_results


class WatchesItsServerStart(InferenceEngine):
    """A rollout engine that notices if its server ends instead of starting."""

    def launch_server(self, server_args: dict[str, Any]) -> LocalInfServerInfo:
        return launch_server(self._engine, server_args)


class ReportsGroups(InferenceEngine):
    """A rollout engine that tells the trainer the results of its worker's groups."""

    def take_group_results(self) -> list[GroupResult]:
        """Return the results of the groups that have ended since the last call."""
        return take_results()


class TrainsOnIncompleteGroups(InferenceEngine):
    """A rollout engine that trains on the rest of a group of which episodes were rejected."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        play_groups_of_episodes()
        super().initialize(*args, **kwargs)


class RendersAsSGLang(InferenceEngine):
    """A rollout engine whose proxy makes the prompts of SGLang's own server.

    AReaL starts each proxy with an engine of its own, and makes the proxy's client afterwards.
    """

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        render_as_sglang()
        super().initialize(*args, **kwargs)


class PlaysEveryGroup(DrawsPortsApart, InferenceEngine):
    """A rollout engine that plays every group it is sent.

    The rollout controller counts the groups under way, and sends them to its workers in turn.
    AReaL's workers count as well, each up to its share: the groups that all workers may play,
    divided by the number of workers. A worker that has played its share can be sent one more group,
    in place of a group that another worker rejected. It would play this group only with the next
    weights, but the trainer waits for the group before it makes these weights. Here each worker is
    told that it is the only one, so that its share is all groups.
    """

    def initialize(
        self,
        engine_id: str | None = None,
        addr: str | list[str] | None = None,
        train_data_parallel_size: int = 1,
    ) -> None:
        super().initialize(engine_id, addr, train_data_parallel_size)


class RolloutEngine(
    WatchesItsServerStart,
    ReportsGroups,
    RendersAsSGLang,
    TrainsOnIncompleteGroups,
    PlaysEveryGroup,
    ServesTrueVersions,
):
    """What both engines have."""


class RemoteSGLangEngine(RolloutEngine, ArealRemoteSGLangEngine):
    """AReaL's engine of a worker that rolls out with SGLang."""


class RemotevLLMEngine(RolloutEngine, ArealRemotevLLMEngine):
    """AReaL's engine of a worker that rolls out with vLLM."""
