"""Which processes of this machine are running."""

from __future__ import annotations

import subprocess
import sys

from sktl._utils.processes import is_running


def test_is_running_tells_the_living_from_the_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_running(process.pid)
    process.communicate(b"\n", timeout=60)
    assert not is_running(process.pid)
