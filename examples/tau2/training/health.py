"""Notices that a run cannot go on: a server has ended, or all groups are rejected."""

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from areal.utils.network import split_hostport

# batches of groups that may be rejected in a row: for any cause, and for one that does not pass
MAX_REJECTED_BATCHES = 20
MAX_REFUSED_BATCHES = 3
# what AReaL logs of an episode that this project rejects; the regular expression finds the cause
REJECTION = re.compile(
    rb"Agent task failed \(EpisodeRejected: .*?task .+?: (.*)\)\. This trajectory will be rejected"
)
# the bytes at the end of a log that are read
LOG_TAIL = 2**20
# the characters by which causes are compared: servers end their messages with the call's number
CAUSE_BEGINNING = 60
# seconds that a connection may take
CONNECT_TIMEOUT = 5.0


@dataclass
class ServerWatch:
    """Notices that a server has ended. AReaL would go on to send it groups, and reject each."""

    reached: set[str] = field(default_factory=set)

    def ended_server(self, servers: dict[str, str]) -> str | None:
        """Return a sentence on the first server that has ended; None if there is none.

        `servers` has the name of each server, by its address. A server that has never listened when
        this was called may still be starting.
        """
        for address, server in servers.items():
            if may_listen(address):
                self.reached.add(address)
            elif address in self.reached:
                return f"{server} at {address} has ended: nothing listens there any more"
        return None


def may_listen(address: str) -> bool:
    """Return False if the address's machine says that nothing listens there.

    No answer at all can come from a busy server, or from the network.
    """
    try:
        socket.create_connection(split_hostport(address), CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        pass
    return True


@dataclass
class GroupWatch:
    """Notices that group after group is rejected. AReaL would play groups forever.

    `log` is the file to which the rollout workers log the episodes that they reject. A group of
    which at least `tolerated` + 1 episodes are rejected is rejected itself.
    """

    batch_size: int
    log: Path
    tolerated: int = 0
    # AReaL's counts at the time when a group was accepted last, and the size of the log
    accepted: int = 0
    rejected: int = 0
    log_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.log_size = size(self.log)

    def all_rejected(self, accepted: int, rejected: int) -> str | None:
        """Return a sentence if too many groups in a row were rejected, by AReaL's counts."""
        if accepted != self.accepted:
            self.accepted, self.rejected, self.log_size = accepted, rejected, size(self.log)
        in_a_row = rejected - self.rejected
        if in_a_row < MAX_REFUSED_BATCHES * self.batch_size:
            return None
        causes = rejections(self.log, self.log_size)
        found = f"the last {in_a_row} groups were all rejected: "
        if len(causes) >= in_a_row * (self.tolerated + 1) and is_lasting(causes):
            return f"{found}each had episodes that failed in the same way: {causes[-1]}"
        if in_a_row < MAX_REJECTED_BATCHES * self.batch_size:
            return None
        cause = f"; the last cause: {causes[-1]}" if causes else ""
        return (
            f"{found}each had too many rejected episodes (EpisodeRejected, in the log, says "
            f"why{cause}), or taught nothing (group_filter)"
        )


def is_lasting(causes: list[str]) -> bool:
    """Tell whether all episodes were rejected for one cause, and not because their time was up.

    A server that is down for a while uses up the deadline of episodes; a refusal comes at once.
    """
    beginnings = {cause[:CAUSE_BEGINNING] for cause in causes}
    return len(beginnings) == 1 and "deadline of" not in causes[-1]


def rejections(log: Path, start: int) -> list[str]:
    """Read from a rollout worker's log why episodes were rejected, from the byte `start` on.

    The causes are in the order in which they happened. At most the end of the log is read.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, size(log) - LOG_TAIL))
            return [cause.decode(errors="replace") for cause in REJECTION.findall(file.read())]
    except OSError:
        return []


def size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
