"""Features, fits, saved and loaded models are the same whatever else has switched in the process."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import process_states
import pytest
from processes import needs_fork

BUNDLED = "efficientnet_lite0"
# torch then computes with other kernels. Their features have a key of their own.
OTHER_BITS = {"without_onednn"}


class Program:
    """The program that runs states in forked children."""

    def __init__(self, folder, *options):
        root = str(Path(process_states.sktl.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, *options, process_states.__file__, str(folder)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "SCIPY_ARRAY_API": "1"},
        )  # fmt: skip

    def run(self, names, backbone):
        """Return what is computed under states, and the features that a normal process finds afterwards."""
        print(json.dumps([names, backbone]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the program ended"
        found, later = json.loads(line)
        assert "error" not in found, found["error"]
        return found, later["features"]

    def end(self):
        self.process.kill()  # it has nothing to clear up, which takes torch a second
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("program"))
    yield program
    program.end()


@pytest.fixture(scope="module")
def expected(program):
    """Return what a normal process computes with a backbone."""
    return functools.cache(lambda backbone: program.run([], backbone)[0])


STATES = list(process_states.STATES)
# States of one group meet in one process. Neighbors in the list undo one another, and are in different groups.
_N_GROUPS = 4
_TOGETHER = [name for name in STATES if name not in OTHER_BITS]
GROUPS = [_TOGETHER[i::_N_GROUPS] for i in range(_N_GROUPS)] + [[name] for name in OTHER_BITS]


def _check(program, expected, backbone, names):
    reference = expected(backbone)
    found, later = program.run(names, backbone)
    assert later == reference["features"]  # a normal process never finds what was computed under another state
    assert OTHER_BITS.intersection(names) or found == reference


@needs_fork
@pytest.mark.parametrize("names", GROUPS, ids=", ".join)
def test_states_of_the_process_change_no_result(program, expected, names):
    _check(program, expected, None, names)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("backbone", [None, BUNDLED])
@pytest.mark.parametrize("name", STATES)
def test_the_state_of_the_process_changes_no_result(program, expected, backbone, name):
    _check(program, expected, backbone, [name])


@needs_fork
@pytest.mark.slow  # each compiles all that it imports
@pytest.mark.parametrize(
    "options", [("-OO", "-W", "error"), ("-O",), ("-OO",), ("-W", "error"), ("-X", "dev")], ids=" ".join
)
def test_options_of_python_change_no_result(expected, options, tmp_path):
    program = Program(tmp_path, *options)
    try:
        assert program.run([], None)[0] == expected(None)
    finally:
        program.end()
