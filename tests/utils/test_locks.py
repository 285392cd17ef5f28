"""A forked child finds locks free."""

import os
import signal
import threading

from processes import Child, needs_fork

from sktl._utils.locks import fork_safe_lock


@needs_fork
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child():
    lock, held, done = fork_safe_lock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    def take():
        signal.alarm(60)
        with lock:
            return os.getpid()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = Child(take)
    try:
        assert child.result() == child.pid
    finally:
        done.set()
        thread.join()
