"""What a converter prints and logs is dropped in its own thread, and nothing of other threads is."""

from __future__ import annotations

import logging
import sys
import threading
import types

import pytest

from sktl._deployment.quiet_converters import mute, silent_thread


@pytest.fixture
def chatty(monkeypatch):
    """Return a function of a muted module that prints and logs its argument."""
    module = types.ModuleType("chatty.module")
    exec("import logging\ndef say(text):\n    print(text)\n    logging.warning(text)", vars(module))
    monkeypatch.setitem(sys.modules, "chatty.module", module)
    mute("chatty")
    return module.say


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join(60)


def test_only_the_calling_thread_is_silent(chatty, capsys, caplog):
    with silent_thread():
        chatty("mine")
        in_thread(chatty, "another's")
        print("printed by another module")
    chatty("later")
    assert capsys.readouterr().out == "another's\nprinted by another module\nlater\n"
    assert caplog.messages == ["another's", "later"]


def test_blocks_that_overlap_in_threads_leave_everything_as_before(chatty, capsys, caplog):
    before = sys.stdout, logging.root.level, logging.root.manager.disable, list(logging.root.filters)
    entered, left = threading.Event(), threading.Event()

    def outlasts():
        with silent_thread():
            entered.set()
            assert left.wait(60)
            chatty("theirs")

    thread = threading.Thread(target=outlasts)
    with silent_thread():
        thread.start()
        assert entered.wait(60)
        with silent_thread():
            chatty("mine")
        chatty("still mine")
    left.set()
    chatty("heard")
    thread.join(60)
    assert (sys.stdout, logging.root.level, logging.root.manager.disable, list(logging.root.filters)) == before
    assert (capsys.readouterr().out, caplog.messages) == ("heard\n", ["heard"])


def test_the_program_can_still_configure_its_logs(chatty, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    with silent_thread():
        chatty("mine")
    chatty("heard")
    assert not logging.root.handlers
