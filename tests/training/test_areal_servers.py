"""An inference server that ends instead of starting, because its port was taken or otherwise."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from areal.api.cli_args import InferenceEngineConfig
from areal.engine.sglang_remote import SGLangBackend
from areal.infra.remote_inf_engine import RemoteInfEngine

from examples.tau2.training.areal.servers import ATTEMPTS, ServerEnded, launch_server


class Backend(SGLangBackend):
    """Launches Python's file server, which answers `/health` as SGLang does.

    Before it launches one of the first `taken` servers, another process takes its port. Those with
    an option that they do not know end.
    """

    def __init__(self, folder: Path, taken: int = 0, option: tuple[str, ...] = ()):
        (folder / "health").touch()
        self.folder, self.taken, self.option = folder, taken, option
        self.others: list[socket.socket] = []
        self.servers: list[subprocess.Popen] = []

    def launch_server(self, server_args: dict) -> subprocess.Popen:
        port, host = server_args["port"], server_args["host"]
        if len(self.servers) < self.taken:
            other = socket.socket()
            other.bind(("", port))
            self.others.append(other)
        command = [sys.executable, "-m", "http.server", str(port), "--bind", host, *self.option]
        server = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.DEVNULL)
        self.servers.append(server)
        return server


@pytest.fixture
def backend(request, tmp_path) -> Iterator[Backend]:
    backend = Backend(tmp_path, **request.param)
    yield backend
    for other in backend.others:
        other.close()
    for server in backend.servers:
        server.kill()
        server.wait()


def engine_of(backend: Backend) -> RemoteInfEngine:
    config = InferenceEngineConfig(backend="sglang:d1", setup_timeout=60)
    return RemoteInfEngine(config, backend)


@pytest.mark.parametrize("backend", [{"taken": 1}], indirect=True)
def test_a_server_whose_port_is_taken_meanwhile_gets_another(backend):
    started = launch_server(engine_of(backend), {})
    assert started.port != backend.others[0].getsockname()[1]
    assert started.process is backend.servers[1] and started.process.poll() is None


@pytest.mark.parametrize("backend", [{"taken": ATTEMPTS}], indirect=True)
def test_ports_that_are_taken_again_and_again_end_the_start(backend):
    with pytest.raises(ServerEnded, match="has ended with status 1 before it listened"):
        launch_server(engine_of(backend), {})
    assert len(backend.servers) == ATTEMPTS


@pytest.mark.parametrize("backend", [{"option": ("--nonsense",)}], indirect=True)
def test_a_server_that_ends_for_another_reason_is_noticed_at_once(backend):
    with pytest.raises(ServerEnded, match="has ended with status 2"):
        launch_server(engine_of(backend), {})
    assert len(backend.servers) == 1


@pytest.mark.parametrize("backend", [{"option": ("--nonsense",)}], indirect=True)
def test_areal_waits_for_a_server_that_has_ended(backend):
    engine = engine_of(backend)
    engine.config.setup_timeout = 3
    start = time.monotonic()
    try:
        engine.launch_server({})
    except TimeoutError:
        assert time.monotonic() - start >= 3
    except RuntimeError as error:
        pytest.skip(f"this AReaL notices it: {error}")
