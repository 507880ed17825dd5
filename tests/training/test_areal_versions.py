"""The versions of tokens whose completion spans an update: AReaL's engines as they are, and ours.

A scripted SGLang on loopback has version 3 of the weights, cuts its answer, and then has version 4.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest.mock import AsyncMock, MagicMock

import pytest
from areal.api import ModelRequest, WeightUpdateMeta
from areal.api.cli_args import GenerationHyperparameters, InferenceEngineConfig
from areal.engine.sglang_remote import RemoteSGLangEngine
from areal.infra import RolloutController, workflow_context

from examples.tau2.training.areal.versions import ServesTrueVersions
from examples.tau2.training.engines import rollout
from tests.scripted import LLMServer, in_turn
from tests.waiting import until

# later versions of AReaL pause the proxies, and note the version when they send a request
IS_MENDED = "_proxy_collective_rpc" in inspect.getsource(RolloutController.pause)

CONFIG = InferenceEngineConfig(backend="sglang:d1", setup_timeout=10)


class OurEngine(ServesTrueVersions, RemoteSGLangEngine):
    """AReaL's engine with the mixin alone: the others change modules of this process."""


@contextmanager
def connected(engine_class: type, answer: Callable) -> Iterator[RemoteSGLangEngine]:
    """Connect an engine at version 3 with a server that gives these answers."""
    engine = engine_class(CONFIG)
    with LLMServer(answer) as server:
        engine.initialize(addr=server.base_url.removeprefix("http://").removesuffix("/v1"))
        engine.set_version(3)
        yield engine
        engine.destroy()


def piece(reason: str, tokens: list[int], served: str = "default") -> dict:
    """Make an answer of SGLang, whose weights are called `served`."""
    info = {
        "finish_reason": {"type": reason},
        "output_token_logprobs": [[-0.5, token, None] for token in tokens],
        "weight_version": served,
    }
    return {"meta_info": info}


def versions_of_a_completion(engine: RemoteSGLangEngine) -> list[int]:
    async def generate():
        async with await workflow_context.get_aiohttp_session():
            gconfig = GenerationHyperparameters(max_new_tokens=8)
            return await engine.agenerate(ModelRequest(input_ids=[1, 2], gconfig=gconfig))

    response = asyncio.run(generate())
    assert response.output_tokens == [7, 8, 9]
    return response.output_versions


# -- an answer that is read when the version is another one --------------------------------------


@pytest.mark.parametrize("served", ["3", "default"])
@pytest.mark.parametrize(
    "engine_class, versions",
    [(RemoteSGLangEngine, [3, 3, 4] if IS_MENDED else [4, 4, 4]), (OurEngine, [3, 3, 4])],
)
def test_an_answer_that_is_read_after_the_update(engine_class, versions, served):
    """Also if the server names no version."""
    answers = in_turn(piece("abort", [7, 8], served), piece("stop", [9], served.replace("3", "4")))

    def answer(_: dict) -> dict:
        engine.set_version(4)
        return answers(_)

    with connected(engine_class, answer) as engine:
        assert versions_of_a_completion(engine) == versions


@pytest.mark.parametrize(
    "engine_class, versions", [(RemoteSGLangEngine, [3, 3, 3]), (OurEngine, [3, 3, 4])]
)
def test_an_answer_of_new_weights_before_the_engine_knows_of_them(engine_class, versions):
    """A request can wait in the server until the weights are there."""
    answers = in_turn(piece("abort", [7, 8], "3"), piece("stop", [9], "4"))
    with connected(engine_class, answers) as engine:
        assert versions_of_a_completion(engine) == versions


def test_each_update_names_its_weights():
    backend = OurEngine(CONFIG)._engine.backend
    meta = WeightUpdateMeta(type="disk", path="a/folder").with_version(4)
    updates = [
        *backend.build_disk_weight_update_requests(meta).requests,
        *backend.build_distributed_weight_update_requests(meta, []).requests,
    ]
    assert [update.payload["weight_version"] for update in updates] == ["4", "4"]


def test_an_update_of_an_adapter_leaves_the_name_of_the_weights():
    """The requests name the adapter's version."""
    backend = OurEngine(CONFIG)._engine.backend
    meta = WeightUpdateMeta(type="disk", path="a/folder", use_lora=True, lora_name="adapter")
    updates = backend.build_disk_weight_update_requests(meta.with_version(4)).requests
    assert all("weight_version" not in update.payload for update in updates)


# -- the proxies, which have engines of their own ------------------------------------------------


@pytest.mark.parametrize(
    "engine_class, is_paused", [(RemoteSGLangEngine, IS_MENDED), (OurEngine, True)]
)
def test_whether_a_proxy_is_paused_while_weights_are_updated(engine_class, is_paused):
    with connected(engine_class, in_turn(None)) as engine:
        controller = controller_of(engine)
        controller.pause()
        assert engine.workflow_executor.is_paused() == is_paused
        # AReaL's trainer evaluates the weights between these two
        controller.set_version(4)
        waits_for_the_evaluation = is_paused and engine_class is RemoteSGLangEngine
        assert engine.workflow_executor.is_paused() == waits_for_the_evaluation
        controller.resume()
        assert not engine.workflow_executor.is_paused()


def test_a_proxy_goes_on_after_a_pause_without_an_update():
    with connected(OurEngine, in_turn(None)) as engine:
        controller = controller_of(engine)
        controller.pause()
        controller.resume()
        assert not engine.workflow_executor.is_paused()


def controller_of(proxy_engine: RemoteSGLangEngine) -> RolloutController:
    """Return the engine's controller, with a scheduler that calls the proxies' engine alone."""

    async def call(worker_id: str, method: str, engine_name: str, http_timeout: float, **arguments):
        if worker_id == "proxy":
            getattr(proxy_engine, method)(**arguments)

    controller = type(proxy_engine).as_controller(CONFIG, MagicMock())
    controller.scheduler.async_call_engine = AsyncMock(side_effect=call)
    controller._dispatcher = MagicMock()
    controller._worker_role = "rollout"
    controller.workers = [MagicMock(id="worker")]
    controller.proxy_workers = [MagicMock(id="proxy")]
    controller._proxy_started = True
    return controller


def test_a_completion_goes_on_after_the_pause_with_the_new_version():
    """The proxies' engine is paused, its answer is cut, and it is told the version."""
    pieces = in_turn(piece("abort", [7, 8]), piece("stop", [9]))
    versions_at_requests = []

    def answer(request: dict) -> dict:
        versions_at_requests.append(engine.get_version())
        if len(versions_at_requests) == 1:
            controller.pause()
        return pieces(request)

    def update() -> None:
        until(engine.workflow_executor.is_paused)
        controller.set_version(4)

    with connected(OurEngine, answer) as engine, ThreadPoolExecutor() as threads:
        controller = controller_of(engine)
        updated = threads.submit(update)
        assert versions_of_a_completion(engine) == [3, 3, 4]
        updated.result()
    assert versions_at_requests == [3, 4]


@pytest.mark.parametrize("engine_class", [rollout.RemoteSGLangEngine, rollout.RemotevLLMEngine])
def test_our_engines_serve_true_versions(engine_class):
    assert issubclass(engine_class, ServesTrueVersions)
