"""The conversation of one episode: tau2's own orchestrator, driven asynchronously.

`AsyncOrchestrator` awaits the message of the side that speaks next. Then tau2's synchronous
`step()` delivers it. So roles, limits, terminations and calls of the environment are tau2's own.
"""

import time
import uuid

from tau2.data_model.message import AssistantMessage, MultiToolMessage
from tau2.data_model.simulation import SimulationRun, TerminationReason
from tau2.data_model.tasks import Task
from tau2.orchestrator.orchestrator import Orchestrator, Role
from tau2.user.user_simulator import DummyUser
from tau2.utils.llm_utils import get_cost
from tau2.utils.utils import get_now

from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import CallLLM
from examples.tau2.episode.participants import AgentFailure, ConversationAgent, SoloAgent, User
from examples.tau2.episode.solo_tickets import with_completed_ticket


class AsyncOrchestrator(Orchestrator):
    """tau2's `Orchestrator` with an asynchronous `run`, called `converse`.

    The episode's deadline may cancel `converse`. Afterwards `failure` says why the episode ended
    early; it is None if tau2's own rules ended the episode. `simulation_run` makes tau2's record of
    the episode.

    Args:
        user_llm: None in solo mode.
        db_path: the database file of the task; None for the domain's own database.
    """

    # tau2's attributes, which this class sets once, to objects of these classes
    # pyrefly: ignore[bad-override-mutable-attribute]
    agent: ConversationAgent | SoloAgent
    # pyrefly: ignore[bad-override-mutable-attribute]
    user: User | DummyUser

    def __init__(
        self,
        config: Tau2EnvConfig,
        task: Task,
        agent_llm: CallLLM,
        user_llm: CallLLM | None,
        db_path: str | None = None,
    ):
        domain, solo_mode, thinking_tool = config.domain, config.solo_mode, config.add_thinking_tool
        domain_environment = environment.make_environment(
            domain, solo_mode, thinking_tool, db_path, environment.logged_reads(task)
        )
        super().__init__(
            domain=domain,
            agent=_make_agent(config, task, agent_llm, domain_environment.get_policy()),
            user=DummyUser() if solo_mode else _make_user(domain, task, user_llm),
            environment=domain_environment,
            task=task,
            max_steps=config.max_steps,
            solo_mode=solo_mode,
        )
        self.failure: str | None = None
        self.start_time = get_now()
        self.start = time.perf_counter()

    async def converse(self) -> None:
        """Play the episode to its end.

        Raises:
            UserSimulatorError: the user simulator refuses.
            openai.OpenAIError: the agent's server cannot be reached or refuses.
        """
        try:
            if self.solo_mode and not self._has_history():
                await self.agent.think(None)
            self.initialize()
            while not self.done:
                await self._prepare_message()
                self.step()
                if self.to_role != Role.ENV:
                    self._check_limits()
        except AgentFailure as failure:
            self.fail(failure.cause, failure.message)

    async def _prepare_message(self) -> None:
        """Await the message that `step` will ask for."""
        if self.message is None:
            raise RuntimeError("tau2's orchestrator has no message to deliver")
        if self.to_role == Role.AGENT:
            await self.agent.think(self.message)
        elif self.to_role == Role.USER and isinstance(self.user, User):
            await self.user.think(self.message)

    def _has_history(self) -> bool:
        """Whether the task begins in the middle of a conversation."""
        state = self.task.initial_state
        return state is not None and bool(state.message_history)

    def _check_limits(self) -> None:
        if self.step_count >= self.max_steps:
            self.done, self.termination_reason = True, TerminationReason.MAX_STEPS
        if self.num_errors >= self.max_errors:
            self.done, self.termination_reason = True, TerminationReason.TOO_MANY_ERRORS

    def fail(self, cause: str, message: AssistantMessage | None = None) -> None:
        """End the episode by the agent's fault, after the agent's `message` if there is one."""
        self.done, self.termination_reason = True, TerminationReason.AGENT_ERROR
        self.failure = cause
        if message is not None:
            self.trajectory.append(message)

    def simulation_run(self) -> SimulationRun:
        """Make tau2's record of the episode, without a reward."""
        if self.termination_reason is None:
            raise RuntimeError("the episode has not ended")
        for index, message in enumerate(self.trajectory):
            # tau2 puts the messages within a `MultiToolMessage` into the trajectory one by one
            if not isinstance(message, MultiToolMessage):
                message.turn_idx = index
        agent_cost, user_cost = get_cost(self.trajectory) or (None, None)
        return SimulationRun(
            id=str(uuid.uuid4()),
            task_id=self.task.id,
            start_time=self.start_time,
            end_time=get_now(),
            duration=time.perf_counter() - self.start,
            termination_reason=self.termination_reason,
            agent_cost=agent_cost,
            user_cost=user_cost,
            messages=self.trajectory,
        )


def _make_agent(
    config: Tau2EnvConfig, task: Task, call: CallLLM, policy: str
) -> ConversationAgent | SoloAgent:
    domain, solo_mode, thinking_tool = config.domain, config.solo_mode, config.add_thinking_tool
    tools = list(environment.agent_tools(domain, solo_mode, thinking_tool))
    # tau2 asks for the name of an LLM, and never calls it
    if solo_mode:
        agent = SoloAgent(tools, policy, with_completed_ticket(task), llm="")
    else:
        agent = ConversationAgent(tools, policy, llm="")
    schemas = environment.agent_schemas(domain, solo_mode, thinking_tool)
    agent.connect(call, schemas, agent.system_prompt)
    return agent


def _make_user(domain: str, task: Task, call: CallLLM | None) -> User:
    if call is None:
        raise ValueError("an episode that is not in solo mode needs a user LLM")
    offered = environment.offered_to_user(task)
    tools = environment.user_tools(domain, offered)
    user = User(
        tools=None if tools is None else list(tools), instructions=str(task.user_scenario), llm=""
    )
    user.connect(call, environment.user_schemas(domain, offered))
    return user
