"""What the fork server has in memory before the first instance is asked for, and what an instance then does.

Importing this module takes seconds and reads the files of all domains; an instance, forked from the process that has done
so, shares them with all others.
"""

import gc
import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn

from aenv.core import get_function_registry
from aenv.server.mcp_server import create_server
from examples.tau2 import quiet_tau2

quiet_tau2()

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.config import VARIABLES
from examples.tau2.training.supervisor import PR_SET_PDEATHSIG, prctl

logging.getLogger("aenv").setLevel(logging.WARNING)
logging.getLogger("mcp.server.streamable_http").setLevel(
    logging.CRITICAL
)  # a traceback for every session that ends


def configured(app, socket: str) -> uvicorn.Config:
    return uvicorn.Config(app, uds=socket, log_level="warning", access_log=False, ws="none")


# what every instance would otherwise do for itself
for domain in environment.DOMAINS:
    for solo_mode in {False, domain in environment.SOLO_DOMAINS}:
        Tau2AgentWorkflow({"domain": domain, "solo_mode": solo_mode, "user_llm": "none"})
configured(create_server().mcp.http_app(), "").load()
gc.freeze()


def _end_with(service: BaseProcess) -> None:
    service.join()
    os._exit(1)


def serve(folder: str, variables: dict[str, str], socket: str, report: Connection) -> None:
    """Serve the environment in `folder` on a Unix socket until killed; `report` says "" once it does, else why it cannot."""
    prctl(
        PR_SET_PDEATHSIG, signal.SIGKILL
    )  # with the fork server, which itself lives as long as an instance does
    threading.Thread(
        target=_end_with, args=(multiprocessing.parent_process(),), daemon=True
    ).start()
    for name in (
        *VARIABLES.values(),
        "TAU2_TASK_ID",
        "TAU2_USER_LLM_API_KEY",
    ):  # the service's own are nobody's
        os.environ.pop(name, None)
    os.environ.update(variables)
    server = create_server("tau2-env")
    try:
        server.load_tools_from_directory(Path(folder))
    except SystemExit as problem:
        report.send(str(problem))
        return
    if (
        len(get_function_registry().list_functions()) < 2
    ):  # the SDK logs what is wrong with a file, and goes on without it
        report.send(f"{folder} cannot be loaded, see the service's output")
        return

    class Server(uvicorn.Server):
        async def startup(self, sockets=None) -> None:
            await super().startup(sockets)
            report.send("")

    Server(configured(server.mcp.http_app(), socket)).run()
