"""Within a block torch and NumPy are as in a new process, and afterwards as they were."""

import contextlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interruptions import InterruptionError, interrupted
from processes import Child, in_child, needs_fork

from sktl._utils.settings_isolation import Loan, isolated


def state():
    """Return all that a block sets."""
    onednn = torch.backends.mkldnn
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_anomaly_enabled(),
        torch.is_anomaly_check_nan_enabled(), onednn.matmul.fp32_precision, onednn.conv.fp32_precision,
        bool(np.float32(1e-40) * np.float32(1) == 0), tuple(np.geterr().items()),
        torch._C._autograd._saved_tensors_hooks_is_enabled(), len(torch.nn.modules.module._global_backward_hooks),
        torch.get_num_threads(),
    )  # fmt: skip


ORDINARY = {
    0: torch.float32, 1: torch.device("cpu"), 2: False, 3: True, 4: False, 5: False, 7: "ieee", 8: "ieee", 9: False,
    10: (("divide", "warn"), ("over", "warn"), ("under", "ignore"), ("invalid", "warn")),
    11: True, 12: 0,
}  # fmt: skip


def _precision(name):
    setting = torch.backends if name is None else getattr(torch.backends.mkldnn, name)

    @contextlib.contextmanager
    def switched():
        setting.fp32_precision = "bf16"
        try:
            yield
        finally:
            setting.fp32_precision = "none"

    return switched()


@contextlib.contextmanager
def _default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _flushed():
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def _backward_hook():
    hook = torch.nn.modules.module.register_module_full_backward_hook(lambda *call: None)
    try:
        yield
    finally:
        hook.remove()


SWITCHES = {
    "default dtype": _default_dtype,
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "precision of products": lambda: _precision("matmul"),
    "precision of convolutions": lambda: _precision("conv"),
    "precision of all": lambda: _precision(None),
    "saved tensors hooks": lambda: torch.autograd.graph.disable_saved_tensors_hooks("forbidden"),
    "backward hooks": _backward_hook,
    "denormals": _flushed,
    "errors": lambda: np.errstate(all="raise"),
}


@given(st.lists(st.sampled_from(sorted(SWITCHES)), unique=True), st.booleans(), st.booleans())
def test_a_block_is_ordinary_whatever_was_switched_and_leaves_no_trace(names, raises, nested):
    before = state()
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(SWITCHES[name]())
        switched = state()
        with contextlib.suppress(KeyboardInterrupt), isolated(), isolated() if nested else contextlib.nullcontext():
            assert {i: value for i, value in enumerate(state()) if i in ORDINARY} == ORDINARY
            weight = torch.ones(2, requires_grad=True)
            (weight * torch.ones(2)).sum().backward()  # tensors made in inference mode have no gradients
            assert weight.grad.dtype == torch.float32
            if raises:
                raise KeyboardInterrupt
        assert state() == switched
    assert state() == before


def test_concurrent_blocks_leave_no_trace():
    before, failures = state(), []

    def work():
        for _ in range(200):
            with isolated():
                if torch.get_default_dtype() != torch.float32 or torch.is_anomaly_enabled():
                    failures.append("switched")

    with _default_dtype(), torch.autograd.set_detect_anomaly(True):
        switched = state()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state() == switched
    assert state() == before
    assert not failures


def test_a_decorated_function_is_isolated_each_time():
    @isolated()
    def new_tensor():
        return torch.ones(1)

    with _default_dtype(), torch.inference_mode():
        assert [(t.dtype, t.is_inference()) for t in (new_tensor(), new_tensor())] == [(torch.float32, False)] * 2


def test_a_loan_is_taken_once_and_given_back_by_the_last_block():
    events = []
    loan = Loan(lambda: len(events), lambda saved: events.append("taken"), lambda saved: events.append(saved))
    with loan.block(), loan.block():
        with loan.block():
            pass
        assert events == ["taken"]
    assert events == ["taken", 0]
    with pytest.raises(KeyError), loan.block():
        raise KeyError
    assert events == ["taken", 0, "taken", 2]


def test_an_interruption_at_any_place_gives_settings_back():
    def block():
        with isolated():
            pass

    with _default_dtype():
        for place in range(1, interrupted(block, 0) + 1):
            with contextlib.suppress(InterruptionError):
                interrupted(block, place)
            assert torch.get_default_dtype() == torch.float64, place


def test_what_another_thread_sets_meanwhile_stays():
    with _default_dtype():
        with isolated():
            torch.set_default_dtype(torch.float16)
        assert torch.get_default_dtype() == torch.float16


def test_precision_that_was_inherited_is_inherited_afterwards():
    convolutions = torch.backends.mkldnn.conv
    with _precision(None), isolated():
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == torch.backends.fp32_precision
    with _precision(None):
        assert convolutions.fp32_precision == "bf16"


@needs_fork
def test_a_process_forked_while_another_thread_is_in_a_block_isolates_and_gives_back():
    within, done = threading.Event(), threading.Event()

    def hold():
        with isolated():
            within.set()
            done.wait()

    def dtypes():
        signal.alarm(60)
        given_back = torch.get_default_dtype()
        with isolated():
            return given_back, torch.get_default_dtype()

    with _default_dtype():
        thread = threading.Thread(target=hold)
        thread.start()
        within.wait()
        child = Child(dtypes)
        try:
            assert child.result() == (torch.float64, torch.float32)
        finally:
            done.set()
            thread.join()


@pytest.mark.thorough
def test_a_process_that_imports_the_library_with_flushed_denormals_keeps_flushing_and_no_other_begins():
    program = """
import torch
torch.set_flush_denormal(True)
from sktl._utils.settings_isolation import _flushes_denormals, isolated
assert _flushes_denormals()
with isolated():
    assert not _flushes_denormals()
assert _flushes_denormals()
torch.set_flush_denormal(False)
with isolated():
    pass
assert not _flushes_denormals()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@needs_fork
def test_a_forked_child_computes_with_one_thread_within_a_block_and_as_before_outside():
    def numbers():
        with isolated():
            within = torch.get_num_threads()
        return within, torch.get_num_threads()

    with isolated():
        assert torch.get_num_threads() == numbers()[1]  # not in a process that was not forked
    assert in_child(numbers) == (1, torch.get_num_threads())
