"""Plays the trials of an evaluation that are still missing."""

import asyncio
import os
import re
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, TypeGuard

import openai
from openai.types.chat import ChatCompletion
from tau2.metrics.agent_metrics import is_successful
from tqdm import tqdm

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.failures import (
    EmptyCompletion,
    agent_failure,
    describe_error,
    exceeds_context_window,
    is_refusal,
)
from examples.tau2.episode.llm import (
    CallLLM,
    probe,
    probe_user,
    provider_llm,
    served_llm,
    shared_client,
)
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.evaluation.settings import (
    SAMPLING_OPTIONS,
    EvaluationSettings,
    TrialKey,
    key_variable,
)
from examples.tau2.evaluation.store import TrialStore

# an evaluation stops when so many trials in a row have failed for the same reason
MAX_EQUAL_FAILURES = 5


async def play_missing(
    settings: EvaluationSettings, store: TrialStore, concurrency: int, attempts: int
) -> dict[TrialKey, str]:
    """Play the trials that the store does not have, and say why some are still missing.

    `concurrency` trials are played at a time, each up to `attempts` times. After
    `MAX_EQUAL_FAILURES` trials in a row that failed for the same reason, no other is begun.

    Raises:
        ConnectionError: the model, the user simulator or the judge does not answer at all.
    """
    keys = settings.trial_keys()
    missing = [key for key in keys if key not in store.trials]
    if not missing:
        return {}
    datasets = [(path, {}) for path in settings.datasets]
    # the user simulator's seed differs by trial
    workflows = [
        Tau2AgentWorkflow(asdict(settings.trial_econfig(n)), datasets=datasets, trains=False)
        for n in range(settings.num_trials)
    ]
    llms = await _answering_models(settings)
    await _check_user_and_judge(settings, workflows[0])
    # all workers take their trials from one queue
    queue = iter(missing)
    failures: dict[TrialKey, str] = {}
    equal_failures: list[str] = []
    solved = sum(is_successful(trial.reward) for trial in store.trials.values())

    async def work() -> None:
        nonlocal solved
        for key in queue:
            if len(equal_failures) >= MAX_EQUAL_FAILURES:
                failures[key] = f"not played, after {len(equal_failures)} equal failures in a row"
                continue
            try:
                workflow, llm = workflows[key.number], llms[key.number]
                info = await _play(workflow, llm, settings.rows[key.task_id], attempts)
            except Exception as error:
                rejected = isinstance(error, EpisodeRejected)
                failures[key] = str(error) if rejected else describe_error(error)
                reason = _without_numbers(failures[key])
                if reason not in equal_failures:
                    equal_failures.clear()
                equal_failures.append(reason)
            else:
                equal_failures.clear()
                store.add(key.number, info)
                solved += is_successful(info.reward)
                progress.update()
            share = solved / max(1, len(store.trials))
            progress.set_postfix(solved=f"{share:.0%}", failed=len(failures))

    with tqdm(total=len(keys), initial=len(keys) - len(missing), unit="episode") as progress:
        await asyncio.gather(*(work() for _ in range(concurrency)))
    return failures


async def _play(
    workflow: Tau2AgentWorkflow, llm: CallLLM, row: dict[str, Any], attempts: int
) -> Tau2RunInfo:
    """Play an episode, in up to `attempts` tries; raise the failure of the last one.

    The wait after a failure doubles each time, from a second. An episode whose server refuses all
    calls gets no other try.
    """
    for attempt in range(attempts - 1):
        try:
            return await workflow.play_with(llm, row)
        except Exception as error:
            if is_refusal(error):
                raise
            await asyncio.sleep(2**attempt)
    return await workflow.play_with(llm, row)


async def _answering_models(settings: EvaluationSettings) -> list[CallLLM]:
    """Make the evaluated LLM of each trial, and have the first one answer, as in an episode.

    A server that does not know `max_completion_tokens` gets `max_tokens`, its older name.

    Raises:
        ConnectionError: the LLM does not answer.
    """
    arguments = [settings.trial_sampling(number) for number in range(settings.num_trials)]
    try:
        try:
            return await _probed_models(settings, arguments)
        except openai.APIStatusError as error:
            if not _refuses_argument(error, "max_completion_tokens"):
                raise
        return await _probed_models(settings, [_older_limit(each) for each in arguments])
    except Exception as error:
        hint = _hint(error, "llm-args", arguments[0], key_variable(settings.base_url))
        raise ConnectionError(
            f"the model does not answer: {describe_error(error)}{hint}"
        ) from error


def _older_limit(arguments: dict[str, Any]) -> dict[str, Any]:
    limit = arguments["max_completion_tokens"]
    return {**arguments, "max_completion_tokens": None, "max_tokens": limit}


async def _probed_models(
    settings: EvaluationSettings, arguments: list[dict[str, Any]]
) -> list[CallLLM]:
    llms = [await _model_llm(settings, each) for each in arguments]
    config = settings.econfig
    tools = environment.agent_schemas(
        settings.domains[0], config.solo_mode, config.add_thinking_tool
    )
    try:
        await probe(llms[0], tools, "required" if config.solo_mode else "auto")
    except openai.APIStatusError as error:
        # a weak model may have nothing to say
        if not isinstance(agent_failure(error), EmptyCompletion):
            raise
    return llms


async def _check_user_and_judge(settings: EvaluationSettings, workflow: Tau2AgentWorkflow) -> None:
    """Have the user simulator's LLM answer once, and the judge's, as far as they are needed.

    Raises:
        ConnectionError: one of them does not answer.
    """
    config = workflow.econfig
    if workflow.user_llm is not None:
        asked = probe_user(workflow.user_llm, environment.user_schemas(settings.domains[0]))
        arguments, variable = config.user_llm_args or {}, "TAU2_USER_LLM_API_KEY"
        await _require_answer("user simulator", asked, "user-llm-args", arguments, variable)
    if workflow.judge is not None and settings.tasks_to_judge():
        asked = workflow.judge.probe()
        arguments, variable = config.judge_llm_args or {}, "TAU2_JUDGE_LLM_API_KEY"
        await _require_answer("judge", asked, "judge-llm-args", arguments, variable)


async def _require_answer(
    role: str, asked: Awaitable[object], option: str, arguments: dict[str, Any], variable: str
) -> None:
    """Await the first answer of an LLM.

    `option` has the arguments of its calls, and the environment's `variable` has its key.

    Raises:
        ConnectionError: the LLM does not answer.
    """
    try:
        await asked
    except Exception as error:
        hint = _hint(error, option, arguments, variable)
        raise ConnectionError(
            f"the {role} does not answer: {describe_error(error)}{hint}"
        ) from error


async def _model_llm(settings: EvaluationSettings, arguments: dict[str, Any]) -> CallLLM:
    """Make the evaluated LLM, of an OpenAI-compatible server or of a provider of litellm's."""
    if settings.base_url is not None:
        key = os.environ.get("OPENAI_API_KEY") or "EMPTY"
        client = await shared_client(settings.base_url, key)
        call = served_llm(client, settings.model, arguments)
    elif settings.model is not None:
        call = provider_llm(settings.model, arguments)
    else:
        raise ValueError("an evaluation needs a model or the URL of its server")

    async def call_model(
        messages: list[dict], tools: list[dict] | None, tool_choice: str | None
    ) -> ChatCompletion:
        return await call(messages, tools, settings.tool_choice or tool_choice)

    return call_model


def _refuses_request(error: Exception) -> TypeGuard[openai.APIStatusError]:
    """Whether a server refuses what a call holds, and not because it is too long."""
    return (
        isinstance(error, openai.APIStatusError)
        and error.status_code in (400, 422)
        and not exceeds_context_window(error)
    )


def _refuses_argument(error: Exception, name: str) -> bool:
    """Whether a server refuses a call because of this argument."""
    return _refuses_request(error) and name in error.message


def _hint(error: Exception, option: str, arguments: dict[str, Any], variable: str) -> str:
    """Say how to change the argument, or the key, that a server refuses."""
    hints = []
    if isinstance(error, openai.APIStatusError) and error.status_code in (401, 403):
        hints.append(f"set the server's key in the environment: {variable}")
    for name in arguments:
        if _refuses_argument(error, name):
            own_option = f"--{name.replace('_', '-')}, or leave it out with "
            is_model = option == "llm-args" and name in SAMPLING_OPTIONS
            change = f"change {name} with {own_option if is_model else ''}"
            hints.append(f"{change}--{option} '{{\"{name}\": null}}'")
    if _refuses_request(error) and "tool" in error.message and "choice" in error.message:
        hints.append("--tool-choice auto leaves it to the model whether to call a tool")
    if not hints and _refuses_request(error):
        hints.append(f"--{option} adds, changes or removes arguments of its calls")
    return "".join(f"; {hint}" for hint in hints)


def _without_numbers(text: str) -> str:
    """Leave out what differs between equal failures: ids of requests, ports, times."""
    return re.sub(r"[0-9a-f-]{8,}|\d+", "", text)
