"""End all processes of a run with the run, however the run ends. Linux only.

AReaL's controller starts workers, and those start servers. They live on when the controller is
killed, crashes or hangs. So the run is the child of a small process, the supervisor, which adopts
every orphan among its descendants, and ends them all.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable

# options of prctl(2), by linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Ctrl-C, kill, and a terminal that closes
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# seconds that a run has to end by itself when it is asked to
GRACE = 20.0


def supervise(run: Callable[[Callable[[float], None]], int]) -> int:
    """Execute `run(set_deadline)` in a child process, and return its exit status.

    No descendant is left when this returns. The run may call `set_deadline(seconds from now)`.
    A signal ends the run with status 128 + the signal's number, and a deadline with 124, as
    timeout(1) does. Call this before there are threads.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    context = multiprocessing.get_context("fork")
    deadline = context.Value("d", float("inf"))
    # a signal that is ignored stays ignored: under nohup, that is SIGHUP
    signals = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]

    def set_deadline(seconds: float) -> None:
        deadline.value = time.time() + seconds

    def exit_on_signal(number: int, frame: object) -> None:
        sys.exit(128 + number)

    def child() -> None:
        # the child ends its descendants itself if its parent cannot, after a SIGKILL
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        for number in signals:
            signal.signal(number, exit_on_signal)
        try:
            sys.exit(run(set_deadline))
        finally:
            end_descendants()

    received: list[int] = []

    def remember_signal(number: int, frame: object) -> None:
        received.append(number)

    for number in signals:
        signal.signal(number, remember_signal)
    process = context.Process(target=child)
    process.start()
    while process.is_alive() and not received and time.time() < deadline.value:
        process.join(0.2)
    if process.pid is not None and process.is_alive():
        if not received:
            message = f"The run's deadline has passed; ending it within {GRACE:.0f} s."
            print(message, file=sys.stderr, flush=True)
        os.kill(process.pid, received[0] if received else signal.SIGTERM)
        process.join(GRACE)
    end_descendants()
    process.join()
    status = process.exitcode or 0
    if received:
        return 128 + received[0]
    if time.time() >= deadline.value and status != 0:
        return 124
    # multiprocessing's status of a process that a signal ended is minus the signal's number
    return status if status >= 0 else 128 - status


def end_descendants(patience: float = 5.0) -> None:
    """End every process that this one has started or adopted.

    A process gets SIGTERM, and SIGKILL after `patience` seconds.
    """
    import psutil

    # a process that is forked meanwhile is found in the next round
    for attempt in range(100):
        processes = psutil.Process().children(recursive=True)
        if not processes:
            return
        for process in processes:
            try:
                if attempt == 0:
                    process.terminate()
                else:
                    process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=patience if attempt == 0 else 1.0)


def prctl(option: int, value: int) -> None:
    """Call prctl(2), which sets what the kernel does with this process."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
