"""What PyTorch keeps of threads is lent for a block, and given back as it was."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sktl._utils.threads import single_threaded, single_threaded_pool


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
