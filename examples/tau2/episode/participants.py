"""The agent and the user of a conversation: tau2's own classes, whose LLMs are asynchronous.

tau2 asks a participant for its next message synchronously. Here `think` has awaited that message
before. A participant keeps its history as OpenAI messages, which are only ever appended to.
"""

import asyncio
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import openai
from openai.types.chat import ChatCompletion
from tau2.agent.llm_agent import LLMAgent, LLMSoloAgent
from tau2.data_model.message import AssistantMessage, Message, UserMessage
from tau2.environment.tool import Tool
from tau2.user.user_simulator import UserSimulator, get_global_user_sim_guidelines

from examples.tau2.episode.completions import (
    assistant_entry,
    completion_cost,
    function_calls,
    strip_thinking,
    to_utf8,
    token_usage,
)
from examples.tau2.episode.failures import (
    ContextWindowExceeded,
    EmptyCompletion,
    UnusableAnswer,
    UserSimulatorError,
    agent_failure,
    describe_error,
    is_busy,
)
from examples.tau2.episode.llm import CallLLM
from examples.tau2.episode.messages import (
    UnparsableToolCall,
    is_empty,
    parse_tool_calls,
    to_openai,
)
from examples.tau2.episode.outage import user_outage
from examples.tau2.episode.retries import MAX_UNUSABLE_ANSWERS, Retries, backoff

# how often a call of the agent's LLM is repeated
MAX_REPEATS = 10
# what the last message of the user's history ends with at the last call after unusable answers; it
# is not kept
NUDGE = (
    "(Instruction, not part of the conversation: your last answers were empty or could not be "
    "read. Answer now with what you, the customer, say next, in plain text. "
    "If you have nothing left to say, answer ###STOP###.)"
)


@dataclass
class AgentTurn:
    """One completion of the agent.

    `malformed` names what is wrong with its format; None if nothing is.
    """

    completion_id: str
    malformed: str | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class AgentFailure(Exception):
    """The agent's turn ends the episode, as tau2's `agent_error`.

    `message` is what the agent said; None if it said nothing.
    """

    def __init__(self, cause: str, message: AssistantMessage | None = None):
        super().__init__(cause)
        self.cause = cause
        self.message = message


class AsyncAgent:
    """A mixin for tau2's agents: `think` awaits the next message, and records the turn."""

    # an attribute of tau2's agents
    tools: list[Tool]
    # the `tool_choice` of tau2's requests for this agent
    tool_choice: str

    def connect(self, call: CallLLM, schemas: list[dict], system_prompt: str) -> None:
        """Give the agent its LLM, the schemas of its tools, and a new history."""
        self.call = call
        self.schemas = schemas
        self.history: list[dict] = [{"role": "system", "content": system_prompt}]
        self.turns: list[AgentTurn] = []
        self.next_message: AssistantMessage | None = None
        self.repeat_calls = False
        self.lost_seconds = 0.0
        self.last_error: Exception | None = None

    def get_init_state(self, message_history: list[Message] | None = None) -> Any:
        for message in message_history or []:
            self.history += to_openai(message)

    def generate_next_message(self, message: Any, state: Any) -> tuple[AssistantMessage, Any]:
        if self.next_message is None:
            raise RuntimeError("the agent has no message: `think` must come first")
        return self.next_message, state

    async def think(self, message: Message | None) -> None:
        """Have the LLM answer `message`; None opens an episode in solo mode.

        Raises:
            AgentFailure: tau2 does not accept the answer, or there is none.
        """
        if message is not None:
            self.history += to_openai(message)
        start, lost_before = time.perf_counter(), self.lost_seconds
        try:
            completion = await self._complete()
        except ContextWindowExceeded as error:
            raise AgentFailure("context_window_exceeded") from error
        except EmptyCompletion as error:
            raise AgentFailure("empty") from error
        choice, usage = completion.choices[0], token_usage(completion)
        turn = AgentTurn(
            completion_id=completion.id,
            malformed=None,
            finish_reason=choice.finish_reason,
            seconds=time.perf_counter() - start - (self.lost_seconds - lost_before),
            **usage,
        )
        self.turns.append(turn)
        entry = _history_entry(completion)
        raw = {"completion_id": completion.id, "finish_reason": choice.finish_reason, **entry}
        if choice.message.refusal:
            raw["refusal"] = choice.message.refusal
        said = AssistantMessage(
            role="assistant",
            content=strip_thinking(entry["content"]),
            cost=completion_cost(completion),
            usage=usage,
            raw_data=raw,
        )
        try:
            said.tool_calls = parse_tool_calls(completion, "assistant")
        except UnparsableToolCall:
            turn.malformed = "unparsable_tool_call"
            raise AgentFailure(turn.malformed, said) from None
        turn.malformed = self.malformed(said, choice.finish_reason)
        if not self.accepts(said):
            raise AgentFailure(turn.malformed or "empty", said)
        # the entry includes the thinking: the chat template knows what to keep of it
        self.history.append(entry)
        self.next_message = said

    async def _complete(self) -> ChatCompletion:
        """Call the LLM; repeat the call while its server is busy, if that is allowed.

        Raises:
            ContextWindowExceeded, EmptyCompletion: the agent's own failure.
            ConversationRefused, openai.OpenAIError, ...: the server's failure.
        """
        repeats = 0
        while True:
            start = time.perf_counter()
            try:
                return await self.call(self.history, self.schemas, self.tool_choice)
            except openai.APIStatusError as error:
                failure = agent_failure(error, is_answered=bool(self.turns))
                if failure is not None:
                    raise failure from error
                if not (self.repeat_calls and is_busy(error) and repeats < MAX_REPEATS):
                    raise
                self.last_error = error
                seconds = backoff(repeats, error)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.lost_seconds += time.perf_counter() - start
            repeats += 1

    def malformed(self, said: AssistantMessage, finish_reason: str | None) -> str | None:
        """Name what is wrong with the format of an answer; None if nothing is."""
        if said.tool_calls:
            called = {call.name for call in said.tool_calls}
            offered = {tool.name for tool in self.tools}
            if not called <= offered:
                return "unknown_tool"
            return "text_with_tool_call" if said.has_text_content() else None
        # SGLang's parser, which AReaL's proxy uses, leaves out the calls that it cannot read
        if finish_reason == "tool_calls" or "<tool_call>" in (said.content or ""):
            return "unparsable_tool_call"
        return "empty" if is_empty(said) else None

    def accepts(self, said: AssistantMessage) -> bool:
        """Whether tau2 goes on after this answer."""
        return not is_empty(said)


class ConversationAgent(AsyncAgent, LLMAgent):
    """tau2's `LLMAgent` with an asynchronous LLM."""

    tool_choice = "auto"


class SoloAgent(AsyncAgent, LLMSoloAgent):
    """tau2's `LLMSoloAgent` with an asynchronous LLM."""

    tool_choice = "required"

    def add_stop_tool(self) -> None:
        """Add nothing: `done` is among the tools already."""

    def malformed(self, said: AssistantMessage, finish_reason: str | None) -> str | None:
        fault = super().malformed(said, finish_reason)
        if fault is None and not said.tool_calls:
            return "text_in_solo_mode"
        return fault

    def accepts(self, said: AssistantMessage) -> bool:
        if not said.tool_calls:
            return False
        self._check_if_stop_toolcall(said)
        # tau2 raises if a message with tool calls has the stop token in its text
        return not (said.tool_calls and self.is_stop(said))


class User(UserSimulator):
    """tau2's `UserSimulator` with an asynchronous LLM.

    `prompt_tokens`, `completion_tokens`, `usd` and `seconds` are sums over the calls of its LLM.
    Unusable answers are paid for, too. `lost_seconds` went into failed calls and the waits after
    them. `is_thinking` tells whether the user was to speak when the episode ended.
    """

    @property
    def global_simulation_guidelines(self) -> str:
        return _guidelines(self.tools is not None)

    def connect(self, call: CallLLM, schemas: list[dict] | None) -> None:
        """Give the user its LLM, the schemas of its tools if it has any, and a new history."""
        self.call = call
        self.schemas = schemas
        self.history: list[dict] = [{"role": "system", "content": self.system_prompt}]
        self.next_message: UserMessage | None = None
        self.prompt_tokens = self.completion_tokens = 0
        self.usd = 0.0
        self.seconds = 0.0
        self.lost_seconds = 0.0
        self.last_error: Exception | None = None
        self.is_thinking = False

    def get_init_state(self, message_history: list[Message] | None = None) -> Any:
        for message in message_history or []:
            self.history += to_openai(message, speaker="user")

    def generate_next_message(self, message: Any, state: Any) -> tuple[UserMessage, Any]:
        if self.next_message is None:
            raise RuntimeError("the user has no message: `think` must come first")
        return self.next_message, state

    async def think(self, message: Message) -> None:
        """Have the LLM answer `message`, and call it again until it does.

        While its server fails, only the episode's deadline limits the number of calls: it cancels
        this method. After three unusable answers the LLM gets `NUDGE`, once.

        Raises:
            UserSimulatorError: the server refuses for a reason that does not pass, or the LLM gives
                no usable answer.
        """
        self.history += to_openai(message, speaker="user")
        start = time.perf_counter()
        self.is_thinking = True
        said = await self._answer()
        self.is_thinking = False
        self.seconds += time.perf_counter() - start
        user_outage.recovered()
        self.history += to_openai(said, speaker="user")
        self.next_message = said

    async def _answer(self) -> UserMessage:
        retries = Retries(user_outage)
        history = self.history
        while True:
            start = time.perf_counter()
            try:
                completion = await self.call(history, self.schemas, "auto", **retries.sampling)
                return self._to_message(completion)
            except Exception as error:
                if not retries.allowed_after(error):
                    raise UserSimulatorError(describe_error(error)) from error
                self.last_error = error
            if retries.unusable == MAX_UNUSABLE_ANSWERS:
                history = _with_nudge(self.history)
            try:
                await retries.pause()
            finally:
                self.lost_seconds += time.perf_counter() - start

    def _to_message(self, completion: ChatCompletion) -> UserMessage:
        """Convert a completion to the user's message, and count its tokens and USD.

        Raises:
            UnusableAnswer: the answer is empty or a refusal, has thinking only, or has a tool call
                that does not parse.
        """
        message, usage = completion.choices[0].message, token_usage(completion)
        cost = completion_cost(completion)
        self.prompt_tokens += usage["prompt_tokens"]
        self.completion_tokens += usage["completion_tokens"]
        self.usd += cost
        if message.refusal:
            raise UnusableAnswer(f"the model refuses: {message.refusal}")
        try:
            calls = parse_tool_calls(completion, "user")
        except UnparsableToolCall as error:
            raise UnusableAnswer(describe_error(error)) from error
        content = to_utf8(message.content)
        said = UserMessage(
            role="user",
            content=strip_thinking(content),
            tool_calls=calls,
            cost=cost,
            usage=usage,
        )
        if said.content != content:
            said.raw_data = {"content": content}
        if is_empty(said):
            raise UnusableAnswer("the answer is empty, or has thoughts only")
        return said


def _history_entry(completion: ChatCompletion) -> dict[str, Any]:
    calls = [
        (call_id, to_utf8(name), to_utf8(arguments))
        for call_id, name, arguments in function_calls(completion)
    ]
    return assistant_entry(to_utf8(completion.choices[0].message.content), calls)


def _with_nudge(history: list[dict]) -> list[dict]:
    """Add `NUDGE` to the last message of a history: some servers want roles to alternate."""
    last = history[-1]
    return [*history[:-1], {**last, "content": f"{last['content']}\n\n{NUDGE}"}]


@cache
def _guidelines(has_tools: bool) -> str:
    """Read tau2's guidelines for its user simulator, once; tau2 reads them for each episode."""
    return get_global_user_sim_guidelines(has_tools)
