"""Which device a parameter names, and what is said where there is none."""

import pytest
import torch

from sktl._utils.devices import available_devices, resolve_device
from sktl.exceptions import DeviceError


def lend(monkeypatch, **counts):
    """Let torch report these accelerators and no other."""
    for kind in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda kind=kind: kind in counts)
        monkeypatch.setattr(getattr(torch, kind), "device_count", lambda kind=kind: counts[kind])
        monkeypatch.setattr(getattr(torch, kind), "current_device", lambda kind=kind: counts[kind] - 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in counts)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch):
    lend(monkeypatch)
    assert available_devices() == ["cpu"]
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("counts", "present"),
    [
        ({"cuda": 2}, ["cuda", "cuda:0", "cuda:1", "cpu"]),
        ({"mps": 1}, ["mps", "mps:0", "cpu"]),
        ({"xpu": 1, "cuda": 1}, ["cuda", "cuda:0", "xpu", "xpu:0", "cpu"]),
    ],
)
def test_auto_is_the_best_accelerator(monkeypatch, counts, present):
    lend(monkeypatch, **counts)
    assert available_devices() == present
    assert resolve_device("auto") == resolve_device(present[0])
    for name in present:
        found = resolve_device(name)
        assert found == resolve_device(torch.device(name))
        if name in counts and name != "mps":  # the current one, by its number: the pass has threads of its own
            assert found == torch.device(name, counts[name] - 1)
        else:
            assert found == torch.device(name)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)])
def test_every_way_to_name_the_cpu(device):
    assert resolve_device(device) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", "gpu", "", "meta", "CPU", torch.device("cuda", 3)])
def test_an_absent_or_unknown_device_names_those_present(monkeypatch, device):
    lend(monkeypatch)
    with pytest.raises(
        DeviceError, match=rf"device='{device}' is unavailable: PyTorch .* sees only 'cpu'.*device=\"auto\""
    ):
        resolve_device(device)


def test_an_accelerator_with_a_number_too_high_names_those_present(monkeypatch):
    lend(monkeypatch, cuda=1)
    with pytest.raises(DeviceError, match=r"device='cuda:1'.*sees only 'cuda', 'cuda:0', 'cpu'"):
        resolve_device("cuda:1")
