"""Notices that a run cannot go on: a server has ended, or all groups are rejected."""

import socket
from dataclasses import dataclass, field

from areal.utils.network import split_hostport

# batches of groups that may be rejected in a row
MAX_REJECTED_BATCHES = 20
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
    """Notices that group after group is rejected. AReaL would play groups forever."""

    batch_size: int
    # AReaL's counts at the time when a group was accepted last
    accepted: int = 0
    rejected: int = 0

    def all_rejected(self, accepted: int, rejected: int) -> str | None:
        """Return a sentence if too many groups in a row were rejected, by AReaL's counts."""
        if accepted != self.accepted:
            self.accepted, self.rejected = accepted, rejected
        in_a_row = rejected - self.rejected
        if in_a_row < MAX_REJECTED_BATCHES * self.batch_size:
            return None
        return (
            f"the last {in_a_row} groups were all rejected: each had an episode that says nothing "
            "about the agent (EpisodeRejected, in the log, says why), or equal rewards "
            "(group_filter)"
        )
