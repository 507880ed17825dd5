"""Starts the inference server of a worker on a port that nobody else takes meanwhile."""

import logging
import subprocess
import time
from typing import Any

from areal.api.io_struct import LocalInfServerInfo
from areal.infra.remote_inf_engine import RemoteInfEngine
from areal.utils.network import split_hostport

from examples.tau2.training.areal.ports import is_free

logger = logging.getLogger(__name__)

# ports that are tried
ATTEMPTS = 3


class ServerEnded(RuntimeError):
    """A server has ended before it listened; `port` is the one that it was to listen on."""

    def __init__(self, address: str, status: int):
        super().__init__(
            f"the inference server for {address} has ended with status {status} before it "
            "listened; rollout.log says why"
        )
        self.port = split_hostport(address)[1]


def launch_server(engine: RemoteInfEngine, server_args: dict[str, Any]) -> LocalInfServerInfo:
    """Have AReaL's engine launch a server, with another port if its port was taken meanwhile.

    AReaL by itself waits `rollout.setup_timeout` for a server that has ended.

    Raises:
        ServerEnded: the server has ended for another reason, or all of its ports were taken.
        TimeoutError: the server did not answer within `rollout.setup_timeout`.
    """

    def wait_for_server(address: str, process: subprocess.Popen | None = None) -> None:
        deadline = time.monotonic() + engine.config.setup_timeout
        while not engine.check_health(f"http://{address}"):
            if process and process.poll() is not None:
                raise ServerEnded(address, process.returncode)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the inference server at {address} does not answer")
            time.sleep(1)

    areals_wait = engine._wait_for_server
    engine._wait_for_server = wait_for_server
    try:
        for _ in range(ATTEMPTS - 1):
            try:
                return engine.launch_server(dict(server_args))
            except ServerEnded as error:
                if is_free(error.port):
                    raise
                logger.warning("Port %d was taken meanwhile; another one is drawn.", error.port)
        return engine.launch_server(dict(server_args))
    finally:
        engine._wait_for_server = areals_wait
