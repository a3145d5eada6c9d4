from __future__ import annotations

from convcast.metrics.spatial import Scales


def test_scales_are_odd_numbers_of_cells_that_fit():
    assert Scales.of((9, 27, 81), (64, 64), periodic=True).widths == (3, 9, 27)
    assert Scales.of((9, 27, 81), (41, 78), periodic=False).widths == (3, 9)
    assert Scales.of((1, 3, 4), (64, 64), periodic=False).widths == (1,)
