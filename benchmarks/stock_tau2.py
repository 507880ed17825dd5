"""Makes episodes build what tau2 itself builds for each of them, so that costs can be compared."""

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from unittest.mock import patch

from tau2.data_model.tasks import Task
from tau2.environment.environment import Environment

from examples.tau2.episode import environment
from examples.tau2.episode.environment import registry

# Python's default
GC_THRESHOLD = (700, 10, 10)


@contextmanager
def stock_tau2() -> Generator[None]:
    """Let each episode load and build anew all that `tau2.run.run_task` does.

    Garbage is collected as often as Python does by default.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLD)
    try:
        with patch.multiple(
            environment,
            find_task=_load_task,
            make_environment=_construct_environment,
            agent_tools=environment.agent_tools.__wrapped__,
            register_environment=_domain_itself,
        ):
            yield
    finally:
        gc.set_threshold(*threshold)


def _load_task(domain: str, task_id: str) -> Task:
    tasks = registry.get_tasks_loader(domain)(None)
    return next(task for task in tasks if task.id == task_id)


def _construct_environment(domain: str, solo_mode: bool, *_: object) -> Environment:
    constructor: Callable[..., Environment] = registry.get_env_constructor(domain)
    return constructor(solo_mode=solo_mode)


def _domain_itself(domain: str, *_: object) -> str:
    """Return the name by which tau2's evaluator finds tau2's own environment."""
    return domain
