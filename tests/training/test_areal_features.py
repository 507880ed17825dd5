"""What the installed AReaL can do, found out by asking it and by trying it."""

import asyncio
from types import SimpleNamespace

import pytest
from areal import PPOTrainer
from areal.api.cli_args import GenerationHyperparameters
from areal.experimental.openai import ArealOpenAI
from areal.infra import RayScheduler

from examples.tau2.cpu.tokenizer import untrained_tokenizer
from examples.tau2.training.areal.features import (
    proxy_window,
    runs_agents_under_ray,
    saves_megatrons_optimizer,
)


@pytest.mark.parametrize("engine_max_tokens", [None, 1000, 40_000])
def test_the_proxy_asks_its_engine_for_the_window_that_is_found(engine_max_tokens):
    requests = []

    async def generate(request):
        requests.append(request)
        raise TimeoutError

    tokenizer = untrained_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    engine = SimpleNamespace(agenerate=generate, get_version=lambda: 0)
    client = ArealOpenAI(engine, tokenizer, engine_max_tokens=engine_max_tokens)
    message = {"role": "user", "content": "Hi"}
    completion = client.chat.completions.create(messages=[message], max_completion_tokens=10**6)
    with pytest.raises(TimeoutError):
        asyncio.run(completion)
    (request,) = requests
    sampling: GenerationHyperparameters = request.gconfig
    most = min(sampling.max_tokens, len(request.input_ids) + sampling.max_new_tokens)
    assert most == proxy_window(engine_max_tokens)


def test_an_areal_that_runs_agents_under_ray_starts_their_proxies():
    """AReaL refuses before it looks for anything but the scheduler's type."""
    trainer = PPOTrainer.__new__(PPOTrainer)
    trainer.config = SimpleNamespace(scheduler=SimpleNamespace(type="ray"))
    trainer.rollout = trainer.eval_rollout = None
    trainer._proxy_started = False
    if runs_agents_under_ray():
        trainer._ensure_proxy_started()
        assert hasattr(RayScheduler, "fork_workers")
    else:
        with pytest.raises(NotImplementedError, match="RayScheduler"):
            trainer._ensure_proxy_started()


def test_the_versions_whose_features_are_known():
    """1.0.4 has none of the features; the snapshot of main that was tested has all."""
    assert saves_megatrons_optimizer() == runs_agents_under_ray()
