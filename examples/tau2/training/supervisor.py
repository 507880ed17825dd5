"""A run leaves nothing behind: however its process ends, all the processes it started end with it.

AReaL's controller starts workers, and those start servers; when it is killed, crashes or hangs, they live on. So the run
is the child of a small process that adopts every orphan among its descendants and ends them all. Linux only.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, a terminal that closes
GRACE = 20.0  # seconds between asking a run to end and ending it


def supervise(run: Callable[[Callable[[float], None]], int]) -> int:
    """Execute `run(set_deadline)` in a child process and return its exit status, once no descendant is left.

    `set_deadline(seconds from now)` may be called by the run. A signal ends it with status 128 + its number, its deadline
    with 124 (as timeout(1) does). To be called before threads exist.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    context = multiprocessing.get_context("fork")
    deadline = context.Value("d", float("inf"))

    signals = [
        number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN
    ]  # nohup ignores SIGHUP

    def child() -> None:
        prctl(
            PR_SET_CHILD_SUBREAPER, 1
        )  # it cleans up itself where its parent cannot: after a SIGKILL of that one
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        for number in signals:
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))
        try:
            sys.exit(run(lambda seconds: setattr(deadline, "value", time.time() + seconds)))
        finally:
            end_descendants()

    received: list[int] = []
    for number in signals:
        signal.signal(number, lambda number, _frame: received.append(number))
    process = context.Process(target=child)
    process.start()
    while process.is_alive() and not received and time.time() < deadline.value:
        process.join(0.2)
    if process.is_alive():
        if not received:
            print(
                f"The run's deadline has passed; ending it within {GRACE:.0f} s.",
                file=sys.stderr,
                flush=True,
            )
        os.kill(process.pid, received[0] if received else signal.SIGTERM)
        process.join(GRACE)
    end_descendants()
    process.join()
    if received:
        return 128 + received[0]
    if time.time() >= deadline.value and process.exitcode != 0:
        return 124
    return process.exitcode if process.exitcode >= 0 else 128 - process.exitcode


def end_descendants(patience: float = 5.0) -> None:
    """End every process that this one has started or adopted: SIGTERM, and SIGKILL after `patience` seconds."""
    import psutil

    for attempt in range(100):  # one that is being forked meanwhile is found in the next round
        processes = psutil.Process().children(recursive=True)
        if not processes:
            return
        for process in processes:
            try:
                process.terminate() if attempt == 0 else process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=patience if attempt == 0 else 1.0)


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
