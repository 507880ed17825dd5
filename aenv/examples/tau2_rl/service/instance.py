"""Runs the process of an instance, for which the fork server has read tau2's files in advance.

Importing this module takes seconds, because it reads the files of all domains. The fork server
imports it once. Instances are forked from the fork server and share its memory.
"""

import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvicorn

from aenv.core import get_function_registry
from aenv.server.mcp_server import create_server
from examples.tau2 import quiet_tau2

quiet_tau2()

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.config import VARIABLES
from examples.tau2.episode.keys import strip_keys
from examples.tau2.episode.tau2_data import data_problem
from examples.tau2.training.supervisor import PR_SET_PDEATHSIG, prctl

logging.getLogger("aenv").setLevel(logging.WARNING)
# this logger reports a traceback for every session that ends
logging.getLogger("mcp.server.streamable_http").setLevel(logging.CRITICAL)


def serve_instance(folder: str, variables: dict[str, str], socket: str, report: Connection) -> None:
    """Serve the environment in `folder` on a Unix socket until killed.

    `report` gets "" when the instance is ready, otherwise the reason why it cannot be.
    """
    _end_with_service()
    _set_variables(variables)
    server = create_server("tau2-env")
    try:
        server.load_tools_from_directory(Path(folder))
    except SystemExit as problem:
        report.send(str(problem))
        return
    # the SDK goes on without a file that it cannot load, and logs what is wrong with it
    if len(get_function_registry().list_functions()) < 2:
        report.send(f"{folder} cannot be loaded, see the service's output")
        return
    config = _uvicorn_config(server.mcp.http_app(), socket)
    _ReportingServer(config, on_ready=lambda: report.send("")).run()


class _ReportingServer(uvicorn.Server):
    """A server that calls `on_ready` when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]):
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def _end_with_service() -> None:
    """Have this process end when the service ends."""
    # if the fork server is killed, so is this process
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # if only the service ends, the fork server lives as long as an instance does
    service = multiprocessing.parent_process()
    threading.Thread(target=_exit_after, args=(service,), daemon=True).start()


def _exit_after(service: BaseProcess) -> None:
    service.join()
    os._exit(1)


def _set_variables(variables: dict[str, str]) -> None:
    """Set the episode's variables, and remove those of the service, which are for no episode."""
    keys = ("TAU2_USER_LLM_API_KEY", "TAU2_JUDGE_LLM_API_KEY")
    for name in (*VARIABLES.values(), "TAU2_TASK_ID", *keys):
        os.environ.pop(name, None)
    os.environ.update(variables)
    strip_keys()


def _uvicorn_config(app: Any, socket: str) -> uvicorn.Config:
    return uvicorn.Config(app, uds=socket, log_level="warning", access_log=False, ws="none")


def _read_in_advance() -> None:
    """Do here, once, what every instance would otherwise do for itself."""
    for domain in environment.DOMAINS:
        if data_problem(domain):
            # an instance that plays the domain says so
            continue
        _prepare_domain(domain, solo_mode=False)
        if domain in environment.SOLO_DOMAINS:
            _prepare_domain(domain, solo_mode=True)
    _uvicorn_config(create_server().mcp.http_app(), "").load()
    # the garbage collector must not touch, and so copy, memory that instances share
    gc.freeze()


def _prepare_domain(domain: str, solo_mode: bool) -> None:
    """Make a workflow, which reads the domain's files and keeps them in caches of the process."""
    Tau2AgentWorkflow({"domain": domain, "solo_mode": solo_mode, "user_llm": "none"})


_read_in_advance()
