import threading
import time

import pytest

from examples.tau2.training.watchdog import watchdog


def test_a_complaint_ends_whatever_the_main_thread_waits_for():
    for wait in (lambda: time.sleep(60), threading.Event().wait, threading.Lock().acquire):
        with (
            pytest.raises(RuntimeError, match="the server is gone"),
            watchdog(lambda: "the server is gone", 0.1),
        ):
            wait()
            wait()  # the lock is free at first


def test_who_catches_a_complaint_gets_it_again():
    caught = []
    with pytest.raises(RuntimeError), watchdog(lambda: "it is gone", 0.1):
        while len(caught) < 3:
            try:
                time.sleep(60)
            except RuntimeError as error:
                caught.append(str(error))
        time.sleep(60)
    assert caught == ["it is gone"] * 3


def test_a_watchdog_that_cannot_find_out_asks_again():
    asked = []

    def complaint() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise OSError("too many open files")
        return "it is gone"

    with pytest.raises(RuntimeError, match="it is gone"), watchdog(complaint, 0.01):
        time.sleep(60)


def test_a_complaint_explains_what_fails_before_it_is_asked_for():
    for complaint, said in (
        (lambda: "the server is gone", "the server is gone"),
        (lambda: None, "cannot connect"),
    ):
        with pytest.raises((RuntimeError, OSError), match=said) as raised, watchdog(complaint):
            raise OSError("cannot connect")
        assert "cannot connect" in str(raised.value.__cause__ or raised.value)


def test_without_a_complaint_nothing_happens():
    asked = threading.Event()
    with watchdog(asked.set, 0.01):
        asked.wait()
