"""Work beside a sampling: what it gives and raises, and that nothing of it goes on when nobody waits for it."""

from __future__ import annotations

import threading
import time

import pytest
import torch


@pytest.fixture
def beside(host):
    from camouflage.comfy.beside import beside
    return beside


def going_on(pause):
    """A job without an end of its own."""
    for _ in range(3000):
        pause()
        time.sleep(0.01)


def test_it_runs_in_a_thread_of_its_own_as_the_hosts_does(beside):
    with beside(lambda pause: (threading.current_thread(), torch.is_inference_mode_enabled())) as job:
        thread, inference = job.result()
    assert thread is not threading.current_thread() and inference and not thread.is_alive()


def test_what_it_raises_is_raised_where_somebody_asks(beside):
    def failing(pause):
        asked.wait(30)
        raise ValueError("no")

    asked = threading.Event()
    with beside(failing) as job:
        job.check()  # still running
        asked.set()
        with pytest.raises(ValueError, match="no"):
            job.result()
        with pytest.raises(ValueError, match="no"):
            job.check()


def test_it_ends_with_the_block(beside):
    before = threading.active_count()
    with pytest.raises(KeyError), beside(going_on):
        raise KeyError
    with beside(going_on) as job:
        pass
    assert threading.active_count() == before
    with pytest.raises(Exception) as left:
        job.check()
    assert left.typename == "_Left"


def test_cancel_ends_the_waiting(beside, host):
    import comfy.model_management as mm

    with pytest.raises(mm.InterruptProcessingException), beside(going_on) as job:
        mm.interrupt_current_processing()
        job.result()
