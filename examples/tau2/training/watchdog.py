"""End a run that cannot go on, and say why: AReaL 1.0.4 waits for lost workers for hours."""

import logging
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# seconds between two looks at the run
INTERVAL = 10.0


@contextmanager
def watchdog(why_stuck: Callable[[], str | None], interval: float = INTERVAL) -> Generator[None]:
    """End the block once `why_stuck()` is not None.

    The block runs in the main thread; a thread of the watchdog calls `why_stuck`.

    Raises:
        RuntimeError: the run cannot go on; the message is what `why_stuck` returned. The error is
            raised again if the block catches it. It replaces another error that the block raises
            when the run cannot go on.
    """
    main_thread = threading.get_ident()
    over = threading.Event()
    reason = ""

    def ask() -> str | None:
        try:
            return why_stuck()
        except Exception:
            logger.warning("The watchdog cannot find out whether the run can go on.", exc_info=True)
            return None

    def watch() -> None:
        nonlocal reason
        while not over.wait(interval):
            answer = ask()
            if answer is not None:
                reason = answer
                signal.pthread_kill(main_thread, signal.SIGUSR1)

    def interrupt(number: int, frame: object) -> None:
        if not over.is_set():
            raise RuntimeError(reason)

    handler_before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        over.set()
        answer = ask()
        if answer is None:
            raise
        raise RuntimeError(answer) from error
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, handler_before)
