"""Freed memory stays in the process during a block, whatever the environment says, and not longer."""

import json
import os
import platform
import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have other settings")

_N_ROUNDS, _PAGES = 50, 256  # of 4 KiB, in a buffer of 1 MiB
_SCRIPT = """
import ctypes, json, resource
from sktl._utils.freed_memory import freed_memory_kept

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        buffer = ctypes.create_string_buffer(1 << 20)
        ctypes.memset(buffer, 1, 1 << 20)
        del buffer
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = count_faults()
with freed_memory_kept.block():
    with freed_memory_kept.block():
        inside = count_faults()
    still_inside = count_faults()
print(json.dumps([before, inside, still_inside, count_faults()]))
"""


def faults(**environment):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=environment, check=True, capture_output=True, text=True, timeout=100
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(resource.getpagesize() != 4096, reason="the numbers below are for pages of 4 KiB")
def test_freed_memory_is_kept_in_the_block_alone():
    before, inside, still_inside, after = faults(**os.environ, MALLOC_TRIM_THRESHOLD_="65536")
    assert min(before, after) > _N_ROUNDS * _PAGES * 0.9
    assert max(inside, still_inside) < 4 * _PAGES
