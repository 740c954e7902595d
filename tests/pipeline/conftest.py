"""Fixtures of the pipeline's tests."""

import signal

import pytest

from workplace import Workplace


@pytest.fixture(autouse=True)
def own_signals():
    """Give the signal handlers back that a run took over."""
    numbers = (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.fixture
def place(tmp_path):
    """An empty working directory."""
    return Workplace(tmp_path)
