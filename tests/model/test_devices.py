"""Devices are found, or their absence is said plainly."""

from contextlib import contextmanager

import pytest
import torch

from convcast.errors import SettingsError
from convcast.model.devices import SideQueue, convolutions_in, resolve, resolve_precision, use_tensor_cores


def test_auto_is_the_gpu_where_there_is_one():
    assert resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(SettingsError, match="no device"):
        resolve(name)


def test_auto_precision_is_what_the_processor_computes_in(monkeypatch):
    cpu = torch.device("cpu")
    for supported, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda supported=supported: supported)
        assert resolve_precision("auto", cpu) == expected
        assert resolve_precision("bfloat16", cpu) == "bfloat16"
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    assert resolve_precision("auto", cpu) == "float32"


def test_tf32_is_for_convolutions_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        use_tensor_cores()
        assert torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    with convolutions_in("float32"):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_a_side_queue_on_a_cpu_works_at_once():
    queue = SideQueue(torch.device("cpu"))
    made, event = queue.put(lambda: torch.ones(2))
    queue.let_wait(event, [made])
    assert made.tolist() == [1, 1]
    assert event is None


def test_the_network_waits_on_a_gpu_for_the_work_that_it_reads_and_no_more(monkeypatch):
    """Fake streams note what is asked of them, so that the test needs no GPU."""
    notes = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def wait_stream(self, other):
            notes.append(f"{self.name} waits for all of {other.name}")

        def record_event(self):
            notes.append(f"event of {self.name}")
            return "event"

        def wait_event(self, event):
            notes.append(f"{self.name} waits for {event}")

    class Noted:
        def record_stream(self, stream):
            notes.append(f"kept for {stream.name}")

    @contextmanager
    def within(stream):
        notes.append(f"on {stream.name}")
        yield

    network = Stream("network")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: network)
    monkeypatch.setattr(torch.cuda, "stream", within)
    queue = SideQueue(torch.device("cuda"))
    made, event = queue.put(lambda: notes.append("work") or Noted())
    queue.let_wait(event, [made])
    assert notes == [
        "side waits for all of network",
        "on side",
        "work",
        "event of side",
        "network waits for event",
        "kept for network",
    ]
