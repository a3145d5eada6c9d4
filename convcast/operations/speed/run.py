"""One run of the measurements, from the choice of the device to the files."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convcast.errors import SettingsError
from convcast.model import devices
from convcast.operations.speed import report
from convcast.operations.speed.measure import SMALL, Measurement, measure
from convcast.settings import Settings
from convcast.settings.load import load_settings

PRESETS = ("phase1", "phase2")
SMALL_MODEL = {
    "base": 16,
    "multipliers": [1, 2],
    "blocks": 1,
    "attention": [2],
    "window": 4,
    "diffusion_steps": 50,
    "leads": [1],
}
"""A network for SMALL."""


def run(folder: Path, device: str = "auto", *, seconds: float, small: bool = False) -> Iterator[Measurement]:
    """Measure, write gpu.json and gpu.md into the folder, and yield each row as it is ready.

    Args:
        folder: Where the files go; after each row they hold all rows so far.
        device: The torch device; `auto` is the GPU.
        seconds: Time limit.
        small: Use small sizes, as for a CPU.

    Raises:
        SettingsError: There is no GPU, and `small` is not set.
    """
    chosen = devices.resolve(device)
    if chosen.type == "cpu" and not small:
        raise SettingsError(
            "there is no GPU here to measure",
            advice="install torch's CUDA build (pytorch.org), or try the measurements on the CPU with --small",
        )
    gc.freeze()  # so that the collection after each row skips the imported modules
    rows: list[Measurement] = []
    known = report.facts(chosen)
    sizes = SMALL if small else None
    for row in measure(settings(small=small), chosen, seconds=seconds, sizes=sizes):
        rows.append(row)
        report.write(folder, known, rows)
        yield row


def settings(*, small: bool) -> dict[str, Settings]:
    """Return the settings to measure by the name of their preset."""
    changed: dict[str, dict[str, Any]] = {"model": {"forcing": "none"}}  # made-up weather has no HRRR forecasts
    if small:
        changed = {"model": changed["model"] | SMALL_MODEL, "training": {"batch": 2, "draws": 2, "threads": 1}}
    return {preset: load_settings(flags=changed, preset=preset) for preset in PRESETS}
