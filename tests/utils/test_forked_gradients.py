"""Gradients after a fork: torch decides once per process, so each case is a process of its own."""

import ast
import os
import subprocess
import sys

import pytest
from processes import ROOTS, needs_fork

pytestmark = [needs_fork, pytest.mark.thorough]
_PROGRAM = """
import sys
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from backbones import small_conv_net
from processes import in_child
from sktl import PretrainedImageClassifier, SaliencyDisplay
from sktl._utils.forked_gradients import check_gradients, keep_gradients_possible
from sktl.exceptions import DeviceError

X = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
Y = np.arange(8) % 2
clf = PretrainedImageClassifier(backbone=small_conv_net, engine="torch", random_state=0).fit(X, Y)

def refusal(function):
    try:
        function()
    except DeviceError as error:
        return str(error)

def tried():
    keep_gradients_possible()
    stages = PretrainedImageClassifier(backbone=small_conv_net, trainable_stages=1, max_epochs=1)
    clf.fit(X, Y).predict(X)
    return [refusal(f) for f in (
        check_gradients, lambda: stages.fit(X, Y), lambda: SaliencyDisplay.from_estimator(clf, X[:1])
    )]

def decided(early):  # torch decides before or after it simulates devices
    if early:
        keep_gradients_possible()
    with FakeTensorMode():  # as torch.export and torch.compile do
        pass
    torch.set_num_threads(1)  # in a fork, threads that start at once may all create torch's pool of threads, and abort
    torch.ones((), requires_grad=True).mul(1).backward()
    return in_child(tried)

for early in (True, False):
    print(in_child(decided, early))
"""


def test_gradients_are_kept_possible_or_refused_at_once_and_an_output_layer_needs_none():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    early, late = map(ast.literal_eval, done.stdout.strip().splitlines()[-2:])
    assert early == [None] * 3
    assert all('by "spawn"' in refusal for refusal in late)
