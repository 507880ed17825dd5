"""The control API: creates, shows, lists and deletes instances, each a process for one episode.

Every answer is an envelope `{success, code, message, data}`. An instance is forked from the fork
server, a process that has already read tau2's files. At most `max_instances` run at a time; more
have the status Creating until others end.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import math
import multiprocessing
import os
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from aiohttp import ClientSession, ClientTimeout, UnixConnector, web

from aenv.examples.tau2_rl.service import ENVIRONMENT_FOLDER

# not a child of the logger `aenv`, which has the SDK's handler
logger = logging.getLogger("tau2_rl")

MAX_INSTANCES = 64
# the time to live of instances that are created without one, in seconds; the SDK's default
DEFAULT_TTL = 1800.0
# seconds for which the service can still say why an instance is gone
KEPT_AFTER_END = 600.0
# An instance that waits for room is given up when nobody has asked for it for so many seconds; the
# SDK asks every 2 s
ABANDONED_AFTER = 30.0
# seconds that the call which creates an instance waits for it; the caller can ask again
START_TIMEOUT = 60.0


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
    # when somebody last asked for the instance, by the monotonic clock
    asked_at: float = field(default_factory=time.monotonic)
    # set when the status is no longer Creating
    started: asyncio.Event = field(default_factory=asyncio.Event)
    # runs the process until its end
    lifecycle: asyncio.Task[None] = field(init=False)
    # reaches the process while it runs
    http: ClientSession | None = None

    def set_status(self, status: str, message: str = "") -> None:
        """Change the status, and wake those who wait for the start."""
        self.status = status
        self.message = message
        self.updated_at = _now()
        self.started.set()

    def public(self) -> dict:
        """Return what the API shows: everything but the variables, which contain keys."""
        return {
            "id": self.id,
            "status": self.status,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "labels": self.labels,
            "owner": self.owner,
            "ip": "127.0.0.1",
        }


class Scheduler:
    """The instances of one service, and the handlers of the control API.

    Args:
        folder: where the instances' sockets are.
        max_instances: how many instances run at a time.
    """

    def __init__(self, folder: str, max_instances: int):
        self.folder = folder
        self.max_instances = max_instances
        self.instances: dict[str, Instance] = {}
        self._places = asyncio.Semaphore(max_instances)
        self._numbers = itertools.count(1)
        config = json.loads((ENVIRONMENT_FOLDER / "config.json").read_text())
        self.name = config["name"]
        self.name_and_version = f"{config['name']}@{config['version']}"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["aenv.examples.tau2_rl.service.instance", __name__])
        self._fork_server_is_ready = asyncio.Event()
        # The start of the first process waits until the fork server has read its files. The thread
        # is a daemon, so that a service which ends does not wait for it.
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._start_fork_server, args=(loop,), daemon=True).start()

    def _start_fork_server(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._context.Process(target=_do_nothing).start()
        finally:
            # a RuntimeError says that the loop is closed
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._fork_server_is_ready.set)

    def app(self) -> web.Application:
        """Make the web application of the control API."""
        app = web.Application(handler_args={"handler_cancellation": True})
        app.add_routes(
            [
                web.post("/env-instance", self.create_instance),
                web.get("/env-instance/list", self.list_instances),
                web.get("/env-instance/{name}/list", self.list_instances),
                web.get("/env-instance/{id}", self.get_instance),
                web.delete("/env-instance/{id}", self.delete_instance),
                web.get("/health", self.health),
            ]
        )
        return app

    async def create_instance(self, request: web.Request) -> web.Response:
        """Create an instance, and wait for its start if there is room for it."""
        try:
            asked = await request.json()
            env_name = asked.get("envName")
            if env_name != self.name_and_version:
                reason = f"no environment {env_name!r}, only {self.name_and_version}"
                return _reply(message=reason, code=404)
            instance = self._new_instance(asked)
        except (ValueError, AttributeError) as error:
            return _reply(message=f"bad request: {error}", code=400)
        alive = [other for other in self.instances.values() if not other.lifecycle.done()]
        has_room = len(alive) < self.max_instances
        self.instances[instance.id] = instance
        instance.lifecycle = asyncio.create_task(self._live(instance))
        try:
            if has_room:
                # a caller that waits here need not ask again
                instance.asked_at = math.inf
                async with asyncio.timeout(START_TIMEOUT):
                    await instance.started.wait()
        except TimeoutError:
            # the caller gets the status Creating, and asks again
            pass
        except asyncio.CancelledError:
            # the caller is gone, and nobody else knows the id
            del self.instances[instance.id]
            instance.lifecycle.cancel()
            raise
        instance.asked_at = time.monotonic()
        if instance.status == "Failed":
            # the caller does not learn the id
            del self.instances[instance.id]
            return _reply(message=instance.message, code=422)
        return _reply(instance.public())

    def _new_instance(self, asked: dict) -> Instance:
        variables = asked.get("environment_variables") or {}
        for name, value in variables.items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise ValueError("environment_variables must be strings")
        ttl = duration_in_seconds(str(asked.get("ttl") or ""))
        instance_id = f"{self.name}-{next(self._numbers)}"
        socket = f"{self.folder}/{instance_id}"
        return Instance(
            instance_id, socket, ttl, asked.get("labels"), asked.get("owner"), variables
        )

    async def get_instance(self, request: web.Request) -> web.Response:
        """Show an instance."""
        instance_id = request.match_info["id"]
        instance = self.instances.get(instance_id)
        if instance is None:
            return _reply(message=f"no instance {instance_id}", code=404)
        instance.asked_at = time.monotonic()
        return _reply(instance.public(), message=instance.message)

    async def list_instances(self, request: web.Request) -> web.Response:
        """List the instances of an environment, or of all; the query may name a status."""
        name = request.match_info.get("name", "*")
        status = request.query.get("status")
        listed = []
        if name in ("*", self.name, self.name_and_version):
            for instance in self.instances.values():
                if status in (None, instance.status):
                    listed.append(instance.public())
        # The real service lists by name only, as its command `aenv instance list` asks. The SDK's
        # client asks without a name, and wants `items`.
        return _reply(listed if "name" in request.match_info else {"items": listed})

    async def delete_instance(self, request: web.Request) -> web.Response:
        """End an instance, and answer when it has ended."""
        instance_id = request.match_info["id"]
        instance = self.instances.pop(instance_id, None)
        if instance is None:
            return _reply(message=f"no instance {instance_id}", code=404)
        instance.lifecycle.cancel()
        await asyncio.wait([instance.lifecycle])
        return _reply({})

    async def health(self, request: web.Request) -> web.Response:
        """Say that the service is up."""
        return _reply({"status": "healthy"})

    async def close(self) -> None:
        """End all instances."""
        lifecycles = [instance.lifecycle for instance in self.instances.values()]
        for lifecycle in lifecycles:
            lifecycle.cancel()
        await asyncio.gather(*lifecycles, return_exceptions=True)

    async def _live(self, instance: Instance) -> None:
        """Wait for a place, run the instance's process, and record how it ended."""
        try:
            await self._fork_server_is_ready.wait()
            async with self._places, asyncio.timeout(instance.ttl):
                if time.monotonic() - instance.asked_at > ABANDONED_AFTER:
                    raise RuntimeError("nobody has asked for it while it waited for room")
                await self._run_process(instance)
        except TimeoutError:
            # the SDK waits for ever for an instance that is Terminated before it was Running
            status = "Terminated" if instance.status == "Running" else "Failed"
            reason = f"its time to live of {instance.ttl:g} s is over"
            instance.set_status(status, f"{instance.id}: {reason}")
        except Exception as error:
            instance.set_status("Failed", f"{instance.id}: {error}")
            logger.warning("%s", instance.message)
        asyncio.get_running_loop().call_later(KEPT_AFTER_END, self.instances.pop, instance.id, None)

    async def _run_process(self, instance: Instance) -> None:
        """Run the instance's process until it ends by itself, or this is cancelled.

        Raises:
            RuntimeError: the process cannot play the episode, or has ended.
        """
        process, report = self._fork(instance)
        try:
            await _readable(report.fileno())
            problem = report.recv()
            if problem:
                raise RuntimeError(problem)
            connector = UnixConnector(instance.socket, limit=0)
            timeout = ClientTimeout(None)
            async with ClientSession(connector=connector, timeout=timeout) as instance.http:
                instance.set_status("Running")
                await _readable(process.sentinel)
            raise EOFError
        except EOFError:
            process.join()
            raise RuntimeError(f"its process ended with status {process.exitcode}") from None
        finally:
            report.close()
            # nothing of an episode outlives its instance
            process.kill()
            process.join()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(instance.socket)

    def _fork(self, instance: Instance) -> tuple[BaseProcess, Connection]:
        """Start an instance's process; its report comes over the connection."""
        receiver, sender = self._context.Pipe(duplex=False)
        arguments = (str(ENVIRONMENT_FOLDER / "src"), instance.variables, instance.socket, sender)
        process = self._context.Process(target=_serve_instance, args=arguments, name=instance.id)
        process.start()
        sender.close()
        return process, receiver


def _do_nothing() -> None:
    """Return at once: the fork server runs this first, as soon as it has read its files."""


def _serve_instance(
    folder: str, variables: dict[str, str], socket: str, report: Connection
) -> None:
    # the fork server has imported this module; the service itself never does, as that takes seconds
    from aenv.examples.tau2_rl.service.instance import serve_instance

    serve_instance(folder, variables, socket, report)


def duration_in_seconds(text: str) -> float:
    """Convert a duration in Go's notation, e.g. 1h30m, or a number of seconds; empty: the default.

    Raises:
        ValueError: the text has another form.
    """
    if not text:
        return DEFAULT_TTL
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|)", text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"ttl {text!r} is not a duration such as 90s or 1h30m")
    return sum(float(number) * units[unit] for number, unit in parts)


def _reply(data: dict | list | None = None, message: str = "", code: int = 0) -> web.Response:
    envelope = {"success": code == 0, "code": code, "message": message, "data": data}
    return web.json_response(envelope, status=code or 200)


async def _readable(file: int) -> None:
    """Wait until a file descriptor has something to read, or is at its end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(file, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(file)
