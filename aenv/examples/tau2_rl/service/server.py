"""Runs the local service: in this process until a signal, or in a process beside the caller."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from aiohttp import web

from aenv.examples.tau2_rl.service import CONTROL_PORT, DATA_PORT, ROOT
from aenv.examples.tau2_rl.service.gateway import Gateway
from aenv.examples.tau2_rl.service.scheduler import MAX_INSTANCES, Scheduler
from examples.tau2.episode.network import exempt_from_proxies
from examples.tau2.training.supervisor import PR_SET_PDEATHSIG, prctl


@contextlib.contextmanager
def running_service(host: str = "127.0.0.1", max_instances: int = MAX_INSTANCES) -> Iterator[str]:
    """Run a service in a process that ends with this one; yield the value for `AENV_SYSTEM_URL`.

    Raises:
        RuntimeError: the service does not start, e.g. because a port is taken.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_in_child, args=(host, max_instances, sender))
    process.start()
    sender.close()
    try:
        try:
            url = receiver.recv()
        except EOFError:
            raise RuntimeError(
                f"the local AEnvironment service did not start on {host}, see above"
            ) from None
        yield url
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def ensure_service() -> Iterator[None]:
    """Use the service that the environment variables name; if they name none, run one."""
    if os.environ.get("AENV_SYSTEM_URL") or os.environ.get("DUMMY_INSTANCE_IP"):
        yield
        return
    print("AENV_SYSTEM_URL is not set: starting a service here ...", file=sys.stderr)
    host = random_host()
    exempt_from_proxies([host])
    with running_service(host) as url:
        os.environ["AENV_SYSTEM_URL"] = url
        yield


def random_host() -> str:
    """Choose an address of this machine that most likely no other service has."""
    return "127." + ".".join(str(random.randint(2, 254)) for _ in range(3))


def run_service(host: str, max_instances: int, on_ready: Callable[[str], None]) -> int:
    """Run the service until SIGINT or SIGTERM, and return the exit status.

    `on_ready` is called with the service's address as soon as it listens.
    """
    logging.basicConfig(format="%(message)s")
    try:
        asyncio.run(_serve(host, max_instances, on_ready))
    except OSError as error:
        print(
            f"the service cannot listen on {host}: {error}; try another --host, e.g. 127.0.0.2",
            file=sys.stderr,
        )
        return 1
    return 0


def _run_in_child(host: str, max_instances: int, sender: Connection) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # Ctrl-C is for the parent, which has instances to release
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(run_service(host, max_instances, sender.send))


async def _serve(host: str, max_instances: int, on_ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # the fork server imports from there
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="tau2-env-") as folder:
        scheduler = Scheduler(folder, max_instances)
        control = web.AppRunner(scheduler.app(), access_log=None)
        gateway = web.AppRunner(Gateway(scheduler.instances).app(), access_log=None)
        try:
            for runner, port in ((control, CONTROL_PORT), (gateway, DATA_PORT)):
                await runner.setup()
                await web.TCPSite(runner, host, port, shutdown_timeout=0.5).start()
            on_ready(f"http://{host}")
            await stop.wait()
        finally:
            await scheduler.close()
            await control.cleanup()
            await gateway.cleanup()
