"""Reading ahead gives the same values, also if the caller skips one or reading fails."""

from __future__ import annotations

import threading

import pytest

from convcast.verification.read_ahead import ReadAhead


@pytest.fixture
def reading():
    """A reader that notes what it read, and fails on "bad"."""
    done = []

    def read(key):
        done.append((key, threading.current_thread().name.startswith("reader")))
        if key == "bad":
            raise ValueError(key)
        return key.upper()

    reader = ReadAhead(read, ["a", "bad", "b", "c"])
    yield reader, done
    reader.close()


def test_values_come_from_the_thread_in_the_order_that_was_said(reading):
    reader, done = reading
    assert reader.take("a") == "A"
    with pytest.raises(ValueError, match="bad"):
        reader.take("bad")
    assert [reader.take("b"), reader.take("c")] == ["B", "C"]
    assert done[:2] == [("a", True), ("bad", True)]
    assert done[-1] == ("c", True)


def test_a_value_that_is_left_out_delays_nothing_but_itself(reading):
    reader, done = reading
    assert reader.take("b") == "B"
    assert reader.take("c") == "C"
    assert done[-1] == ("c", True)


def test_a_value_is_read_again_where_it_is_taken_again(reading):
    reader, _ = reading
    assert [reader.take("a"), reader.take("a"), reader.take("other"), reader.take("c")] == ["A", "A", "OTHER", "C"]
