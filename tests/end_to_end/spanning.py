"""A run of train.py whose episodes span updates of the weights, and which keeps their tokens.

    python -m tests.end_to_end.spanning --config ... option=value ...

The first group of the run is played as usual. Each later episode asks for its first turn again and
again until the weights are updated, and then goes on. So updates cut completions, too.
"""

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from areal.infra import workflow_context

from examples.tau2 import train
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode.llm import CallLLM
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.training.areal.rollouts import served_weight_version
from examples.tau2.training.launch import launch


class SpansAnUpdate(Tau2AgentWorkflow):
    """Plays as the module's docstring says."""

    # the folder of the groups that `keep` writes
    groups: Path

    def __init__(self, output_dir: str, **arguments: Any):
        super().__init__(output_dir=output_dir, **arguments)
        SpansAnUpdate.groups = Path(output_dir).with_name("groups")
        self.groups.mkdir(exist_ok=True)

    async def play_with(self, llm: CallLLM, data: dict[str, Any]) -> Tau2RunInfo:
        first_version = served_weight_version()
        is_first_group = workflow_context.get().task_id == 0

        async def ask(*arguments: Any, **sampling: Any):
            completion = await llm(*arguments, **sampling)
            while served_weight_version() == first_version and not is_first_group:
                completion = await llm(*arguments, **sampling)
            return completion

        return await super().play_with(ask, data)


def keep(trajectory: dict[str, Any]) -> bool:
    """Write a group's tensors, which have a row for each completion, and accept the group."""
    torch.save(trajectory, SpansAnUpdate.groups / f"{uuid4()}.pt")
    return True


if __name__ == "__main__":
    train.WORKFLOW = f"{__spec__.name}.SpansAnUpdate"
    train.GROUP_FILTER = f"{__spec__.name}.keep"
    sys.exit(launch(sys.argv[1:], __doc__, train.prepare))
