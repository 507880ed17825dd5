"""Serves scripted LLMs on loopback, which answer at once: agent and user of tau2's base tasks.

Agent and user do what the task expects of them.
"""

import asyncio
import json
import re
from multiprocessing.connection import Connection
from typing import cast

from examples.tau2.episode import environment
from tests.scripted import ground_truth

KEY = re.compile(rb"authorization: bearer ([^\r]+)", re.IGNORECASE)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
TASK = re.compile(rb"\(task ([^)]+)\)")
# it does not match inside of texts, where quotes are escaped
OWN_TURN = re.compile(rb'"role": ?"assistant"')


def serve(domains: tuple[str, ...], address: Connection, solo_mode: bool = False) -> None:
    """Send the server's URL over `address`, then serve until killed.

    The agent is at `<url>/agent/v1`, and its API key is `<domain>/<task id>`. The user is at
    `<url>/user/v1`.
    """
    scripts = Scripts(domains, solo_mode)

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: ScriptedConnection(scripts), "127.0.0.1", 0, backlog=1024
        )
        port = server.sockets[0].getsockname()[1]
        address.send(f"http://127.0.0.1:{port}")
        await server.serve_forever()

    asyncio.run(run())


class Scripts:
    """The HTTP responses of all tasks' agents and users, in the order of their turns."""

    def __init__(self, domains: tuple[str, ...], solo_mode: bool):
        self.solo_mode = solo_mode
        self.agents: dict[str, list[bytes]] = {}
        self.users: dict[str, list[bytes]] = {}
        for domain in domains:
            for task_id in environment.task_splits(domain)["base"]:
                self._add_task(domain, task_id)
        # all users begin with the same words
        self.hello = b"" if solo_mode else next(iter(self.users.values()))[0]

    def _add_task(self, domain: str, task_id: str) -> None:
        task = environment.find_task(domain, task_id)
        if self.solo_mode and not environment.playable_solo(task):
            return
        label = f"{domain}/{task_id}"
        agent, user = ground_truth(task, self.solo_mode)
        for completion in agent:
            message = completion["choices"][0]["message"]
            # the label tells `answer` which user is asked next
            if message["content"]:
                message["content"] += f" (task {label})"
        self.agents[label] = [_response(completion) for completion in agent]
        self.users[label] = [_response(completion) for completion in user]

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Return the response to a request with this head and body."""
        own_turns = len(OWN_TURN.findall(body))
        if not head.startswith(b"POST /user/"):
            # tau2 itself greets the user, in the agent's name
            greetings = 0 if self.solo_mode else 1
            return self.agents[_first(KEY, head)][own_turns - greetings]
        if own_turns == 0:
            return self.hello
        return self.users[_first(TASK, body)][own_turns]


class ScriptedConnection(asyncio.Protocol):
    """A client's connection, on which it sends one request after another."""

    def __init__(self, scripts: Scripts):
        self.scripts = scripts
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if end and len(body) == int(_first(LENGTH, head)):
            self.received = b""
            self.transport.write(self.scripts.answer(head, body))


def _first(pattern: re.Pattern[bytes], data: bytes) -> str:
    """Return the group of the first match."""
    match = pattern.search(data)
    if match is None:
        raise ValueError(f"a request without {pattern.pattern!r}")
    return match[1].decode()


def _response(completion: dict) -> bytes:
    body = json.dumps(completion).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body
