"""Time limits and lacks of memory are recognized, whatever they look like; other errors are left to the caller."""

import errno
import functools
import inspect
import signal
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sktl._utils.process_errors import is_from_signal_handler, raise_process_error
from sktl.exceptions import DeviceMemoryError


class TimeLimitError(Exception):
    """As in celery, rq and timeout-decorator."""


class Handlers:
    """Handlers of each kind that Python accepts."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_):
        raise self.error

    def method(self, number, frame):
        self(number, frame)

    def once(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise self.error

    def kinds(self):
        nested = functools.partial(functools.partial(self.method))
        return [self, self.method, lambda *_: self.method(*_), nested, self.once]


@pytest.fixture(autouse=True)
def _handler():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@given(st.sampled_from([TimeLimitError, TimeoutError, ValueError, OSError]), st.data())
def test_an_error_of_a_signal_handler_is_recognized_by_where_it_was_raised(kind, data):
    error = kind("of the allocated time")
    signal.signal(signal.SIGINT, data.draw(st.sampled_from(Handlers(error).kinds())))
    with pytest.raises(kind) as caught:
        signal.raise_signal(signal.SIGINT)
    assert is_from_signal_handler(caught.value)
    with pytest.raises(kind) as again:
        raise_process_error(caught.value)
    assert again.value is error


def test_an_error_in_code_that_a_signal_handler_called_is_an_ordinary_one():
    found = []

    def load():
        try:
            int("damaged")
        except ValueError as error:
            found.append(is_from_signal_handler(error))

    signal.signal(signal.SIGINT, lambda *_: load())
    signal.raise_signal(signal.SIGINT)
    assert found == [False]


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@pytest.mark.parametrize("decorate", [logged, lambda function: mock.Mock(side_effect=function)])
def test_a_function_that_shares_a_decorator_with_a_handler_raises_ordinary_errors(decorate):
    def strike(*_):
        raise TimeLimitError

    def read(path):
        raise ValueError("damaged")

    signal.signal(signal.SIGINT, decorate(strike))
    with pytest.raises(TimeLimitError) as late:
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(ValueError, match="damaged") as damaged:
        decorate(read)("x.png")
    assert is_from_signal_handler(late.value)
    assert not is_from_signal_handler(damaged.value)


def test_a_function_that_looks_up_its_caller_raises_ordinary_errors():
    def read(path):
        caller = inspect.currentframe().f_back
        raise ValueError(f"damaged, read by {caller.f_code.co_name}")

    with pytest.raises(ValueError, match="damaged") as damaged:
        read("x.png")
    assert not is_from_signal_handler(damaged.value)


@pytest.mark.parametrize("error", [ValueError("damaged"), OSError(errno.EIO, "I/O"), TimeLimitError()])
def test_other_errors_are_left_to_the_caller(error):
    raise_process_error(error)


@pytest.mark.parametrize("error", [MemoryError("of the user's"), RuntimeError("can't start new thread")])
def test_lacks_that_say_what_is_missing_are_raised_unchanged(error):
    with pytest.raises(type(error)) as caught:
        raise_process_error(error)
    assert caught.value is error


def _allocate():
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOMEM, "Cannot allocate memory"), OSError("out of memory error"), _allocate]
)
def test_a_lack_of_memory_of_any_type_is_a_memory_error(error):
    if error is _allocate:
        with pytest.raises(RuntimeError) as caught:
            _allocate()
        error = caught.value
    with pytest.raises(DeviceMemoryError, match=r"not enough memory: .*memory.*\. Free memory, or allow"):
        raise_process_error(error)


def test_a_full_accelerator_is_left_to_the_caller_who_processes_fewer_images():
    raise_process_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. See Memory Management"))
