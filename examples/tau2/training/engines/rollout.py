"""AReaL's rollout engines as this project uses them."""

from typing import Any

from areal.api import InferenceEngine
from areal.api.io_struct import LocalInfServerInfo
from areal.engine.sglang_remote import RemoteSGLangEngine as ArealRemoteSGLangEngine
from areal.engine.vllm_remote import RemotevLLMEngine as ArealRemotevLLMEngine

from examples.tau2.training.areal.servers import launch_server
from examples.tau2.training.areal.versions import ServesTrueVersions
from examples.tau2.training.engines import (
    PlaysEveryGroup,
    RendersAsSGLang,
    TrainsOnIncompleteGroups,
)
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


class RemoteSGLangEngine(
    WatchesItsServerStart,
    ReportsGroups,
    RendersAsSGLang,
    TrainsOnIncompleteGroups,
    PlaysEveryGroup,
    ServesTrueVersions,
    ArealRemoteSGLangEngine,
):
    """AReaL's engine of a worker that rolls out with SGLang."""


class RemotevLLMEngine(
    WatchesItsServerStart,
    ReportsGroups,
    RendersAsSGLang,
    TrainsOnIncompleteGroups,
    PlaysEveryGroup,
    ServesTrueVersions,
    ArealRemotevLLMEngine,
):
    """AReaL's engine of a worker that rolls out with vLLM."""
