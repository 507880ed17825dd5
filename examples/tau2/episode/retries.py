"""When an LLM is called again after a failure: the policy of the user simulator and the judge."""

import asyncio
import random
from typing import Any

from examples.tau2.episode.failures import UnusableAnswer, is_transient, retry_after
from examples.tau2.episode.outage import Outage

# the longest wait between two calls of an LLM that fails, in seconds, if its server names none
MAX_BACKOFF = 10.0
# the longest wait that a server may ask for, in seconds
MAX_RETRY_AFTER = 60.0
# after how many unusable answers an LLM is called for the last time
MAX_UNUSABLE_ANSWERS = 3


class Retries:
    """Counts the failures of an LLM on the way to one answer.

    `unusable` is the number of unusable answers; `last_error` is the last failure, None without
    any. A failing server is called again without a limit: a deadline has to end that.

    Args:
        outage: logs the failures for all episodes.
    """

    def __init__(self, outage: Outage):
        self._outage = outage
        self._failures = 0
        self.unusable = 0
        self.last_error: Exception | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of the next call, which override the LLM's own."""
        # at temperature 0, or with the same seed, the same unusable answer would come again
        return {"temperature": 1.0, "seed": None} if self.unusable else {}

    def allowed_after(self, error: Exception) -> bool:
        """Count a failure, and tell whether the LLM is called again."""
        self._failures += 1
        self.unusable += isinstance(error, UnusableAnswer)
        self.last_error = error
        allowed = is_transient(error) and self.unusable <= MAX_UNUSABLE_ANSWERS
        if allowed:
            self._outage.failed(error)
        return allowed

    async def pause(self) -> None:
        """Wait before the LLM is called again."""
        if self.last_error is not None:
            await asyncio.sleep(backoff(self._failures - 1, self.last_error))


def backoff(attempt: int, error: Exception) -> float:
    """Return the seconds to wait after a failed call.

    They are 0.25, 0.5, 1, ... up to `MAX_BACKOFF`, times a random factor; or more, if the server
    asks for it.
    """
    seconds = min(MAX_BACKOFF, 0.25 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)
    return max(seconds, min(MAX_RETRY_AFTER, retry_after(error)))
