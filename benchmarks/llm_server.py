"""An LLM server on loopback that answers at once: agent and user of tau2's base tasks, who do what is expected of them."""

import asyncio
import json
import re
from multiprocessing.connection import Connection

from examples.tau2.episode import environment
from tests.scripted import ground_truth

KEY = re.compile(rb"authorization: bearer ([^\r]+)", re.IGNORECASE)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
TASK = re.compile(rb"\(task ([^)]+)\)")
OWN_TURN = re.compile(rb'"role": ?"assistant"')  # quotes inside of texts are escaped


def serve(domains: tuple[str, ...], address: Connection, solo_mode: bool = False) -> None:
    """Send the server's URL over `address`, then serve until killed.

    The agent is at `<url>/agent/v1`, where the API key is `<domain>/<task id>`; the user is at `<url>/user/v1`.
    """
    agents: dict[str, list[bytes]] = {}
    users: dict[str, list[bytes]] = {}
    for domain in domains:
        for id in environment.task_splits(domain)["base"]:
            name, task = f"{domain}/{id}", environment.find_task(domain, id)
            if solo_mode and not environment.playable_solo(task):
                continue
            agent, user = ground_truth(task, solo_mode)
            for message in (said["choices"][0]["message"] for said in agent):
                if message["content"]:
                    message["content"] += (
                        f" (task {name})"  # tells the user's script which one it is
                    )
            agents[name], users[name] = [list(map(_response, side)) for side in (agent, user)]
    hello = b"" if solo_mode else users[name][0]
    greetings = 0 if solo_mode else 1  # tau2 itself greets the user

    def answer(head: bytes, body: bytes) -> bytes:
        own_turns = len(OWN_TURN.findall(body))
        if not head.startswith(b"POST /user/"):
            return agents[KEY.search(head)[1].decode()][own_turns - greetings]
        return users[TASK.search(body)[1].decode()][own_turns] if own_turns else hello

    class Connected(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.transport, self.received = transport, b""

        def data_received(self, data: bytes) -> None:
            self.received += data
            head, end, body = self.received.partition(b"\r\n\r\n")
            if end and len(body) == int(LENGTH.search(head)[1]):
                self.received = b""
                self.transport.write(answer(head, body))

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            Connected, "127.0.0.1", 0, backlog=1024
        )
        address.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(run())


def _response(completion: dict) -> bytes:
    body = json.dumps(completion).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
