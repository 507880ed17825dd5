"""Plays the trials of an evaluation that are still missing."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from openai.types.chat import ChatCompletion
from tau2.metrics.agent_metrics import is_successful
from tqdm import tqdm

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode.llm import (
    CallLLM,
    agent_llm,
    describe_error,
    probe,
    provider_llm,
    shared_client,
    with_agent_failures,
)
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.evaluation.settings import EvaluationSettings, TrialKey
from examples.tau2.evaluation.store import Trial, TrialStore


async def play_missing(
    settings: EvaluationSettings, store: TrialStore, concurrency: int, attempts: int
) -> dict[TrialKey, str]:
    """Play the trials that the store does not have, and say why some are still missing.

    `concurrency` trials are played at a time, each up to `attempts` times.

    Raises:
        ConnectionError: the model or the user simulator does not answer at all.
    """
    datasets = [(path, {}) for path in settings.datasets]
    model = settings.model or "default"
    workflow = Tau2AgentWorkflow(asdict(settings.econfig), model=model, datasets=datasets)
    llm = await _model_llm(settings)
    keys = settings.trial_keys()
    missing = [key for key in keys if key not in store.trials]
    if missing:
        await _check_answer(llm, "model")
        if workflow.user_llm is not None:
            await _check_answer(workflow.user_llm, "user simulator")
    # all workers take their trials from one queue
    queue = iter(missing)
    failures: dict[TrialKey, str] = {}

    async def work() -> None:
        for key in queue:
            try:
                info = await _play(workflow, llm, settings.rows[key.task_id], attempts)
            except Exception as error:
                rejected = isinstance(error, EpisodeRejected)
                failures[key] = str(error) if rejected else describe_error(error)
            else:
                store.add(Trial(key.number, info))
                progress.update()
            solved = _solved_share(store.trials.values())
            progress.set_postfix(solved=f"{solved:.0%}", failed=len(failures))

    with tqdm(total=len(keys), initial=len(keys) - len(missing), unit="episode") as progress:
        await asyncio.gather(*(work() for _ in range(concurrency)))
    return failures


async def _play(
    workflow: Tau2AgentWorkflow, llm: CallLLM, row: dict[str, Any], attempts: int
) -> Tau2RunInfo:
    """Play an episode, in up to `attempts` tries; raise the failure of the last one.

    The wait after a failure doubles each time, from a second.
    """
    for attempt in range(attempts - 1):
        try:
            return await workflow.play_with(llm, row)
        except Exception:
            await asyncio.sleep(2**attempt)
    return await workflow.play_with(llm, row)


async def _model_llm(settings: EvaluationSettings) -> CallLLM:
    """Make the evaluated LLM, of an OpenAI-compatible server or of a provider of litellm's."""
    if settings.base_url is not None:
        key = os.environ.get("OPENAI_API_KEY") or "EMPTY"
        client = await shared_client(settings.base_url, key)
        call = agent_llm(client, settings.model or "default", settings.sampling)
    elif settings.model is not None:
        call = with_agent_failures(provider_llm(settings.model, settings.sampling))
    else:
        raise ValueError("an evaluation needs a model or the URL of its server")

    async def call_model(
        messages: list[dict], tools: list[dict] | None, tool_choice: str | None
    ) -> ChatCompletion:
        return await call(messages, tools, settings.tool_choice or tool_choice)

    return call_model


async def _check_answer(llm: CallLLM, name: str) -> None:
    try:
        await probe(llm)
    except Exception as error:
        raise ConnectionError(f"the {name} does not answer: {describe_error(error)}") from error


def _solved_share(trials: Iterable[Trial]) -> float:
    solved = [is_successful(trial.info.reward) for trial in trials]
    return sum(solved) / len(solved) if solved else 0.0
