"""What decides the bits of a device, and kernels that must not be taken."""

import subprocess
import sys

import pytest
import torch

from sktl._utils.torch_kernels import describe_arithmetic, uses_onednn


@pytest.mark.parametrize(
    ("name", "same"),
    [("MKL_NUM_THREADS", True), ("KMP_INIT_AT_FORK", True), ("MKL_CBWR", False), ("ONEDNN_MAX_CPU_ISA", False)],
)
def test_settings_of_threads_are_none_of_the_arithmetic(monkeypatch, name, same):
    monkeypatch.delenv(name, raising=False)
    before = describe_arithmetic(torch.device("cpu"))
    monkeypatch.setenv(name, "1")
    assert (describe_arithmetic(torch.device("cpu")) == before) == same


@pytest.mark.thorough
def test_the_gradient_of_a_strided_pointwise_convolution_of_few_channels_does_not_end_the_process():
    program = """
import torch
from sktl._utils.torch_kernels import place

for channels in (3, 8, 16) * 6:
    network = place(place(torch.nn.Conv2d(channels, 48, 1, stride=2), torch.device("cpu")), torch.device("cpu"))
    assert len(network._forward_pre_hooks) == 1
    images = torch.randn(2, channels, 256, 256).contiguous(memory_format=torch.channels_last)
    found = torch.autograd.grad(network(images).square().sum(), list(network.parameters()))
    columns = images[:, :, ::2, ::2].permute(0, 2, 3, 1).reshape(-1, channels)
    outputs = columns @ network.weight[:, :, 0, 0].T + network.bias
    expected = torch.autograd.grad(outputs.square().sum(), [network.weight, network.bias])
    for a, b in zip(found, expected):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
    junk = [torch.randn(n) for n in range(1, 2000, 7)]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "arm64", "aarch64"])
def test_onednn_is_for_x86_processors(monkeypatch, machine):
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert uses_onednn(torch.device("cpu")) == (machine.lower() in ("x86_64", "amd64"))
    assert not uses_onednn(torch.device("cuda"))
