from __future__ import annotations

import threading
from itertools import chain

import numpy as np
import pytest
import torch

from convcast.ensemble.background import NoiseAhead, Writer


def draw(member, step):
    return np.full((2, 3), 10 * member + step, np.float32)


def test_noise_drawn_ahead_is_the_noise_of_each_member():
    noise = NoiseAhead(2)
    noise.expect(draw, (3, 1), lead=1)
    noise.expect(draw, (5,), lead=1)
    taken = noise.take(draw, (3, 1), 1, 0)
    assert torch.equal(taken, torch.tensor([30.0, 10.0])[:, None, None].expand(2, 2, 3))
    assert noise.take(draw, (5,), 1, 2)[0, 0, 0] == 52
    noise.close()


def test_noise_is_drawn_before_it_is_asked_for():
    begun = threading.Event()

    def wait(member, step):
        begun.set()
        return draw(member, step)

    noise = NoiseAhead(1)
    noise.expect(wait, (0,), lead=1)
    assert begun.wait(10)
    noise.close()


def test_writes_are_done_in_order_beside_the_caller():
    written, others = [], set()

    def write(number):
        written.append(number)
        others.add(threading.current_thread())
        return number

    with Writer(waiting=2) as writer:
        returned = [done for number in range(6) for done in writer.submit(lambda number=number: write(number))]
        assert len(returned) >= 4  # at most two wait
        returned += writer.rest()
    assert written == returned == list(range(6))
    assert len(others) == 1
    assert threading.current_thread() not in others


def test_a_failed_write_is_the_caller_s():
    def fail():
        raise OSError("no space")

    with Writer(waiting=1) as writer, pytest.raises(OSError, match="no space"):
        list(chain(writer.submit(fail), writer.rest()))
