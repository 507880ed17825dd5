"""tau2's tasks and environments: files are read once per process; every episode gets a cheap environment of its own.

Environments are tau2's own classes over a view of the domain's one frozen database. Three things differ: there may be a
`think` tool, a task's assertion that raises counts as not met, and `calculate` always ends. They are registered with
tau2 under names of their own, so that its evaluator builds the same environments that the conversation ran in.
"""

import copy
import functools
import gc
import logging
from functools import cache, partial

from tau2.agent.llm_agent import LLMSoloAgent
from tau2.data_model.tasks import Task
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.environment.tool import Tool, as_tool
from tau2.environment.toolkit import GenericToolKit, ToolKitBase
from tau2.registry import registry

from examples.tau2.episode import database

logger = logging.getLogger(__name__)

DOMAINS = ("airline", "retail", "telecom", "mock")
SOLO_DOMAINS = ("telecom", "mock")


@cache
def load_tasks(domain: str) -> dict[str, Task]:
    """All tasks of a domain by id, every split included, in the order of tau2's file."""
    return {task.id: task for task in registry.get_tasks_loader(domain)(None)}


@cache
def task_splits(domain: str) -> dict[str, list[str]]:
    """Task ids by split name; a domain without a split loader (mock) has the one split `base`, all its tasks."""
    loader = registry.get_task_splits_loader(domain)
    return loader() if loader else {"base": list(load_tasks(domain))}


def find_task(domain: str, task_id: str) -> Task:
    """The task, not to be modified.

    Raises:
        LookupError: the domain has no task of this id.
    """
    try:
        return load_tasks(domain)[task_id]
    except KeyError:
        raise LookupError(f"domain {domain!r} has no task {task_id!r}") from None


def playable_solo(task: Task) -> bool:
    """Whether tau2's solo agent takes the task: it needs a ticket and something to do."""
    return task.ticket is not None and LLMSoloAgent.check_valid_task(task)


def make_environment(
    domain: str, solo_mode: bool = False, thinking_tool: bool = False, db_path: str | None = None
) -> Environment:
    """A fresh environment, private to the caller, in its initial state: the domain's own, or that of a database file."""
    environment = copy.copy(_template(domain, solo_mode, thinking_tool))
    for kit, frozen in databases(domain, db_path).items():
        toolkit = copy.copy(getattr(environment, kit))
        toolkit.frozen, toolkit.db = frozen, frozen.view()
        setattr(environment, kit, toolkit)
    return environment


@cache
def databases(domain: str, db_path: str | None) -> dict[str, database.FrozenDB]:
    """The initial databases by the environment's attribute, `tools` and `user_tools`: the agent's from the file, if there is one.

    Raises:
        OSError, ValueError, ...: whatever reading a file or validating what is in it raises.
    """
    constructor = registry.get_env_constructor(domain)
    environment = (
        constructor() if db_path is None else constructor(db=_database_class(domain).load(db_path))
    )
    toolkits = {"tools": environment.tools, "user_tools": environment.user_tools}
    frozen = {
        kit: database.FrozenDB(toolkit.db)
        for kit, toolkit in toolkits.items()
        if toolkit is not None
    }
    _spare_garbage_collector()
    return frozen


def register_environment(
    domain: str, thinking_tool: bool = False, db_path: str | None = None
) -> str:
    """Register `make_environment` with tau2 and return the domain name under which its evaluator finds it."""
    name = f"{domain}/{'thinking' if thinking_tool else 'episode'}/{db_path or ''}"
    if name not in registry.get_domains():
        constructor = partial(
            make_environment, domain, thinking_tool=thinking_tool, db_path=db_path
        )
        registry.register_domain(constructor, name)
    return name


@cache
def agent_tools(
    domain: str, solo_mode: bool = False, thinking_tool: bool = False
) -> tuple[Tool, ...]:
    """The tools offered to the agent: in solo mode the user's too, and `done`; in tau2's order."""
    environment = _template(domain, solo_mode, thinking_tool)
    if not solo_mode:
        return tuple(environment.get_tools())
    user_tools = environment.get_user_tools() if environment.user_tools else []
    return (*environment.get_tools(), *user_tools, as_tool(done))


@cache
def user_tools(domain: str) -> tuple[Tool, ...] | None:
    """The tools of the user simulator; None where the user has none."""
    environment = _template(domain, False, False)
    return tuple(environment.get_user_tools()) if environment.user_tools else None


def toolkits(domain: str) -> dict[str, ToolKitBase | None]:
    """The toolkits by who calls them, `assistant` and `user`, with no database."""
    environment = _template(domain, False, False)
    return {"assistant": environment.tools, "user": environment.user_tools}


@cache
def agent_schemas(domain: str, solo_mode: bool = False, thinking_tool: bool = False) -> list[dict]:
    """`agent_tools` as OpenAI's function schemas, shared by all episodes."""
    return [tool.openai_schema for tool in agent_tools(domain, solo_mode, thinking_tool)]


@cache
def user_schemas(domain: str) -> list[dict] | None:
    """`user_tools` as OpenAI's function schemas, shared by all episodes."""
    return [tool.openai_schema for tool in user_tools(domain) or ()] or None


def done() -> str:
    """Call this function when you are done with the task."""
    return LLMSoloAgent.STOP_TOKEN


@cache
def _template(domain: str, solo_mode: bool, thinking_tool: bool) -> Environment:
    """The environment of all episodes but for its databases."""
    environment = registry.get_env_constructor(domain)(solo_mode=solo_mode)
    environment.__class__ = _with_lenient_assertions(type(environment))
    if thinking_tool:
        environment.tools.__class__ = _with_thinking_tool(type(environment.tools))
    for toolkit in filter(None, (environment.tools, environment.user_tools)):
        toolkit.__class__ = database.with_views(_with_bounded_calculate(type(toolkit)))
        toolkit.db = None
    return environment


@cache
def _database_class(domain: str) -> type[DB]:
    return type(registry.get_env_constructor(domain)().tools.db)


def _spare_garbage_collector() -> None:
    """All episodes wait while Python looks for cyclic garbage: 0.1 s and more for what is in memory now.

    What is there now is never looked at again; what comes, in full, a hundred times less often than by default. Episodes
    leave no cycles that live long: without any full collection, 768 of them left memory as it was.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], 1000)


@cache
def _with_thinking_tool(toolkit: type) -> type:
    return type(toolkit)(toolkit.__name__, (toolkit,), {"think": GenericToolKit.think})


@cache
def _with_bounded_calculate(toolkit: type) -> type:
    """tau2's `calculate`, in airline and retail, evaluates 9**9**9 for ever, and with it stops every other episode."""
    if not hasattr(toolkit, "calculate"):
        return toolkit

    @functools.wraps(toolkit.calculate)
    def calculate(self, expression: str) -> str:
        if "**" in expression:  # its description offers + - * / only
            raise ValueError("Invalid characters in expression")
        return toolkit.calculate(self, expression)

    return type(toolkit)(toolkit.__name__, (toolkit,), {"calculate": calculate})


@cache
def _with_lenient_assertions(base: type[Environment]) -> type[Environment]:
    def run_env_assertion(self, assertion, raise_assertion_error=True):
        try:
            return base.run_env_assertion(self, assertion, raise_assertion_error)
        except Exception as error:
            if raise_assertion_error:
                raise
            # mock's `assert_task_status` raises when the agent created no task: the task's condition is not met
            logger.debug("assertion %s raised, so it is not met: %s", assertion.func_name, error)
            return False

    return type(base.__name__, (base,), {"run_env_assertion": run_env_assertion})
