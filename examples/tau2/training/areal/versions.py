"""Gives each token the version of the weights that served it.

A completion may span updates of the weights: the server cuts its answer at each update, and AReaL's
engine sends what there is as the prompt of another request.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from areal.api import InferenceEngine, ModelRequest, ModelResponse, Scheduler, WeightUpdateMeta
from areal.api.cli_args import InferenceEngineConfig
from areal.api.io_struct import HttpGenerationResult, HttpRequest, WeightUpdateRequests
from areal.engine.sglang_remote import SGLangBackend
from areal.engine.vllm_remote import VLLMBackend
from areal.infra import RolloutController

# Both backends have the methods that the mixin calls, but AReaL gives them no base class.
AnyBackend = SGLangBackend if TYPE_CHECKING else object


class PausesProxies(RolloutController):
    """A controller whose proxies ask for no tokens while the weights are updated.

    They go on when they know the new version, and so before AReaL saves and evaluates the weights:
    a pause takes time from the deadlines of the episodes under way.
    """

    def pause(self) -> None:
        super().pause()
        self._tell_proxies("pause")

    def set_version(self, version: int) -> None:
        super().set_version(version)
        self._tell_proxies("resume")

    def resume(self) -> None:
        self._tell_proxies("resume")
        super().resume()

    def _tell_proxies(self, method: str) -> None:
        if self._proxy_started:
            self._proxy_collective_rpc(method, http_timeout=60.0)


@dataclass
class Completion:
    """A completion under way: the version at its last request, and that of each token so far."""

    requested: int = 0
    versions: list[int] = field(default_factory=list)


# the completion that the current asyncio task generates
_completion: ContextVar[Completion] = ContextVar("_completion")


class LabelsTokens(AnyBackend):
    """A mixin for AReaL's backends that notes the version of each token in `_completion`."""

    def build_generation_request(
        self, req: ModelRequest, with_lora: bool, version: int
    ) -> HttpRequest:
        _completion.get().requested = version
        return super().build_generation_request(req, with_lora=with_lora, version=version)

    def parse_generation_response(self, response: dict[str, Any]) -> HttpGenerationResult:
        result = super().parse_generation_response(response)
        completion = _completion.get()
        version = self.served_version(response)
        if version is None:
            version = completion.requested
        completion.versions += [version] * len(result.output_tokens)
        return result

    def served_version(self, response: dict[str, Any]) -> int | None:
        """Return the version that the server names in an answer; None if it names none."""
        return None


class LabelsVLLMTokens(LabelsTokens, VLLMBackend):
    """vLLM does not say which weights it has: a token's version is that at its request."""


class LabelsSGLangTokens(LabelsTokens, SGLangBackend):
    """SGLang says in each answer which weights it has, if each update of the weights names them.

    So a token's version is right also if its request was late, or was sent again.
    """

    def build_disk_weight_update_requests(self, meta: WeightUpdateMeta) -> WeightUpdateRequests:
        return named(super().build_disk_weight_update_requests(meta), meta)

    def build_distributed_weight_update_requests(
        self, meta: WeightUpdateMeta, param_specs: list
    ) -> WeightUpdateRequests:
        return named(super().build_distributed_weight_update_requests(meta, param_specs), meta)

    def served_version(self, response: dict[str, Any]) -> int | None:
        # "default" until the first update, and with LoRA, whose requests name the adapter's version
        name = str(response["meta_info"].get("weight_version"))
        return int(name) if name.isdecimal() else None


def named(updates: WeightUpdateRequests, meta: WeightUpdateMeta) -> WeightUpdateRequests:
    """Add the version of the new weights to the requests that update SGLang's weights."""
    if meta.version is not None and not meta.use_lora:
        for request in updates.requests:
            request.payload["weight_version"] = str(meta.version)
    return updates


BACKENDS = {SGLangBackend: LabelsSGLangTokens, VLLMBackend: LabelsVLLMTokens}


class ServesTrueVersions(InferenceEngine):
    """A rollout engine whose tokens have the versions of the weights that served them."""

    def __init__(self, config: InferenceEngineConfig):
        super().__init__(config)
        self._engine.backend = BACKENDS[type(self._engine.backend)]()

    async def agenerate(self, req: ModelRequest) -> ModelResponse:
        completion = Completion()
        _completion.set(completion)
        response = await super().agenerate(req)
        response.output_versions = completion.versions
        return response

    @classmethod
    def as_controller(
        cls, config: InferenceEngineConfig, scheduler: Scheduler
    ) -> RolloutController:
        return PausesProxies(cls, config=config, scheduler=scheduler)
