"""The measurements end within their time on cards of any speed, which a clock that is put forward stands for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from convcast.operations.speed import measure
from convcast.operations.speed.measure import Measurement
from convcast.operations.speed.run import settings

TILE, WHOLE, STEP = (
    {"phase1": 0.249, "phase2": 2.23},
    {"phase1": 7.35, "phase2": 66.0},
    {"phase1": 12.7, "phase2": 28.5},
)
"""TFLOP of an evaluation of a tile and of CONUS in one piece, and of a training step, as counted."""
BUILD = 6.0
"""Seconds in which a model and its inputs are made."""


class Card:
    """A card whose time is that of the operations alone, and the time that has passed."""

    def __init__(self, peak: float, share: float, compilation: float) -> None:
        self.peak, self.speed, self.compilation, self.now = peak, peak * share, compilation, 0.0

    def compute(self, teraflops: float) -> None:
        self.now += teraflops / self.speed

    def trainer(self, subject, device, *, compiled):
        del device
        self.now += BUILD
        left = [self.compilation] if compiled else []

        def learn(*_):
            self.now += left.pop() if left else 0.0
            self.compute(STEP[subject.settings.preset])

        return SimpleNamespace(learn=learn, objective=SimpleNamespace(lay_out=lambda layout: None))

    def forecaster(self, described, *_, **options):
        del options
        self.now += BUILD
        return SimpleNamespace(preset=described.preset, variables=range(7))

    def denoiser(self, forecaster, tiling, encode, *, guidance, periodic):
        del encode, guidance, periodic
        self.now += 1.0
        once = WHOLE[forecaster.preset] if tiling.whole else TILE[forecaster.preset] * len(tiling.tiles)

        def draw(noise, settings):
            self.compute(settings.steps * len(noise(0)) * once)

        return SimpleNamespace(draw=draw)

    def takes(self, seconds):
        def run(row, *_, **options):
            del options
            self.now += seconds
            return row.filled({"done": 1.0})

        return run


@pytest.fixture
def run(monkeypatch):
    """Measure on a card, and return the rows and the seconds that all of it took."""

    def measured(card: Card) -> tuple[list[Measurement], float]:
        for name, stand_in in {
            "_trainer": card.trainer,
            "_batch": lambda *_, **options: None,
            "Forecaster": card.forecaster,
            "TiledDenoiser": card.denoiser,
            "send": lambda noise, device: noise,
            "agreement": card.takes(10),
            "preparation": card.takes(5),
            "largest_batch": card.takes(15),
            "flops_of_step": lambda subject, side: 1e12 * STEP[subject.settings.preset],
            "flops_of_evaluation": lambda settings, shape: (
                1e12 * (TILE if shape == (256, 256) else WHOLE)[settings.preset]
            ),
            "peak": lambda clock, sizes: Measurement("peak", values={"TFLOP/s": card.peak}),
        }.items():
            monkeypatch.setattr(measure, name, stand_in)
        monkeypatch.setattr(
            measure.made_up,
            "description",
            lambda settings: SimpleNamespace(preset=settings.preset, network=lambda: None),
        )
        monkeypatch.setattr(measure.made_up, "case", lambda *_, **options: None)
        # Nothing is made that the garbage collector could free, and in a run of all tests it takes a tenth of a second.
        monkeypatch.setattr(measure, "gc", SimpleNamespace(collect=lambda: 0))
        monkeypatch.setattr(measure.torch, "randn", torch.empty)  # without values, and so without memory
        monkeypatch.setattr(measure.Clock, "wait", lambda clock: None)
        monkeypatch.setattr(measure.Clock, "peak", lambda clock, run: (run(), 10.0)[1])
        monkeypatch.setattr(measure.time, "monotonic", lambda: card.now)
        monkeypatch.setattr(measure.time, "perf_counter", lambda: card.now)
        rows = list(measure.measure(settings(small=False), torch.device("cuda", 0), seconds=480))
        return rows, card.now

    return measured


@pytest.mark.parametrize("share", [0.35, 0.15, 0.1])
@pytest.mark.parametrize("peak", [700, 165, 60])
def test_measurements_end_within_eight_minutes(run, peak, share):
    """Cards as fast as an H100, an RTX 4090 and one of 60 TFLOP/s."""
    rows, seconds = run(Card(peak, share, compilation=100))
    assert seconds <= 480
    assert rows[-1].how == "channels last, compiled"
    assert all(row.values or row.note == "no time was left" for row in rows)


def test_an_rtx_4090_has_time_for_everything(run):
    rows, seconds = run(Card(165, 0.35, compilation=90))
    assert [row.note for row in rows if not row.values] == []
    assert seconds < 480
    members = {(row.preset, row.how): row.values["members at once"] for row in rows if row.name == "member"}
    assert members == {
        ("phase1", "tiles"): 4,
        ("phase1", "one piece"): 1,
        ("phase2", "tiles"): 1,
        ("phase2", "one piece"): 1,
    }


def test_a_long_compilation_is_begun_last_and_only_once(run):
    rows, seconds = run(Card(165, 0.35, compilation=200))
    assert [row.preset for row in rows if row.note == "no time was left"] == ["phase2"]
    assert rows[-1].how == "channels last, compiled"
    assert seconds < 480
