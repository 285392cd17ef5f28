"""Optimizers can be created in a process whose working folder has been removed, and leave it there."""

import os
import subprocess
import sys

import pytest
from processes import ROOTS, needs_fork

PROGRAM = """
import os, sys
import torch
from sktl._training.optimizers import find_optimizer

assert "torch._dynamo" not in sys.modules
os.rmdir(os.getcwd())
before = os.stat(".")
kind, options = find_optimizer("adamw")
kind([torch.nn.Parameter(torch.ones(2))], **options).zero_grad()
assert os.path.samestat(os.stat("."), before)
"""


@needs_fork  # other systems do not remove a folder that is in use
@pytest.mark.thorough
def test_optimizers_need_no_working_folder(tmp_path):
    (folder := tmp_path / "folder").mkdir()
    path = os.pathsep.join([*ROOTS, os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()
