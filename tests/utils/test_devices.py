"""Which device a parameter names, and what is said where there is none."""

import re

import pytest
import torch

from sktl._utils import devices as _devices
from sktl._utils.devices import available_devices, check_precision, computes_in_bfloat16, resolve_device
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


@pytest.mark.parametrize("device", [None, 3.5, [1]])
def test_what_is_no_device_is_shown_as_it_is(device):
    with pytest.raises(DeviceError, match=rf"device={re.escape(repr(device))} is unavailable"):
        resolve_device(device)


def test_an_accelerator_with_a_number_too_high_names_those_present(monkeypatch):
    lend(monkeypatch, cuda=1)
    with pytest.raises(DeviceError, match=r"device='cuda:1'.*sees only 'cuda', 'cuda:0', 'cpu'"):
        resolve_device("cuda:1")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "ppc64le"])
def test_processors_compute_in_bfloat16_if_they_have_instructions_for_it(monkeypatch, tmp_path, machine, native):
    (tmp_path / "cpuinfo").write_text("Features : fp asimd" + " bf16" * native + "\n")
    monkeypatch.setattr(_devices, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(_devices.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    _devices._processor_computes_in_bfloat16.cache_clear()
    assert computes_in_bfloat16(torch.device("cpu")) == native
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.setattr(_devices, "_CPUINFO", tmp_path / "none")
    _devices._processor_computes_in_bfloat16.cache_clear()
    assert not computes_in_bfloat16(torch.device("cpu"))
    _devices._processor_computes_in_bfloat16.cache_clear()


def test_accelerators_other_than_cuda_are_not_known_to_compute_in_bfloat16():
    check_precision("float32", torch.device("mps"))
    with pytest.raises(DeviceError, match=r"precision='bfloat16' is not possible on device='mps'"):
        check_precision("bfloat16", torch.device("mps"))
