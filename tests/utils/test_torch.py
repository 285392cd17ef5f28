"""What PyTorch keeps as state of the process is lent for a block, and given back as it was."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sktl._utils.devices import available_devices, resolve_device
from sktl._utils.kernels import describe_arithmetic, uses_onednn
from sktl._utils.random import generator, seeded_globals
from sktl._utils.threads import single_threaded, single_threaded_pool
from sktl.exceptions import DeviceError

# -------------------------------------------------------------------------------------------------------------- devices


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


@pytest.mark.parametrize(
    ("name", "same"),
    [("MKL_NUM_THREADS", True), ("KMP_INIT_AT_FORK", True), ("MKL_CBWR", False), ("ONEDNN_MAX_CPU_ISA", False)],
)
def test_settings_of_threads_are_none_of_the_arithmetic(monkeypatch, name, same):
    monkeypatch.delenv(name, raising=False)
    before = describe_arithmetic(torch.device("cpu"))
    monkeypatch.setenv(name, "1")
    assert (describe_arithmetic(torch.device("cpu")) == before) == same


# -------------------------------------------------------------------------------------------------------------- threads


def in_new_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


@pytest.fixture(autouse=True)
def restored():
    """Give the process back its numbers of threads whatever a test did."""
    here, later = torch.get_num_threads(), in_new_thread(torch.get_num_threads)
    yield
    torch.set_num_threads(here)
    in_new_thread(torch.set_num_threads, later)


@pytest.fixture(params=[(2, 2), (1, 1), (3, 3), (2, 3), (1, 3)], ids="{0[0]} here {0[1]} later".format)
def numbers(request):
    """Set the number of intra-op threads of this thread and of threads that start later, and check them at the end."""
    here, later = request.param
    torch.set_num_threads(here)
    in_new_thread(torch.set_num_threads, later)
    yield request.param
    assert torch.get_num_threads() == here
    assert in_new_thread(torch.get_num_threads) == later


def pool_block(n_workers=2):
    return single_threaded_pool(n_workers)


@pytest.mark.parametrize("block", [pool_block, single_threaded])
def test_a_block_leaves_no_trace(numbers, block):
    with block():
        pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("block", [pool_block, single_threaded])
def test_a_block_that_raises_leaves_no_trace(numbers, block, error):
    with pytest.raises(error, match="stop"), block() as pool:  # noqa: PT012
        if pool is not None:
            pool.submit(torch.get_num_threads).result()
        raise error("stop")


def test_every_thread_of_the_pool_computes_alone_and_the_caller_as_before(numbers):
    barrier = threading.Barrier(3, timeout=60)

    def work():
        barrier.wait()
        return torch.get_num_threads(), threading.current_thread().name

    with single_threaded_pool(3) as pool:
        seen = {future.result() for future in [pool.submit(work) for _ in range(3)]}
        assert len({name for _, name in seen}) == 3
        assert {n_threads for n_threads, _ in seen} == {1}
        assert torch.get_num_threads() == numbers[0]


def test_the_calling_thread_computes_alone(numbers):
    with single_threaded():
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize("inner", [pool_block, single_threaded])
@pytest.mark.parametrize("outer", [pool_block, single_threaded])
def test_nested_blocks_leave_no_trace(numbers, outer, inner):
    with outer() as pool:
        before = torch.get_num_threads()
        with inner() as other:
            for each in (pool, other):
                assert each is None or each.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == before
        assert pool is None or pool.submit(torch.get_num_threads).result() == 1


@pytest.mark.parametrize("block", [pool_block, single_threaded])
def test_a_block_in_a_thread_of_the_pool_leaves_no_trace(numbers, block):
    def work():
        with block():
            pass
        return torch.get_num_threads()

    with single_threaded_pool(1) as pool:
        assert pool.submit(work).result() == 1
        assert pool.submit(torch.get_num_threads).result() == 1


def test_a_pool_that_outlives_the_one_before_it_stays_single_threaded(numbers):
    first, second = single_threaded_pool(1), single_threaded_pool(1)
    first.__enter__()
    pool = second.__enter__()
    first.__exit__(None, None, None)
    assert pool.submit(torch.get_num_threads).result() == 1
    second.__exit__(None, None, None)


def test_a_thread_of_the_pool_stays_alone_when_another_sets_the_number_of_the_process_before_it_computes():
    with single_threaded_pool(1) as pool:
        pool.submit(time.monotonic).result()  # the thread has started, and computed nothing yet
        in_new_thread(torch.set_num_threads, 3)
        assert pool.submit(torch.get_num_threads).result() == 1


def test_concurrent_blocks_leave_no_trace(numbers):
    barrier = threading.Barrier(4, timeout=60)
    seen = []

    def work(i):
        before = torch.get_num_threads()
        for _ in range(10):
            barrier.wait()
            if i % 2:
                with single_threaded():
                    seen.append(torch.get_num_threads())
            else:
                with single_threaded_pool(2) as pool:
                    seen.extend(pool.map(lambda _: torch.get_num_threads(), range(4)))
            assert torch.get_num_threads() == before

    # The threads start, and take their number, before any block does.
    with ThreadPoolExecutor(4) as users:
        for future in [users.submit(work, i) for i in range(4)]:
            future.result()
    assert set(seen) == {1}
    assert len(seen) == 10 * (2 + 2 * 4)


def test_an_error_drops_the_work_that_has_not_started():
    started, go = threading.Event(), threading.Event()
    done = []

    def first():
        started.set()
        go.wait(60)
        done.append("first")

    with pytest.raises(ValueError, match="stop"), single_threaded_pool(1) as pool:  # noqa: PT012
        pool.submit(first)
        waiting = [pool.submit(done.append, i) for i in range(10)]
        started.wait(60)
        waiting[0].add_done_callback(lambda future: go.set())
        raise ValueError("stop")
    assert done == ["first"]
    assert all(future.cancelled() for future in waiting)


# --------------------------------------------------------------------------------------------------------- seeded draws


@pytest.mark.parametrize("error", [None, ValueError])
def test_seeded_globals_give_back_the_state_of_the_process(error):
    torch.manual_seed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    try:
        with seeded_globals(7):
            torch.rand(3)
            if error:
                raise error
    except ValueError:
        pass
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_seeded_draws_repeat_whatever_came_before():
    def draw(seed):
        with seeded_globals(seed):
            return torch.rand(8)

    torch.manual_seed(1)
    first = draw(7)
    torch.manual_seed(2)
    assert torch.equal(draw(7), first)
    assert not torch.equal(draw(8), first)


def test_seeded_blocks_may_be_nested():
    with seeded_globals(1):
        plain = torch.rand(2), torch.rand(2)
    with seeded_globals(1):
        first = torch.rand(2)
        with seeded_globals(9):
            torch.rand(5)
        assert torch.equal(first, plain[0])
        assert torch.equal(torch.rand(2), plain[1])


def test_concurrent_seeded_draws_equal_those_one_after_the_other():
    def draw(seed):
        with seeded_globals(seed):
            return torch.cat([torch.rand(1) for _ in range(50)])

    state = torch.get_rng_state()
    alone = [draw(seed) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(16)))
    assert all(map(torch.equal, alone, together))
    assert torch.equal(torch.get_rng_state(), state)


seeds = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4).map(tuple)


def draws(seed):
    return tuple(torch.randint(2**62, (2,), generator=generator(*seed)).tolist())


@given(seeds)
def test_a_generator_repeats_and_leaves_the_global_one_alone(seed):
    state = torch.get_rng_state()
    assert draws(seed) == draws(seed)
    assert torch.equal(torch.get_rng_state(), state)


@given(st.sets(seeds, min_size=2, max_size=5))
def test_generators_of_different_seeds_differ(different):
    assert len(set(map(draws, different))) == len(different)


def test_generators_differ_by_the_length_of_their_seed():
    assert len({draws(seed) for seed in [(5,), (5, 0), (5, 0, 0)]}) == 3


@pytest.mark.parametrize("channels", [3, 8, 16])
def test_the_gradient_of_a_strided_pointwise_convolution_of_few_channels_does_not_end_the_process(channels):
    program = f"""
import torch
from sktl._utils.kernels import place

for _ in range(6):
    network = place(place(torch.nn.Conv2d({channels}, 48, 1, stride=2), torch.device("cpu")), torch.device("cpu"))
    assert len(network._forward_pre_hooks) == 1
    images = torch.randn(2, {channels}, 256, 256).contiguous(memory_format=torch.channels_last)
    found = torch.autograd.grad(network(images).square().sum(), list(network.parameters()))
    columns = images[:, :, ::2, ::2].permute(0, 2, 3, 1).reshape(-1, {channels})
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
