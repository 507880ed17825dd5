"""The conversation of one episode: tau2's own orchestrator, driven asynchronously.

`AsyncOrchestrator` awaits the message of whoever is to speak next and then lets tau2's synchronous `step()` deliver it,
so that roles, limits, termination and environment calls are tau2's to the letter. The participants are tau2's own
classes, whose next message `think` has prepared; they keep their histories as OpenAI messages, which only grow.
"""

import asyncio
import random
import time
import uuid
from dataclasses import dataclass
from functools import cache

from tau2.agent.llm_agent import LLMAgent, LLMSoloAgent
from tau2.data_model.message import AssistantMessage, Message, UserMessage
from tau2.data_model.simulation import SimulationRun, TerminationReason
from tau2.data_model.tasks import Task
from tau2.orchestrator.orchestrator import Orchestrator, Role
from tau2.user.user_simulator import DummyUser, UserSimulator, get_global_user_sim_guidelines
from tau2.utils.llm_utils import get_cost
from tau2.utils.utils import get_now

from examples.tau2.episode import environment
from examples.tau2.episode.completions import (
    assistant_entry,
    function_calls,
    strip_thinking,
    to_utf8,
    token_usage,
)
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.llm import (
    CallLLM,
    ContextWindowExceeded,
    EmptyCompletion,
    UnusableAnswer,
    UserSimulatorError,
    describe_error,
    is_transient,
    response_cost,
    user_outage,
)
from examples.tau2.episode.messages import is_empty, parse_tool_calls, to_openai

MAX_BACKOFF = 10.0  # seconds between two calls of a user LLM that fails


@dataclass
class AgentTurn:
    """One completion of the agent; `malformed` names what was wrong with its format, None if nothing was."""

    completion_id: str
    malformed: str | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class AgentFailure(Exception):
    """The agent's turn ends the episode as tau2's `agent_error`; `message` is what it said, if it said anything."""

    def __init__(self, cause: str, message: AssistantMessage | None = None):
        super().__init__(cause)
        self.cause = cause
        self.message = message


class _Agent:
    """What both kinds of agent do beyond tau2's."""

    tool_choice: str  # tau2's, for the kind

    def connect(self, call: CallLLM, schemas: list[dict]) -> None:
        self.call = call
        self.schemas = schemas
        self.history: list[dict] = [{"role": "system", "content": self.system_prompt}]
        self.turns: list[AgentTurn] = []
        self.next_message: AssistantMessage | None = None

    def add_stop_tool(self) -> None:
        """`done` is among the tools already."""

    def get_init_state(self, message_history: list[Message] | None = None) -> None:
        for message in message_history or []:
            self.history += to_openai(message)

    def generate_next_message(
        self, message: Message | None, state: None
    ) -> tuple[AssistantMessage, None]:
        return self.next_message, state

    async def think(self, message: Message | None) -> None:
        """Have the LLM answer `message`; None opens an episode in solo mode.

        Raises:
            AgentFailure: tau2 does not accept the answer, or there is none.
        """
        if message is not None:
            self.history += to_openai(message)
        start = time.perf_counter()
        try:
            completion = await self.call(self.history, self.schemas, self.tool_choice)
        except ContextWindowExceeded as error:
            raise AgentFailure("context_window_exceeded") from error
        except EmptyCompletion as error:
            raise AgentFailure("empty") from error
        choice, usage = completion.choices[0], token_usage(completion)
        content = to_utf8(choice.message.content)
        turn = AgentTurn(
            completion_id=completion.id,
            malformed=None,
            finish_reason=choice.finish_reason,
            seconds=time.perf_counter() - start,
            **usage,
        )
        self.turns.append(turn)
        calls = [
            (call_id, to_utf8(name), to_utf8(arguments))
            for call_id, name, arguments in function_calls(completion)
        ]
        entry = assistant_entry(content, calls)
        said = AssistantMessage(
            role="assistant",
            content=strip_thinking(content),
            cost=0.0,
            usage=usage,
            raw_data={
                "completion_id": completion.id,
                "finish_reason": choice.finish_reason,
                **entry,
            },
        )
        try:
            said.tool_calls = parse_tool_calls(completion, "assistant")
        except ValueError:
            turn.malformed = "unparsable_tool_call"
            raise AgentFailure(turn.malformed, said) from None
        turn.malformed = self.malformed(said, choice.finish_reason)
        if not self.accepts(said):
            raise AgentFailure(turn.malformed or "empty", said)
        self.history.append(entry)  # thinking included: the chat template knows what to keep
        self.next_message = said

    def malformed(self, said: AssistantMessage, finish_reason: str | None) -> str | None:
        """What is wrong with the format of an answer, None if nothing is."""
        if said.tool_calls:
            if not {call.name for call in said.tool_calls} <= {tool.name for tool in self.tools}:
                return "unknown_tool"
            return "text_with_tool_call" if said.has_text_content() else None
        # sglang's parser, in AReaL's proxy, leaves out the calls that it cannot read
        if finish_reason == "tool_calls" or "<tool_call>" in (said.content or ""):
            return "unparsable_tool_call"
        return "empty" if is_empty(said) else None

    def accepts(self, said: AssistantMessage) -> bool:
        """Whether tau2 goes on after this answer."""
        return not is_empty(said)


class ConversationAgent(_Agent, LLMAgent):
    """tau2's `LLMAgent` with a message prepared by `think`."""

    tool_choice = "auto"


class SoloAgent(_Agent, LLMSoloAgent):
    """tau2's `LLMSoloAgent` with a message prepared by `think`."""

    tool_choice = "required"

    def malformed(self, said: AssistantMessage, finish_reason: str | None) -> str | None:
        return super().malformed(said, finish_reason) or (
            None if said.tool_calls else "text_in_solo_mode"
        )

    def accepts(self, said: AssistantMessage) -> bool:
        if not said.tool_calls:
            return False
        self._check_if_stop_toolcall(said)
        return not (
            said.tool_calls and self.is_stop(said)
        )  # tau2 raises when it has to stop on a tool call


class User(UserSimulator):
    """tau2's `UserSimulator` with a message prepared by `think`."""

    @property
    def global_simulation_guidelines(self) -> str:
        return _guidelines(self.tools is not None)

    def connect(self, call: CallLLM, schemas: list[dict] | None) -> None:
        self.call = call
        self.schemas = schemas
        self.history: list[dict] = [{"role": "system", "content": self.system_prompt}]
        self.next_message: UserMessage | None = None
        self.prompt_tokens = self.completion_tokens = 0
        self.seconds = 0.0
        self.lost_seconds = 0.0  # on failed calls, and on waiting after them
        self.last_error: Exception | None = None
        self.is_thinking = False

    def get_init_state(self, message_history: list[Message] | None = None) -> None:
        for message in message_history or []:
            self.history += to_openai(message, speaker="user")

    def _generate_next_message(self, message: Message, state: None) -> tuple[UserMessage, None]:
        return self.next_message, state

    async def think(self, message: Message) -> None:
        """Have the LLM answer `message`, however often it takes; the episode's deadline cancels this.

        Raises:
            UserSimulatorError: the server refuses for a reason that waiting does not mend.
        """
        self.history += to_openai(message, speaker="user")
        start = time.perf_counter()
        self.is_thinking = True
        await self._answer()
        self.is_thinking = False
        self.seconds += time.perf_counter() - start
        user_outage.recovered()
        said = self.next_message
        self.history += to_openai(said, speaker="user")

    async def _answer(self) -> None:
        attempt, sampling = 0, {}
        while True:
            start = time.perf_counter()
            try:
                self.next_message = self.read(
                    await self.call(self.history, self.schemas, "auto", **sampling)
                )
                return
            except Exception as error:
                if not is_transient(error):
                    raise UserSimulatorError(describe_error(error)) from error
                self.last_error = error
                user_outage.failed(error)
                if isinstance(error, UnusableAnswer):
                    sampling = {
                        "temperature": 1.0
                    }  # at temperature 0 the same answer would come again
            await asyncio.sleep(
                min(MAX_BACKOFF, 0.25 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
            )
            self.lost_seconds += time.perf_counter() - start
            attempt += 1

    def read(self, completion) -> UserMessage:
        """The user's message of a completion.

        Raises:
            UnusableAnswer: it is no completion, empty, thinking only, or has a tool call that does not parse.
        """
        try:
            calls = parse_tool_calls(completion, "user")
            content = strip_thinking(to_utf8(completion.choices[0].message.content))
            usage = token_usage(completion)
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise UnusableAnswer(describe_error(error)) from error
        self.prompt_tokens += usage["prompt_tokens"]
        self.completion_tokens += usage["completion_tokens"]
        said = UserMessage(
            role="user",
            content=content,
            tool_calls=calls,
            cost=response_cost(completion),
            usage=usage,
        )
        if is_empty(said):
            raise UnusableAnswer("empty, or thinking only")
        return said


_guidelines = cache(get_global_user_sim_guidelines)  # tau2 reads the file for each episode


class AsyncOrchestrator(Orchestrator):
    """tau2's `Orchestrator` with an asynchronous `run`, called `converse`.

    After it, or after its cancellation at the episode's deadline, `failure` says why the episode ended early (None if
    tau2's own rules ended it), and `simulation_run` what happened.
    """

    agent: ConversationAgent | SoloAgent
    user: User | DummyUser

    def __init__(
        self,
        config: Tau2EnvConfig,
        task: Task,
        agent_llm: CallLLM,
        user_llm: CallLLM | None,
        db_path: str | None = None,
    ):
        kind = (config.domain, config.solo_mode, config.add_thinking_tool)
        env = environment.make_environment(*kind, db_path)
        tools, policy = list(environment.agent_tools(*kind)), env.get_policy()
        if config.solo_mode:
            agent, user = SoloAgent(tools, policy, task), DummyUser()
        else:
            agent = ConversationAgent(tools, policy)
            user = User(environment.user_tools(config.domain), str(task.user_scenario))
            user.connect(user_llm, environment.user_schemas(config.domain))
        agent.connect(agent_llm, environment.agent_schemas(*kind))
        super().__init__(
            domain=config.domain,
            agent=agent,
            user=user,
            environment=env,
            task=task,
            max_steps=config.max_steps,
            solo_mode=config.solo_mode,
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
            has_history = (
                self.task.initial_state is not None and self.task.initial_state.message_history
            )
            if self.solo_mode and not has_history:
                await self.agent.think(None)
            self.initialize()
            while not self.done:
                if self.to_role == Role.AGENT:
                    await self.agent.think(self.message)
                elif self.to_role == Role.USER:
                    await self.user.think(self.message)
                self.step()
                if self.to_role != Role.ENV:
                    self._check_limits()
        except AgentFailure as failure:
            self.fail(failure.cause, failure.message)

    def _check_limits(self) -> None:
        if self.step_count >= self.max_steps:
            self.done, self.termination_reason = True, TerminationReason.MAX_STEPS
        if self.num_errors >= self.max_errors:
            self.done, self.termination_reason = True, TerminationReason.TOO_MANY_ERRORS

    def fail(self, cause: str, message: AssistantMessage | None = None) -> None:
        """End the episode by the agent's fault."""
        self.done, self.termination_reason, self.failure = (
            True,
            TerminationReason.AGENT_ERROR,
            cause,
        )
        if message is not None:
            self.trajectory.append(message)

    def simulation_run(self) -> SimulationRun:
        """tau2's record of the episode, without a reward."""
        for index, message in enumerate(self.trajectory):
            message.turn_idx = index
        costs = get_cost(self.trajectory)
        return SimulationRun(
            id=str(uuid.uuid4()),
            task_id=self.task.id,
            start_time=self.start_time,
            end_time=get_now(),
            duration=time.perf_counter() - self.start,
            termination_reason=self.termination_reason,
            agent_cost=costs and costs[0],
            user_cost=costs and costs[1],
            messages=self.trajectory,
        )
