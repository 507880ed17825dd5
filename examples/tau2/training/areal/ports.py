"""Keeps the ports apart that AReaL draws for runs on one machine."""

import logging
import random
import socket

from areal.utils import network

logger = logging.getLogger(__name__)

is_free = network.is_port_free
# the sockets whose names reserve the ports that this process has drawn
reserved: list[socket.socket] = []


def draw_ports_apart() -> None:
    """Have AReaL give this process no port that any process on the machine was given before.

    AReaL draws a port at random, and a server listens on it seconds or minutes later. Until then
    another run can draw the same port. It even does so for certain if it starts at the same time,
    because AReaL seeds the random numbers with the seed of the config.
    """
    # pyrefly: ignore[bad-assignment]  # AReaL uses randint only
    network.random = random.SystemRandom()
    network.is_port_free = reserve


def reserve(port: int) -> bool:
    """Reserve a free port for this process. Return False if that fails: AReaL then draws another.

    The reservation is an abstract Unix socket of the port's name. Like ports, these names belong to
    the network namespace, and the kernel frees a name when the process ends.
    """
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0areal-port-{port}")
    except OSError:
        name.close()
        logger.info("Port %d was drawn before; another one is drawn.", port)
        return False
    reserved.append(name)
    return is_free(port)
