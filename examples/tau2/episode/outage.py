"""Logs the outages of the user simulator and of the judge, for all episodes of a process."""

import logging
import math
import time

from examples.tau2.episode.failures import describe_error

logger = logging.getLogger(__name__)

# seconds between two warnings that calls of an LLM fail
WARNING_INTERVAL = 60.0
# an outage that was shorter, in seconds, gets no line when it ends
SHORTEST_LOGGED_OUTAGE = 3.0


class Outage:
    """Counts failed calls of an LLM, and logs one line a minute about them.

    It makes no difference whether all calls fail or only a few. One more line tells when an outage
    ends.
    """

    def __init__(self, role: str):
        self.role = role
        self.since: float | None = None
        self.failures = 0
        self.warned_at = -math.inf

    def failed(self, cause: Exception) -> None:
        """Count a failed call, and log it if no warning was logged in the last minute."""
        now = time.monotonic()
        self.failures += 1
        if self.since is None:
            self.since = now
        if now - self.warned_at > WARNING_INTERVAL:
            logger.warning(
                "%s fails (%s); failed calls so far: %d; retrying until the episodes' deadlines",
                self.role,
                describe_error(cause),
                self.failures,
            )
            self.warned_at = now

    def recovered(self) -> None:
        """End the outage, if there is one, after a call that did not fail."""
        if self.since is None:
            return
        seconds = time.monotonic() - self.since
        if seconds > SHORTEST_LOGGED_OUTAGE:
            logger.warning(
                "%s answers again after %.0f s and %d failed calls",
                self.role,
                seconds,
                self.failures,
            )
            self.failures = 0
        self.since = None


# the outages of this process: all its episodes have the same user simulator, and the same judge
user_outage = Outage("user simulator")
judge_outage = Outage("judge")
