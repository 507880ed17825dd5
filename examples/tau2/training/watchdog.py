"""A run that cannot go on ends, and says why: AReaL 1.0.4 waits for workers that are gone, for hours."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EVERY = 10.0  # seconds


@contextmanager
def watchdog(complaint: Callable[[], str | None], every: float = EVERY) -> Iterator[None]:
    """End the block, which runs in the main thread, once `complaint()` is not None; it is asked in a thread of its own.

    Raises:
        RuntimeError: the complaint; again and again, should the block catch it, and in place of what the block raises.
    """
    main, over, found = threading.main_thread().ident, threading.Event(), ""

    def ask() -> str | None:
        try:
            return complaint()
        except Exception:  # it could not find out
            logger.warning("The watchdog cannot look after the run now.", exc_info=True)
            return None

    def watch() -> None:
        nonlocal found
        while not over.wait(every):
            said = ask()
            if said is not None:
                found = said
                signal.pthread_kill(main, signal.SIGUSR1)

    def interrupt(_number, _frame) -> None:
        if not over.is_set():
            raise RuntimeError(found)

    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        over.set()
        if (said := ask()) is None:
            raise
        raise RuntimeError(said) from error
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
