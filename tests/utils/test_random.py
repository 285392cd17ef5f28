"""Seeded draws repeat, and leave the global generators as they were."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import in_child, needs_fork

from sktl._utils import random
from sktl._utils.random import generator, seeded_globals


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


@needs_fork
def test_a_fork_waits_while_another_thread_draws_and_never_while_its_own_does():
    held, events = threading.Event(), []

    def hold():
        with seeded_globals(0):
            held.set()
            time.sleep(0.2)
            events.append("drawn")

    def draw():
        with seeded_globals(1):
            return list(events), float(torch.rand(1))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    found, number = in_child(draw)
    thread.join()
    assert found == ["drawn"]
    with seeded_globals(1):
        assert in_child(draw) == (["drawn"], number)
        assert float(torch.rand(1)) == number
    assert draw() == (["drawn"], number)


@contextmanager
def drawing_thread():
    """A thread that draws until the block ends, as a callable of the user may that waits for a fork."""
    held, ended = threading.Event(), threading.Event()

    def hold():
        with seeded_globals(0):
            held.set()
            ended.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def draw():
    with seeded_globals(1):
        return float(torch.rand(1))


@needs_fork
def test_a_fork_goes_on_without_a_thread_that_does_not_stop_drawing(monkeypatch):
    monkeypatch.setattr(random, "_LONGEST_WAIT", 0.05)
    with drawing_thread():
        number = in_child(draw)
    assert number == draw()


@needs_fork
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_time_limit_while_a_fork_waits_leaves_no_lock_behind():
    def strike(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, strike)
    try:
        with drawing_thread():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            number = in_child(draw)
    finally:
        signal.signal(signal.SIGALRM, before)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(draw).result(30) == number


@needs_fork
def test_threads_of_a_child_draw_while_the_code_that_forked_it_still_holds_the_lock():
    def draw_in_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(draw()), daemon=True)
        thread.start()
        thread.join(5)
        return found

    with seeded_globals(0):
        found = in_child(draw_in_thread)
    assert found == [draw()]


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
