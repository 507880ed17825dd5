"""The judge: an LLM that says whether the agent meets a task's assertions (`NL_ASSERTION`).

tau2's own function writes the prompt and reads the answer, but it waits for the LLM between the
two. Here the function runs twice, with another `generate` than tau2's: first to learn the request,
then, after the LLM was awaited, to read the answer.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import FunctionType
from typing import Any

from openai.types.chat import ChatCompletion
from tau2.config import DEFAULT_LLM_NL_ASSERTIONS_ARGS
from tau2.data_model.message import AssistantMessage, Message, SystemMessage, UserMessage
from tau2.data_model.simulation import NLAssertionCheck, SimulationRun, TerminationReason
from tau2.data_model.tasks import RewardType, Task
from tau2.evaluator.evaluator_nl_assertions import NLAssertionsEvaluator

from examples.tau2.episode.completions import completion_cost, strip_thinking, token_usage
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.episode.failures import JudgeError, UnusableAnswer, describe_error
from examples.tau2.episode.llm import PROBE_TIMEOUT, CallLLM, configured_llm
from examples.tau2.episode.outage import judge_outage
from examples.tau2.episode.retries import Retries

NO_JUDGE = (
    "it has assertions (NL_ASSERTION) that an LLM must judge: name one by econfig.judge_llm, or "
    "leave the task out by its id (exclude)"
)
# the judge keeps its verdicts on so many conversations
MAX_KEPT = 10_000
# the ends of an episode after which tau2 has it judged; after any other, the reward is 0
_JUDGED_ENDS = (TerminationReason.AGENT_STOP, TerminationReason.USER_STOP)


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on an episode, and what they cost.

    The costs are those of all calls, also of calls with an unusable answer. They are 0 where
    another episode has asked for the same verdicts.
    """

    checks: list[NLAssertionCheck]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0


class Judge:
    """Judges assertions on conversations; equal ones on equal conversations are judged once.

    Args:
        call: the judge's LLM.
        timeout: seconds that the LLM has for its verdicts on a conversation.
    """

    def __init__(self, call: CallLLM, timeout: float):
        self.call = call
        self.timeout = timeout
        self._asked: dict[bytes, asyncio.Task[Verdicts]] = {}

    async def judge(self, conversation: Sequence[Message], assertions: list[str]) -> Verdicts:
        """Return the LLM's verdicts.

        The LLM is called again while its server fails. After an unusable answer, it is called
        again at temperature 1 without a seed: otherwise the same answer would come.

        Raises:
            JudgeError: the time is up, the server refuses for a reason that does not pass, or
                several answers are unusable.
        """
        case = _Case(conversation, assertions)
        key = hashlib.sha256(json.dumps(case.request).encode()).digest()
        known = self._asked.get(key)
        # a task of another event loop cannot be awaited before it is done
        if known and (known.done() or known.get_loop() is asyncio.get_running_loop()):
            verdicts = await asyncio.shield(known)
            return Verdicts(verdicts.checks)
        asked = asyncio.create_task(self._ask(case))
        asked.add_done_callback(partial(self._forget_failure, key))
        self._asked[key] = asked
        if len(self._asked) > MAX_KEPT:
            del self._asked[next(iter(self._asked))]
        # another episode may wait for the same verdicts when this one is cancelled
        return await asyncio.shield(asked)

    async def probe(self) -> None:
        """Have the LLM judge a conversation of one message, once.

        Raises:
            TimeoutError, openai.OpenAIError, UnusableAnswer, ...: what keeps it from judging.
        """
        case = _Case(
            [AssistantMessage(role="assistant", content="Hello, how can I help you?")],
            ["The agent greets the customer."],
        )
        try:
            await asyncio.wait_for(case.ask(self.call), PROBE_TIMEOUT)
        except TimeoutError:
            raise TimeoutError(f"no answer in {PROBE_TIMEOUT:g} s") from None

    async def _ask(self, case: "_Case") -> Verdicts:
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                checks = await case.ask_until_answered(self.call)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            last_error = case.retries.last_error
            cause = describe_error(last_error) if last_error else "it was slow"
            raise JudgeError(f"no verdicts within {self.timeout:g} s ({cause})") from error
        usage = [token_usage(answer) for answer in case.answers]
        return Verdicts(
            checks,
            sum(used["prompt_tokens"] for used in usage),
            sum(used["completion_tokens"] for used in usage),
            sum(completion_cost(answer) for answer in case.answers),
        )

    def _forget_failure(self, key: bytes, asked: asyncio.Task[Verdicts]) -> None:
        if (asked.cancelled() or asked.exception()) and self._asked.get(key) is asked:
            del self._asked[key]


class _Case:
    """A conversation that is judged: its request, and the answers and retries so far."""

    def __init__(self, conversation: Sequence[Message], assertions: list[str]):
        self.conversation = conversation
        self.assertions = assertions
        self.request = judge_request(conversation, assertions)
        self.answers: list[ChatCompletion] = []
        self.retries = Retries(judge_outage)

    async def ask_until_answered(self, call: CallLLM) -> list[NLAssertionCheck]:
        while True:
            try:
                checks = await self.ask(call, **self.retries.sampling)
                judge_outage.recovered()
                return checks
            except Exception as error:
                if not self.retries.allowed_after(error):
                    raise JudgeError(describe_error(error)) from error
            await self.retries.pause()

    async def ask(self, call: CallLLM, **sampling: Any) -> list[NLAssertionCheck]:
        answer = await call(self.request, None, None, **sampling)
        self.answers.append(answer)
        return read_verdicts(answer, self.conversation, self.assertions)


def judge_request(conversation: Sequence[Message], assertions: list[str]) -> list[dict[str, Any]]:
    """Write tau2's request to its judge, as OpenAI messages."""
    request: list[dict[str, Any]] = []

    def generate(*, messages: list[SystemMessage | UserMessage], **_: Any) -> AssistantMessage:
        request.extend({"role": message.role, "content": message.content} for message in messages)
        return AssistantMessage(role="assistant", content="{}")

    _evaluate(generate, conversation, assertions)
    return request


def read_verdicts(
    answer: ChatCompletion, conversation: Sequence[Message], assertions: list[str]
) -> list[NLAssertionCheck]:
    """Read the judge's answer as tau2 does; there may be more verdicts than assertions.

    tau2 takes an assertion without a verdict for met. Here such an answer is unusable.

    Raises:
        UnusableAnswer: tau2 cannot read the answer, or verdicts are missing.
    """
    content = answer.choices[0].message.content or ""
    # a JSON object may quote the tags of thoughts
    if not content.lstrip().startswith("{"):
        content = strip_thinking(content)
    said = AssistantMessage(role="assistant", content=content)
    try:
        checks = _evaluate(lambda **_: said, conversation, assertions)
    except Exception as error:
        # tau2 checks nothing: each part of the JSON may be missing or of any type
        raise UnusableAnswer(f"no verdicts can be read in {said.content!r:.100}") from error
    if len(checks) < len(assertions):
        raise UnusableAnswer(f"{len(checks)} verdicts on {len(assertions)} assertions")
    return checks


def needs_judge(task: Task) -> bool:
    """Whether an LLM must judge assertions of the task on the conversation.

    A task without assertions needs no judge: by tau2's own rule they are all met.
    """
    return bool(_judged_assertions(task))


def assertions_to_judge(simulation: SimulationRun, task: Task) -> list[str]:
    """List the assertions that an LLM must judge on an episode; none if it ended early."""
    return _judged_assertions(task) if simulation.termination_reason in _JUDGED_ENDS else []


def _judged_assertions(task: Task) -> list[str]:
    criteria = task.evaluation_criteria
    if criteria is None or RewardType.NL_ASSERTION not in criteria.reward_basis:
        return []
    return criteria.nl_assertions or []


def make_judge(config: Tau2EnvConfig) -> Judge | None:
    """Return the judge of a config; None if it names none.

    Its key is `api_key` of `judge_llm_args`, or `TAU2_JUDGE_LLM_API_KEY` of the environment. Equal
    configs have the same judge, so that equal episodes are judged once.
    """
    if not config.names_judge:
        return None
    args = json.dumps({**DEFAULT_LLM_NL_ASSERTIONS_ARGS, **(config.judge_llm_args or {})})
    return _shared_judge(
        config.judge_llm,
        config.judge_llm_base_url,
        args,
        os.environ.get("TAU2_JUDGE_LLM_API_KEY"),
        config.timeout,
    )


@cache
def _shared_judge(
    model: str | None, base_url: str | None, args: str, key: str | None, timeout: float
) -> Judge:
    call = configured_llm(model, base_url, {"api_key": key, **json.loads(args)})
    return Judge(call, timeout)


def _evaluate(
    generate: Callable[..., AssistantMessage],
    conversation: Sequence[Message],
    assertions: list[str],
) -> list[NLAssertionCheck]:
    """Run tau2's function that judges, with this `generate` for tau2's."""
    function = NLAssertionsEvaluator.evaluate_nl_assertions.__func__
    run = FunctionType(function.__code__, {**function.__globals__, "generate": generate})
    return run(NLAssertionsEvaluator, conversation, assertions)
