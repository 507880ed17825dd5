"""A run that cannot go on ends with the reason, wherever its main thread waits."""

import threading
import time

import pytest

from examples.tau2.training.watchdog import watchdog


def test_a_reason_ends_what_the_main_thread_waits_for():
    lock = threading.Lock()
    lock.acquire()
    for wait in (lambda: time.sleep(3600), threading.Event().wait, lock.acquire):
        with (
            pytest.raises(RuntimeError, match="the server is gone"),
            watchdog(lambda: "the server is gone", 0.1),
        ):
            wait()


def test_a_reason_that_is_caught_is_raised_again():
    caught = []
    with pytest.raises(RuntimeError), watchdog(lambda: "it is gone", 0.1):
        while len(caught) < 3:
            try:
                time.sleep(3600)
            except RuntimeError as error:
                caught.append(str(error))
        time.sleep(3600)
    assert caught == ["it is gone"] * 3


def test_a_watchdog_that_cannot_find_out_asks_again():
    asked = []

    def why_stuck() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise OSError("too many open files")
        return "it is gone"

    with pytest.raises(RuntimeError, match="it is gone"), watchdog(why_stuck, 0.01):
        time.sleep(3600)


def test_the_reason_replaces_an_error_that_comes_first():
    with pytest.raises(RuntimeError, match="it is gone") as raised, watchdog(lambda: "it is gone"):
        raise OSError("cannot connect")
    assert "cannot connect" in str(raised.value.__cause__)


def test_an_error_without_a_reason_is_raised_as_it_is():
    with pytest.raises(OSError, match="cannot connect"), watchdog(lambda: None):
        raise OSError("cannot connect")


def test_without_a_reason_nothing_happens():
    asked = threading.Event()
    with watchdog(asked.set, 0.01):
        asked.wait()
