"""A local AEnvironment service, for machines that have none: instances of `tau2-env` behind the service's own API.

    python -m aenv.examples.tau2_rl.service

The scheduler (control API, port 8080) starts instances, each a process forked from one that has read tau2's files
already; the gateway (port 8081) hands whatever names an instance in the header `AEnvCore-EnvInstance-ID` to it. The SDK
knows these two ports only; another `--host`, e.g. 127.0.0.2, makes room for another service. When the service ends, in
whatever way, its instances end with it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

from examples.tau2.training.supervisor import PR_SET_PDEATHSIG, prctl

logger = logging.getLogger("tau2_rl")  # not under `aenv`, where the SDK has a handler of its own

FOLDER = Path(__file__).resolve().parent / "tau2-env"
ROOT = Path(__file__).resolve().parents[3]
CONTROL_PORT, DATA_PORT = 8080, 8081  # the SDK's
INSTANCE_ID = "AEnvCore-EnvInstance-ID"
DEFAULT_TTL = 1800.0  # seconds; the SDK's
MEMORY = 600.0  # seconds for which it is known why an instance is gone
MAX_INSTANCES = 64
ABANDONED = 30.0  # seconds for which nobody has asked for an instance that waits for room; the SDK asks every 2
STARTED_WITHIN = 60.0  # seconds that a caller waits for its instance; it can ask again
MAX_BODY = 64 * 2**20  # bytes of a request
HOP_BY_HOP = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Instance:
    """One process that plays one episode; `status` is one of the SDK's `EnvStatus`."""

    id: str
    socket: str
    ttl: float
    labels: dict[str, str] | None
    owner: str | None
    variables: dict[str, str]
    status: str = "Creating"
    message: str = ""
    created_at: str = field(default_factory=_now)
    updated_at: str = field(default_factory=_now)
    asked_at: float = field(default_factory=time.monotonic)
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # no longer Creating
    life: asyncio.Task | None = None
    http: ClientSession | None = None

    def become(self, status: str, message: str = "") -> None:
        self.status, self.message, self.updated_at = status, message, _now()
        self.settled.set()

    def public(self) -> dict:
        """As the API shows it: without the variables, in which keys are."""
        shown = ("id", "status", "created_at", "updated_at", "labels", "owner")
        return {**{name: getattr(self, name) for name in shown}, "ip": "127.0.0.1"}


class Service:
    """The scheduler and the gateway of one event loop.

    Args:
        folder: where the instances' sockets are.
        max_instances: that run at a time; more stay in status Creating until others end.
    """

    def __init__(self, folder: str, max_instances: int):
        self.folder = folder
        self.instances: dict[str, Instance] = {}
        self.max_instances, self.places = max_instances, asyncio.Semaphore(max_instances)
        self.numbers = itertools.count(1)
        config = json.loads((FOLDER / "config.json").read_text())
        self.name = f"{config['name']}@{config['version']}"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["aenv.examples.tau2_rl.instance", __name__])
        self.warm = asyncio.Event()
        # to start a process waits until the fork server has read its files; a daemon, not to be waited for at the end
        threading.Thread(
            target=self._warm_up, args=(asyncio.get_running_loop(),), daemon=True
        ).start()

    def _warm_up(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.context.Process(target=_nothing).start()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self.warm.set)

    def control(self) -> web.Application:
        app = web.Application(handler_args={"handler_cancellation": True})
        app.add_routes(
            [
                web.post("/env-instance", self.create),
                web.get("/env-instance/list", self.list),
                web.get("/env-instance/{name}/list", self.list),
                web.get("/env-instance/{id}", self.get),
                web.delete("/env-instance/{id}", self.delete),
                web.get("/health", lambda _: _reply({"status": "healthy"})),
            ]
        )
        return app

    def gateway(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, handler_args={"handler_cancellation": True})
        app.router.add_route("*", "/{path:.*}", self.forward)
        return app

    async def create(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
            variables = asked.get("environment_variables") or {}
            if asked.get("envName") != self.name:
                return _reply(
                    message=f"no environment {asked.get('envName')!r}, only {self.name}", code=404
                )
            if not all(isinstance(text, str) for pair in variables.items() for text in pair):
                raise ValueError("environment_variables must be strings")
            ttl = seconds(str(asked.get("ttl") or ""))
        except (ValueError, AttributeError) as error:
            return _reply(message=f"bad request: {error}", code=400)
        id = f"{self.name.partition('@')[0]}-{next(self.numbers)}"
        instance = Instance(
            id, f"{self.folder}/{id}", ttl, asked.get("labels"), asked.get("owner"), variables
        )
        has_room = (
            sum(not other.life.done() for other in self.instances.values()) < self.max_instances
        )
        self.instances[id] = instance
        instance.life = asyncio.create_task(self._live(instance))
        try:
            if has_room:
                async with asyncio.timeout(STARTED_WITHIN):
                    await instance.settled.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:  # the caller is gone, and nobody else knows the id
            self.instances.pop(id).life.cancel()
            raise
        if instance.status == "Failed":
            del self.instances[id]  # which the caller will not know
            return _reply(message=instance.message, code=422)
        return _reply(instance.public())

    async def get(self, request: web.Request) -> web.Response:
        instance = self.instances.get(request.match_info["id"])
        if instance is None:
            return _reply(message=f"no instance {request.match_info['id']}", code=404)
        instance.asked_at = time.monotonic()
        return _reply(instance.public(), message=instance.message)

    async def list(self, request: web.Request) -> web.Response:
        name, status = request.match_info.get("name", "*"), request.query.get("status")
        mine = name in ("*", self.name, self.name.partition("@")[0])
        items = [i.public() for i in self.instances.values() if mine and status in (None, i.status)]
        # the real service lists by name only, as its command `aenv instance list` asks; the SDK's client wants `items`
        return _reply(items if "name" in request.match_info else {"items": items})

    async def delete(self, request: web.Request) -> web.Response:
        instance = self.instances.pop(request.match_info["id"], None)
        if instance is None:
            return _reply(message=f"no instance {request.match_info['id']}", code=404)
        instance.life.cancel()
        await asyncio.wait([instance.life])
        return _reply({})

    async def close(self) -> None:
        lives = [instance.life for instance in self.instances.values()]
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    async def _live(self, instance: Instance) -> None:
        """From waiting for a place to the end, whoever brings it about."""
        try:
            await self.warm.wait()
            async with self.places, asyncio.timeout(instance.ttl):
                if time.monotonic() - instance.asked_at > ABANDONED:
                    raise RuntimeError("nobody has asked for it while it waited for room")
                process, report = self._fork(instance)
                try:
                    await _readable(report.fileno())
                    problem = report.recv()
                    if problem:
                        raise RuntimeError(problem)
                    connector = UnixConnector(instance.socket, limit=0)
                    async with ClientSession(
                        connector=connector, timeout=ClientTimeout(None)
                    ) as instance.http:
                        instance.become("Running")
                        await _readable(process.sentinel)
                    raise EOFError
                except EOFError:
                    process.join()
                    raise RuntimeError(
                        f"its process ended with status {process.exitcode}"
                    ) from None
                finally:
                    report.close()
                    process.kill()  # nothing of an episode outlives it
                    process.join()
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(instance.socket)
        except (
            TimeoutError
        ):  # the SDK waits for ever for one that is Terminated before it was Running
            status = "Terminated" if instance.status == "Running" else "Failed"
            instance.become(
                status, f"{instance.id}: its time to live of {instance.ttl:g} s is over"
            )
        except Exception as error:
            instance.become("Failed", f"{instance.id}: {error}")
            logger.warning("%s", instance.message)
        asyncio.get_running_loop().call_later(MEMORY, self.instances.pop, instance.id, None)

    def _fork(self, instance: Instance) -> tuple[BaseProcess, Connection]:
        here, there = self.context.Pipe(duplex=False)
        arguments = (str(FOLDER / "src"), instance.variables, instance.socket, there)
        process = self.context.Process(target=_be_an_instance, args=arguments, name=instance.id)
        process.start()
        there.close()
        return process, here

    async def forward(self, request: web.Request) -> web.StreamResponse:
        id = request.headers.get(INSTANCE_ID)
        instance = self.instances.get(id)
        if instance is None or instance.status != "Running":
            why = (
                instance.message or f"{id} is {instance.status}"
                if instance
                else f"no instance {id}"
            )
            return web.json_response(
                {"success": False, "error": why}, status=502 if instance else 404
            )
        if (
            request.path == "/health"
        ):  # the SDK's own check in an instance asks port 8081, which is this gateway
            return web.json_response({"success": True, "data": {"status": "healthy"}})
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        }
        url, body = f"http://{instance.id}{request.rel_url}", await request.read()
        response = None
        try:
            async with instance.http.request(
                request.method, url, headers=headers, data=body
            ) as answer:
                kept = {
                    name: value
                    for name, value in answer.headers.items()
                    if name.lower() not in HOP_BY_HOP
                }
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (ClientError, RuntimeError) as error:
            if response is not None:  # cut off: the client must not take it for whole
                request.transport.close()
                return response
            return web.json_response(
                {"success": False, "error": f"{id} does not answer: {error}"}, status=502
            )


def _nothing() -> None:
    """What the first process does."""


def _be_an_instance(*arguments) -> None:
    from aenv.examples.tau2_rl.instance import (
        serve,
    )  # which this process has read already, and the service never does

    serve(*arguments)


def seconds(ttl: str) -> float:
    """The seconds of a duration in Go's notation, e.g. 1h30m, or of a bare number.

    Raises:
        ValueError: it has another form.
    """
    if not ttl:
        return DEFAULT_TTL
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|)", ttl)
    if "".join(map("".join, parts)) != ttl:
        raise ValueError(f"ttl {ttl!r} is not a duration such as 90s or 1h30m")
    return sum(float(number) * units[unit] for number, unit in parts)


async def serve(host: str, max_instances: int, ready: Callable[[str], None] = print) -> None:
    """Run the service until SIGINT or SIGTERM; `ready` is called with its address once it listens.

    Raises:
        OSError: a port is taken.
    """
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, over.set)
    os.chdir(ROOT)  # the fork server imports from there
    with tempfile.TemporaryDirectory(prefix="tau2-env-") as folder:
        service = Service(folder, max_instances)
        runners = [
            web.AppRunner(app, access_log=None) for app in (service.control(), service.gateway())
        ]
        try:
            for runner, port in zip(runners, (CONTROL_PORT, DATA_PORT), strict=True):
                await runner.setup()
                await web.TCPSite(runner, host, port, shutdown_timeout=0.5).start()
            ready(f"http://{host}")
            await over.wait()
        finally:
            await service.close()
            for runner in runners:
                await runner.cleanup()


@contextlib.contextmanager
def running(host: str = "127.0.0.1", max_instances: int = MAX_INSTANCES) -> Iterator[str]:
    """A service in a process of its own, which ends with this one; yields the value for `AENV_SYSTEM_URL`.

    Raises:
        RuntimeError: it does not start, e.g. because a port is taken.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve_beside, args=(host, max_instances, there))
    process.start()
    there.close()
    try:
        try:
            url = here.recv()
        except EOFError:
            raise RuntimeError(
                f"the local AEnvironment service did not start on {host}, see above"
            ) from None
        yield url
    finally:
        process.terminate()
        process.join()


def _serve_beside(host: str, max_instances: int, report: Connection) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent, who still has instances to release
    sys.exit(_serve(host, max_instances, report.send))


def _serve(host: str, max_instances: int, ready: Callable[[str], None]) -> int:
    logging.basicConfig(format="%(message)s")
    try:
        asyncio.run(serve(host, max_instances, ready))
    except OSError as error:
        print(
            f"the service cannot listen on {host}: {error}; try another --host, e.g. 127.0.0.2",
            file=sys.stderr,
        )
        return 1
    return 0


def any_host() -> str:
    """An address of this machine that, in all likelihood, no other service has."""
    return "127." + ".".join(str(random.randint(2, 254)) for _ in range(3))


@contextlib.contextmanager
def at_hand() -> Iterator[None]:
    """The service that `AENV_SYSTEM_URL` or `DUMMY_INSTANCE_IP` names, else one of one's own."""
    if os.environ.get("AENV_SYSTEM_URL") or os.environ.get("DUMMY_INSTANCE_IP"):
        yield
        return
    print("AENV_SYSTEM_URL is not set: starting a service here ...", file=sys.stderr)
    with running(any_host()) as os.environ["AENV_SYSTEM_URL"]:
        yield


def _reply(data: dict | list | None = None, message: str = "", code: int = 0) -> web.Response:
    envelope = {"success": code == 0, "code": code, "message": message, "data": data}
    return web.json_response(envelope, status=code or 200)


async def _readable(file: int) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_reader(file, lambda: future.done() or future.set_result(None))
    try:
        await future
    finally:
        loop.remove_reader(file)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="A local AEnvironment service with tau2-env.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="any of 127.x.y.z is this machine (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--max_instances",
        type=int,
        default=MAX_INSTANCES,
        help=f"at a time; more wait (default: {MAX_INSTANCES})",
    )
    options = parser.parse_args(argv)
    if options.max_instances < 1:
        parser.error("--max_instances must be at least 1")
    return _serve(
        options.host,
        options.max_instances,
        lambda url: print(f"export AENV_SYSTEM_URL={url}", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
